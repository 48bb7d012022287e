//! The shell's commands: one entry in [`VERBS`] and one function each.

use alloc::format;
use alloc::rc::Rc;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::words::{self, Arguments};
use super::{Leave, Mode, Platform, Shell, Terminal};
use crate::build::Progress;
use crate::config;
use crate::hyper::machine::{self, Clear};
use crate::hyper::{DomId, domain};
use crate::ops::view;

/// Bytes of console output from which on `cat` refuses.
const MAX_CAT: u64 = 64 << 10;
/// Bytes of a file from which on reading it is worth a line.
const LARGE_FILE: u64 = 1 << 20;
/// Pages from which on giving a domain its memory is worth a line.
const LARGE_MEMORY: u64 = 512 << 8;
const SECOND_NS: u64 = 1_000_000_000;

type Verb<P> = fn(&mut Shell<P>, Arguments) -> Result<Mode, String>;

/// A command: its name, its usage, one line about it.
struct Entry<P: Platform> {
    name: &'static str,
    usage: &'static str,
    about: &'static str,
    verb: Verb<P>,
}

impl<P: Platform> Shell<P> {
    /// All commands, in the order of `help`.
    const VERBS: &'static [Entry<P>] = &[
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
            "shutdown DOMAIN",
            "ask a domain to power off",
            Self::shutdown,
        ),
        entry(
            "reboot",
            "reboot DOMAIN",
            "ask a domain to start again",
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
            "uptime",
            "how long machine and domains have run",
            Self::uptime,
        ),
        entry(
            "version",
            "version",
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

    fn usage(name: &str) -> &'static str {
        Self::VERBS
            .iter()
            .find(|entry| entry.name == name)
            .map_or("", |entry| entry.usage)
    }

    /// The domain that a word names.
    fn domain(&self, word: &str) -> Result<DomId, String> {
        self.guests
            .find(word)
            .ok_or_else(|| format!("{word}: there is no domain of that name or number"))
    }

    /// A domain other than this one.
    fn other_domain(&self, word: &str) -> Result<DomId, String> {
        match self.domain(word)? {
            DomId::ZERO => {
                Err("Domain-0 is this shell's own domain; `poweroff` ends it".to_string())
            }
            id => Ok(id),
        }
    }

    fn help(&mut self, arguments: Arguments) -> Result<Mode, String> {
        arguments.check(Self::usage("help"), 0..=1)?;
        if let [name] = arguments.plain.as_slice() {
            let entry = Self::VERBS.iter().find(|entry| entry.name == name);
            let entry = entry.ok_or_else(|| format!("{name}: no such command"))?;
            self.print(&format!("usage: {}\n{}\n", entry.usage, entry.about));
            return Ok(Mode::Prompt);
        }
        let mut text = String::new();
        for entry in Self::VERBS {
            let first = entry.about.split(';').next().unwrap_or_default();
            text.push_str(&format!("  {:<10} {first}\n", entry.name));
        }
        text.push_str("`help COMMAND` tells more. Ctrl-] leaves a domain's console.\n");
        self.print(&text);
        Ok(Mode::Prompt)
    }

    fn list(&mut self, mut arguments: Arguments) -> Result<Mode, String> {
        let json = arguments.option(&["--json", "-j"]);
        arguments.check(Self::usage("list"), 0..=1)?;
        let mut rows =
            view::domains(&mut self.platform, &self.guests).map_err(|error| error.to_string())?;
        if let [word] = arguments.plain.as_slice() {
            let id = self.domain(word)?;
            rows.retain(|row| row.domid == id.0);
        }
        self.print(&if json {
            view::json(&rows)
        } else {
            view::domain_table(&rows)
        });
        Ok(Mode::Prompt)
    }

    fn info(&mut self, mut arguments: Arguments) -> Result<Mode, String> {
        let json = arguments.option(&["--json", "-j"]);
        arguments.check(Self::usage("info"), 0..=0)?;
        let cpu = self.platform.hardware_virtualisation();
        let host = view::host(&mut self.platform, &cpu).map_err(|error| error.to_string())?;
        self.print(&if json {
            view::json(&host)
        } else {
            view::host_text(&host)
        });
        Ok(Mode::Prompt)
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
        let files = self.platform.files();
        let mut text = files.read(file)?.into_owned();
        for word in settings {
            let line = words::setting(word).ok_or_else(|| format!("{word}: not KEY=VALUE"))?;
            text.extend_from_slice(b"\n");
            text.extend_from_slice(line.as_bytes());
        }
        let parsed = config::parse(file, &text).map_err(|error| error.to_string())?;
        for warning in &parsed.warnings {
            self.print(&format!("warning: {warning}\n"));
        }
        Ok(parsed.config)
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
        domain::unpause(&mut self.platform, id).map_err(|error| error.to_string())?;
        Ok(Mode::Prompt)
    }

    fn shutdown(&mut self, arguments: Arguments) -> Result<Mode, String> {
        arguments.check(Self::usage("shutdown"), 1..=1)?;
        self.ask(arguments.get(0))
    }

    fn reboot(&mut self, arguments: Arguments) -> Result<Mode, String> {
        arguments.check(Self::usage("reboot"), 1..=1)?;
        self.ask(arguments.get(0))
    }

    /// A PV domain is asked through Xenstore (`control/shutdown`), which is not there.
    fn ask(&mut self, word: &str) -> Result<Mode, String> {
        self.other_domain(word)?;
        Err(format!(
            "{word}: no Xenstore serves this domain, so it can't be asked; use its own command in `console {word}`, or `destroy {word}`"
        ))
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

    fn vcpu_list(&mut self, mut arguments: Arguments) -> Result<Mode, String> {
        let json = arguments.option(&["--json", "-j"]);
        arguments.check(Self::usage("vcpu-list"), 0..=1)?;
        let only = arguments
            .plain
            .first()
            .map(|word| self.domain(word))
            .transpose()?;
        let rows = view::vcpus(&mut self.platform, &self.guests, only)
            .map_err(|error| error.to_string())?;
        self.print(&if json {
            view::json(&rows)
        } else {
            view::vcpu_table(&rows)
        });
        Ok(Mode::Prompt)
    }

    fn top(&mut self, mut arguments: Arguments) -> Result<Mode, String> {
        let json = arguments.option(&["--json", "-j"]);
        let once = arguments.option(&["-1"]) || self.script.is_some() || json;
        let delay_ns = arguments.number("--delay")?.unwrap_or(2).clamp(1, 3600) * SECOND_NS;
        arguments.check(Self::usage("top"), 0..=0)?;
        let before = domain::list(&mut self.platform).map_err(|error| error.to_string())?;
        let then_ns = self.platform.now_ns();
        // The first picture after a short while.
        let next_ns = then_ns + delay_ns.min(SECOND_NS);
        Ok(Mode::Top {
            before,
            then_ns,
            next_ns,
            delay_ns,
            left: once.then_some(1),
            json,
        })
    }

    /// Shows the next picture of `top`.
    pub(super) fn top_again(&mut self) {
        let Mode::Top {
            before,
            then_ns,
            delay_ns,
            left,
            json,
            ..
        } = self.mode.clone()
        else {
            return;
        };
        let now_ns = self.platform.now_ns();
        let infos = match domain::list(&mut self.platform) {
            Ok(infos) => infos,
            Err(error) => return self.finish(Err(error.to_string())),
        };
        let rows = view::top(
            &before,
            &infos,
            now_ns.saturating_sub(then_ns),
            &self.guests,
        );
        let picture = if json {
            view::json(&rows)
        } else {
            view::top_table(&rows)
        };
        if left.is_none() {
            self.print("\x1b[2J\x1b[H");
        }
        self.print(&picture);
        let left = left.map(|left| left - 1);
        if left == Some(0) {
            return self.finish(Ok(()));
        }
        self.mode = Mode::Top {
            before: infos,
            then_ns: now_ns,
            next_ns: now_ns + delay_ns,
            delay_ns,
            left,
            json,
        };
    }

    fn dmesg(&mut self, mut arguments: Arguments) -> Result<Mode, String> {
        let clear = if arguments.option(&["-c", "--clear"]) {
            Clear::Yes
        } else {
            Clear::No
        };
        arguments.check(Self::usage("dmesg"), 0..=0)?;
        let log = machine::log(&mut self.platform, clear).map_err(|error| error.to_string())?;
        self.print(&String::from_utf8_lossy(&log));
        Ok(Mode::Prompt)
    }

    fn uptime(&mut self, arguments: Arguments) -> Result<Mode, String> {
        arguments.check(Self::usage("uptime"), 0..=0)?;
        let now = self.platform.now_ns();
        let mut text = format!("{:<32} {:>4}  {}\n", "Name", "ID", "Uptime");
        text.push_str(&format!(
            "{:<32} {:>4}  {}\n",
            "Domain-0",
            0,
            view::duration(now)
        ));
        for guest in self.guests.all() {
            let (name, id) = (&guest.config.name, guest.id.0);
            text.push_str(&format!(
                "{name:<32} {id:>4}  {}\n",
                view::duration(now.saturating_sub(guest.started_ns))
            ));
        }
        self.print(&text);
        Ok(Mode::Prompt)
    }

    fn version(&mut self, arguments: Arguments) -> Result<Mode, String> {
        arguments.check(Self::usage("version"), 0..=0)?;
        let (major, minor, extra) =
            machine::version(&mut self.platform).map_err(|error| error.to_string())?;
        self.print(&format!(
            "xenlike {}, Xen ABI {major}.{minor}{extra}\n",
            env!("CARGO_PKG_VERSION")
        ));
        Ok(Mode::Prompt)
    }

    fn ls(&mut self, mut arguments: Arguments) -> Result<Mode, String> {
        let json = arguments.option(&["--json", "-j"]);
        arguments.check(Self::usage("ls"), 0..=0)?;
        let mut files = self.platform.files().list();
        files.sort();
        if json {
            self.print(&view::json(&files));
            return Ok(Mode::Prompt);
        }
        let text: String = files
            .iter()
            .map(|(name, bytes)| format!("{bytes:>10}  {name}\n"))
            .collect();
        self.print(&text);
        Ok(Mode::Prompt)
    }

    fn cat(&mut self, arguments: Arguments) -> Result<Mode, String> {
        arguments.check(Self::usage("cat"), 1..=1)?;
        let files = self.platform.files();
        let bytes = files.read(arguments.get(0))?;
        if bytes.len() as u64 > MAX_CAT || bytes.contains(&0) {
            return Err(format!("{}: not a short text", arguments.get(0)));
        }
        let mut text = String::from_utf8_lossy(&bytes)
            .replace(|c: char| c.is_control() && c != '\n' && c != '\t', "");
        if !text.ends_with('\n') {
            text.push('\n');
        }
        self.print(&text);
        Ok(Mode::Prompt)
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

    fn history(&mut self, arguments: Arguments) -> Result<Mode, String> {
        arguments.check(Self::usage("history"), 0..=0)?;
        let lines = self.editor.history().iter().enumerate();
        let text: String = lines
            .map(|(number, line)| format!("{:>5}  {line}\n", number + 1))
            .collect();
        self.print(&text);
        Ok(Mode::Prompt)
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
