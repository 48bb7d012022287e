//! The shell's commands, a function for each entry of the table.

use alloc::format;
use alloc::rc::Rc;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::words;
use super::{Leave, Mode, Platform, Shell, Terminal};
use crate::build::Progress;
use crate::config;
use crate::hyper::{DomId, domain};
use crate::ops::{self, Wish};
use crate::verbs::{self, Front, Op, Read, Request, VERBS};

/// Size in bytes from which reading a file is announced.
const LARGE_FILE: u64 = 1 << 20;
/// Number of pages from which allocating a domain's memory is announced.
const LARGE_MEMORY: u64 = 512 << 8;
const SECOND_NS: u64 = 1_000_000_000;

impl<P: Platform> Shell<P> {
    /// Runs a command line; returns the mode for what it waits for.
    pub(super) fn command(&mut self, line: &str) -> Result<Mode, String> {
        let request = match Request::read(&words::split(line)?, Front::Shell)? {
            Read::Nothing => return Ok(Mode::Prompt),
            Read::Help(text) => {
                self.print(&text);
                return Ok(Mode::Prompt);
            }
            Read::Run(request) => request,
        };
        self.perform(&request)
    }

    fn perform(&mut self, request: &Request) -> Result<Mode, String> {
        match request.verb.op {
            Op::Create => return self.create(request),
            Op::Shutdown => return self.ask(request, Wish::PowerOff),
            Op::Reboot => return self.ask(request, Wish::Reboot),
            Op::Console => return self.console(request),
            Op::Wait => return self.wait(request),
            Op::Top => return self.top(request),
            Op::Trace => return self.trace(request),
            Op::Sleep => return sleep(self.platform.now_ns(), request),
            Op::List => self.list(request),
            Op::DomInfo => self.dominfo(request),
            Op::Info => self.info(request),
            Op::Destroy => self.destroy(request),
            Op::Pause => self.pause(request),
            Op::Unpause => self.unpause(request),
            Op::DomId => self.domid(request),
            Op::DomName => self.domname(request),
            Op::Rename => self.rename(request),
            Op::MemSet => self.mem_set(request),
            Op::MemMax => self.mem_max(request),
            Op::VcpuList => self.vcpu_list(request),
            Op::VcpuPin => self.vcpu_pin(request),
            Op::VcpuSet => self.vcpu_set(request),
            Op::SysRq => self.sysrq(request),
            Op::Uptime => self.uptime(request),
            Op::Dmesg => self.dmesg(request),
            Op::DebugKeys => self.debug_keys(request),
            Op::Version => self.version(request),
            Op::Image => self.image(request),
            Op::Ls => self.ls(request),
            Op::Cat => self.cat(request),
            Op::History => self.history(),
            Op::PowerOff => self.leave(Leave::PowerOff),
            Op::Restart => self.leave(Leave::Reboot),
            // `Request::read` has handled these.
            Op::Help | Op::Manifest | Op::BugReport => Ok(()),
        }?;
        Ok(Mode::Prompt)
    }

