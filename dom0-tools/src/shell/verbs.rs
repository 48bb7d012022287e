//! The shell's commands: one entry in [`VERBS`] and one function each.

use alloc::format;
use alloc::rc::Rc;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::words::{self, Arguments};
use super::{Leave, Mode, Platform, Shell, Terminal};
use crate::build::Progress;
use crate::config;
use crate::hyper::{DomId, domain};
use crate::ops;

/// Bytes of a file from which on reading it is worth a line.
const LARGE_FILE: u64 = 1 << 20;
/// Pages from which on giving a domain its memory is worth a line.
const LARGE_MEMORY: u64 = 512 << 8;
const SECOND_NS: u64 = 1_000_000_000;

type Verb<P> = fn(&mut Shell<P>, Arguments) -> Result<Mode, String>;

/// A command: its name, its usage, one line about it.
pub(super) struct Entry<P: Platform> {
    pub(super) name: &'static str,
    pub(super) usage: &'static str,
    pub(super) about: &'static str,
    verb: Verb<P>,
}

impl<P: Platform> Shell<P> {
    /// All commands, in the order of `help`.
    pub(super) const VERBS: &'static [Entry<P>] = &[
        entry(
            "help",
            "help [COMMAND]",
            "this list, or a command's usage",
            Self::help,
        ),
        entry(
            "list",
            "list [--json] [DOMAIN]",
            "the domains: memory, vCPUs, state, time",
            Self::list,
        ),
        entry(
            "info",
            "info [--json]",
            "the machine and the hypervisor",
            Self::info,
        ),
        entry(
            "create",
            "create FILE [-c] [--wait] [-p] [-n] [KEY=VALUE...]",
            "start a domain; -c enters its console, --wait shows it until it ends, -p leaves it paused, -n only checks",
            Self::create,
        ),
        entry(
            "destroy",
            "destroy DOMAIN",
            "end a domain at once",
            Self::destroy,
        ),
        entry(
            "pause",
            "pause DOMAIN",
            "keep a domain from running",
            Self::pause,
        ),
        entry(
            "unpause",
            "unpause DOMAIN",
            "let a paused domain run",
            Self::unpause,
        ),
        entry(
            "shutdown",
            "shutdown [-w] DOMAIN|-a",
            "ask a domain, or with -a all, to power off; -w waits for the end",
            Self::shutdown,
        ),
        entry(
            "reboot",
            "reboot [-w] DOMAIN|-a",
            "ask a domain, or with -a all, to start again; -w waits for the end",
            Self::reboot,
        ),
        entry(
            "console",
            "console DOMAIN",
            "enter a domain's console; Ctrl-] leaves it",
            Self::console,
        ),
        entry(
            "wait",
            "wait DOMAIN [TEXT] [--timeout=SECONDS]",
            "wait until a domain has ended, or printed a text",
            Self::wait,
        ),
        entry(
            "vcpu-list",
            "vcpu-list [--json] [DOMAIN]",
            "the vCPUs: where they run, how long they ran",
            Self::vcpu_list,
        ),
        entry(
            "vcpu-pin",
            "vcpu-pin DOMAIN VCPU|all CPUS|all",
            "let vCPUs run on these CPUs alone: 0-3,5,^1",
            Self::vcpu_pin,
        ),
        entry(
            "top",
            "top [--json] [-1] [--delay=SECONDS]",
            "who uses the CPUs; q leaves it, -1 shows it once",
            Self::top,
        ),
        entry(
            "dmesg",
            "dmesg [-c]",
            "the hypervisor's log; -c empties it",
            Self::dmesg,
        ),
        entry(
            "uptime",
            "uptime [--json] [DOMAIN]",
            "how long machine and domains have run",
            Self::uptime,
        ),
        entry(
            "version",
            "version [--json]",
            "the hypervisor's version",
            Self::version,
        ),
        entry(
            "ls",
            "ls [--json]",
            "the files: kernels and configurations",
            Self::ls,
        ),
        entry("cat", "cat FILE", "a file's text", Self::cat),
        entry("sleep", "sleep SECONDS", "wait a while", Self::sleep),
        entry(
            "history",
            "history",
            "the commands typed so far",
            Self::history,
        ),
        entry(
            "poweroff",
            "poweroff",
            "switch the machine off",
            Self::poweroff,
        ),
        entry(
            "restart",
            "restart",
            "start the machine again",
            Self::restart,
        ),
    ];

    /// Runs a line; the mode says what it waits for.
    pub(super) fn command(&mut self, line: &str) -> Result<Mode, String> {
        let words = words::split(line)?;
        let Some((name, rest)) = words.split_first() else {
            return Ok(Mode::Prompt);
        };
        match Self::VERBS.iter().find(|entry| entry.name == name) {
            Some(entry) => (entry.verb)(self, Arguments::new(rest)),
            None => Err(format!("{name}: no such command; `help` lists them")),
        }
    }

    /// Completes the word before the cursor: a command, then files and domains.
    pub(super) fn complete(&mut self) {
        let before = self.editor.before_cursor();
        let (earlier, word) = match before.rfind(' ') {
            Some(at) => before.split_at(at + 1),
            None => ("", before.as_str()),
        };
        let names: Vec<String> = if earlier.trim().is_empty() {
            Self::VERBS
                .iter()
                .map(|entry| entry.name.to_string())
                .collect()
        } else {
            let files = self
                .platform
                .files()
                .list()
                .into_iter()
                .map(|(name, _)| name);
            files
                .chain(
                    self.guests
                        .all()
                        .iter()
                        .map(|guest| guest.config.name.clone()),
                )
                .collect()
        };
        let fitting: Vec<&String> = names.iter().filter(|name| name.starts_with(word)).collect();
        let mut echo = String::new();
        match fitting.as_slice() {
            [] => {}
            [only] => {
                let rest = only.get(word.len()..).unwrap_or_default();
                self.editor.insert(&format!("{rest} "), &mut echo);
            }
            [first, others @ ..] => {
                let same = |at: usize| {
                    others
                        .iter()
                        .all(|other| other.get(..at) == first.get(..at))
                };
                let common = (word.len()..=first.len())
                    .rev()
                    .find(|&at| same(at))
                    .unwrap_or(word.len());
                if common > word.len() {
                    self.editor
                        .insert(first.get(word.len()..common).unwrap_or_default(), &mut echo);
                } else {
                    let list: Vec<&str> = fitting.iter().map(|name| name.as_str()).collect();
                    echo = format!("\r\n{}\r\n", list.join("  "));
                    self.editor.draw(&mut echo);
                }
            }
        }
        self.terminal.print(echo.as_bytes());
    }

    pub(super) fn usage(name: &str) -> &'static str {
        Self::VERBS
            .iter()
            .find(|entry| entry.name == name)
            .map_or("", |entry| entry.usage)
    }

    /// The domain that a word names.
    pub(super) fn domain(&self, word: &str) -> Result<DomId, String> {
        self.guests
            .find(word)
            .ok_or_else(|| format!("{word}: there is no domain of that name or number"))
    }

    /// A domain other than this one.
    pub(super) fn other_domain(&self, word: &str) -> Result<DomId, String> {
        match self.domain(word)? {
            DomId::ZERO => {
                Err("Domain-0 is this shell's own domain; `poweroff` ends it".to_string())
            }
            id => Ok(id),
        }
    }

    fn create(&mut self, mut arguments: Arguments) -> Result<Mode, String> {
        let console = arguments.option(&["-c", "--console"]);
        let wait = arguments.option(&["-w", "--wait"]);
        let paused = arguments.option(&["-p", "--paused"]);
        let check_only = arguments.option(&["-n", "--dryrun"]);
        arguments.check(Self::usage("create"), 1..=64)?;
        let config = self.configuration(&arguments)?;
        if check_only {
            self.print(&format!("{config:#?}\n"));
            return Ok(Mode::Prompt);
        }
        let id = self.start_domain(config)?;
        if !paused {
            domain::unpause(&mut self.platform, id).map_err(|error| error.to_string())?;
        }
        match (console, wait) {
            (true, _) => Ok(Mode::Attached(id)),
            (false, true) => Ok(Mode::Waiting {
                guest: id,
                shown: true,
                text: None,
                until_ns: None,
            }),
            (false, false) => Ok(Mode::Prompt),
        }
    }

    /// Creates a domain, telling about long work.
    pub(super) fn start_domain(&mut self, config: config::DomainConfig) -> Result<DomId, String> {
        let terminal = self.platform.terminal();
        let mut lines = Lines {
            name: config.name.clone(),
            terminal,
        };
        self.guests.create(&mut self.platform, config, &mut lines)
    }

    /// Reads a configuration with the settings behind its name.
    fn configuration(&mut self, arguments: &Arguments) -> Result<config::DomainConfig, String> {
        let (file, settings) = (
            arguments.get(0),
            arguments.plain.get(1..).unwrap_or_default(),
        );
        let settings = settings
            .iter()
            .map(|word| words::setting(word).ok_or_else(|| format!("{word}: not KEY=VALUE")))
            .collect::<Result<Vec<_>, _>>()?;
        let text = self.platform.files().read(file)?.into_owned();
        let (warnings, read) = match config::parse(file, &text, &settings) {
            Ok(parsed) => (parsed.warnings, Ok((parsed.config, parsed.files))),
            Err(error) => (error.warnings.clone(), Err(error.to_string())),
        };
        for warning in &warnings {
            self.print(&format!("warning: {warning}\n"));
        }
        let (config, named) = read?;
        let files = self.platform.files();
        for file in named {
            let found = files.read(&file.name);
            found.map_err(|error| format!("{}: {error}", file.by))?;
        }
        Ok(config)
    }

    fn destroy(&mut self, arguments: Arguments) -> Result<Mode, String> {
        arguments.check(Self::usage("destroy"), 1..=1)?;
        let id = self.other_domain(arguments.get(0))?;
        self.guests.destroy(&mut self.platform, id)?;
        Ok(Mode::Prompt)
    }

    fn pause(&mut self, arguments: Arguments) -> Result<Mode, String> {
        arguments.check(Self::usage("pause"), 1..=1)?;
        let id = self.other_domain(arguments.get(0))?;
        domain::pause(&mut self.platform, id).map_err(|error| error.to_string())?;
        Ok(Mode::Prompt)
    }

    fn unpause(&mut self, arguments: Arguments) -> Result<Mode, String> {
        arguments.check(Self::usage("unpause"), 1..=1)?;
        let id = self.other_domain(arguments.get(0))?;
        ops::unpause(&mut self.platform, id, arguments.get(0))?;
        Ok(Mode::Prompt)
    }

    fn vcpu_pin(&mut self, arguments: Arguments) -> Result<Mode, String> {
        arguments.check(Self::usage("vcpu-pin"), 3..=3)?;
        let id = self.domain(arguments.get(0))?;
        ops::pin(&mut self.platform, id, arguments.get(1), arguments.get(2))?;
        Ok(Mode::Prompt)
    }

    fn console(&mut self, arguments: Arguments) -> Result<Mode, String> {
        arguments.check(Self::usage("console"), 1..=1)?;
        let word = arguments.get(0);
        match self.guests.find(word) {
            Some(DomId::ZERO) => Err("Domain-0's console is this one".to_string()),
            Some(id) => Ok(Mode::Attached(id)),
            None => {
                let text = self.guests.last_words(word);
                let text = text
                    .ok_or_else(|| format!("{word}: there is no domain of that name or number"))?;
                self.terminal.print(&text);
                if text.last().is_some_and(|&last| last != b'\n') {
                    self.print("\n");
                }
                self.print(&format!("[{word} has ended; this is what it printed]\n"));
                Ok(Mode::Prompt)
            }
        }
    }

    fn wait(&mut self, mut arguments: Arguments) -> Result<Mode, String> {
        let timeout = arguments.number("--timeout")?;
        arguments.check(Self::usage("wait"), 1..=2)?;
        let until_ns =
            timeout.map(|seconds| self.platform.now_ns() + seconds.saturating_mul(SECOND_NS));
        let text = arguments.plain.get(1).map(|text| text.clone().into_bytes());
        let word = arguments.get(0);
        match (self.guests.find(word), &text) {
            (Some(DomId::ZERO), _) => Err("Domain-0 is this shell's own domain".to_string()),
            (Some(guest), _) => Ok(Mode::Waiting {
                guest,
                shown: false,
                text,
                until_ns,
            }),
            (None, text) => match (self.guests.last_words(word), text) {
                (None, _) => Err(format!("{word}: there is no domain of that name or number")),
                (Some(_), None) => Ok(Mode::Prompt),
                (Some(said), Some(text))
                    if said.windows(text.len().max(1)).any(|part| part == text) =>
                {
                    Ok(Mode::Prompt)
                }
                (Some(_), Some(_)) => Err(format!("{word} has ended without these words")),
            },
        }
    }

    fn sleep(&mut self, arguments: Arguments) -> Result<Mode, String> {
        arguments.check(Self::usage("sleep"), 1..=1)?;
        let seconds: u64 = arguments
            .get(0)
            .parse()
            .map_err(|_| "sleep wants a number of seconds".to_string())?;
        Ok(Mode::Sleeping {
            until_ns: self
                .platform
                .now_ns()
                .saturating_add(seconds.saturating_mul(SECOND_NS)),
        })
    }

    fn poweroff(&mut self, arguments: Arguments) -> Result<Mode, String> {
        arguments.check(Self::usage("poweroff"), 0..=0)?;
        self.platform.leave(Leave::PowerOff);
        Err("the machine could not be switched off".to_string())
    }

    fn restart(&mut self, arguments: Arguments) -> Result<Mode, String> {
        arguments.check(Self::usage("restart"), 0..=0)?;
        self.platform.leave(Leave::Reboot);
        Err("the machine could not be started again".to_string())
    }
}

const fn entry<P: Platform>(
    name: &'static str,
    usage: &'static str,
    about: &'static str,
    verb: Verb<P>,
) -> Entry<P> {
    Entry {
        name,
        usage,
        about,
        verb,
    }
}

/// Prints a line about each long work.
struct Lines {
    name: String,
    terminal: Rc<dyn Terminal>,
}

impl Progress for Lines {
    fn unpacking(&mut self, file: &str, bytes: u64) {
        if bytes >= LARGE_FILE {
            let line = format!("{}: reading {file} ({} MiB)\r\n", self.name, bytes >> 20);
            self.terminal.print(line.as_bytes());
        }
    }

    fn memory(&mut self, done: u64, all: u64) {
        if done == 0 && all >= LARGE_MEMORY {
            let line = format!("{}: {} MiB of memory\r\n", self.name, all >> 8);
            self.terminal.print(line.as_bytes());
        }
    }
}