    /// Completes the word before the cursor: a command, or an argument that names a file or a domain.
    pub(super) fn complete(&mut self) {
        let before = self.editor.before_cursor();
        let (earlier, word) = match before.rfind(' ') {
            Some(at) => before.split_at(at + 1),
            None => ("", before.as_str()),
        };
        let names: Vec<String> = if earlier.trim().is_empty() {
            VERBS.iter().map(|verb| verb.name.to_string()).collect()
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

    /// The domain that a word names.
    pub(super) fn domain(&self, word: &str) -> Result<DomId, String> {
        self.guests
            .find(word)
            .ok_or_else(|| format!("{word}: there is no domain of that name or number"))
    }

    /// Like `domain`, but refuses the domain in which the shell runs.
    pub(super) fn other_domain(&self, word: &str) -> Result<DomId, String> {
        match self.domain(word)? {
            DomId::ZERO => {
                Err("Domain-0 is this shell's own domain; `poweroff` ends it".to_string())
            }
            id => Ok(id),
        }
    }

    fn create(&mut self, request: &Request) -> Result<Mode, String> {
        let config = self.configuration(request)?;
        if request.has("dryrun") {
            let files = self.platform.files();
            let text = ops::dry_run(&config, &*files).map_err(|error| error.to_string())?;
            self.print(&text);
            return Ok(Mode::Prompt);
        }
        let id = if request.has("quiet") {
            self.guests.create(&mut self.platform, config, &mut ())?
        } else {
            self.start_domain(config)?
        };
        if !request.has("paused") {
            domain::unpause(&mut self.platform, id).map_err(|error| error.to_string())?;
        }
        match (request.has("console"), request.has("wait")) {
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

    /// Creates a domain, with messages about long operations.
    pub(super) fn start_domain(&mut self, config: config::DomainConfig) -> Result<DomId, String> {
        let terminal = self.platform.terminal();
        let mut lines = Lines {
            name: config.name.clone(),
            terminal,
        };
        self.guests.create(&mut self.platform, config, &mut lines)
    }

    /// Reads the configuration and the settings that a request names.
    fn configuration(&mut self, request: &Request) -> Result<config::DomainConfig, String> {
        let (file, settings) = verbs::configuration(request)?;
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

    fn destroy(&mut self, request: &Request) -> Result<(), String> {
        let id = self.other_domain(request.word(0))?;
        self.guests.destroy(&mut self.platform, id)
    }

    fn pause(&mut self, request: &Request) -> Result<(), String> {
        let id = self.other_domain(request.word(0))?;
        domain::pause(&mut self.platform, id).map_err(|error| error.to_string())
    }

    fn unpause(&mut self, request: &Request) -> Result<(), String> {
        let id = self.other_domain(request.word(0))?;
        ops::unpause(&mut self.platform, id, request.word(0))
    }

    fn vcpu_pin(&mut self, request: &Request) -> Result<(), String> {
        let id = self.domain(request.word(0))?;
        ops::pin(&mut self.platform, id, request.word(1), request.word(2))
    }

    fn rename(&mut self, request: &Request) -> Result<(), String> {
        let id = self.other_domain(request.word(0))?;
        self.guests.rename(id, request.word(1))
    }

    /// The domain that the first word names, which must have a Xenstore.
    fn served_domain(&self, request: &Request) -> Result<DomId, String> {
        let word = request.word(0);
        match self.domain(word)? {
            DomId::ZERO => Err(format!(
                "Domain-0 is this shell's own domain: {} is for guests, and for a Linux as Dom0",
                request.verb.name
            )),
            id => Ok(id),
        }
    }

    fn mem_set(&mut self, request: &Request) -> Result<(), String> {
        let id = self.served_domain(request)?;
        let (word, amount) = (request.word(0), request.word(1));
        ops::mem_set(&mut self.platform, &mut self.guests, id, word, amount)
    }

    fn mem_max(&mut self, request: &Request) -> Result<(), String> {
        let id = self.served_domain(request)?;
        ops::mem_max(&mut self.platform, id, request.word(1))
    }

    fn vcpu_set(&mut self, request: &Request) -> Result<(), String> {
        let id = self.served_domain(request)?;
        let (word, count) = (request.word(0), request.word(1));
        ops::vcpu_set(&mut self.platform, &mut self.guests, id, word, count)
    }

    fn sysrq(&mut self, request: &Request) -> Result<(), String> {
        let id = self.served_domain(request)?;
        ops::sysrq(&mut self.guests, id, request.word(0), request.word(1))
    }

    fn console(&mut self, request: &Request) -> Result<Mode, String> {
        let word = request.word(0);
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

    fn wait(&mut self, request: &Request) -> Result<Mode, String> {
        let until_ns = request.number("timeout")?.map(|seconds| {
            let wait_ns = seconds.saturating_mul(SECOND_NS);
            self.platform.now_ns().saturating_add(wait_ns)
        });
        let text = request.words().get(1).map(|text| text.clone().into_bytes());
        let word = request.word(0);
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

    fn leave(&mut self, how: Leave) -> Result<(), String> {
        self.platform.leave(how);
        Err(match how {
            Leave::PowerOff => "the machine could not be switched off".to_string(),
            Leave::Reboot => "the machine could not be started again".to_string(),
        })
    }
}

fn sleep(now_ns: u64, request: &Request) -> Result<Mode, String> {
    let seconds: u64 = request
        .word(0)
        .parse()
        .map_err(|_| "sleep wants a number of seconds".to_string())?;
    Ok(Mode::Sleeping {
        until_ns: now_ns.saturating_add(seconds.saturating_mul(SECOND_NS)),
    })
}

/// Prints a line about each long operation.
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
