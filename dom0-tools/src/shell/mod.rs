//! The shell of the embedded control domain. It is a state machine over a [`Platform`], so that tests can run
//! it on a host.
//!
//! The platform calls [`Shell::input`] with typed keys, [`Shell::poll`] after an event or at the time of
//! [`Shell::alarm`], and [`Shell::look_for_ends`] when the hypervisor reports that a domain ended. Every wait is a
//! [`Mode`]; only creating a domain blocks. Domains are in `guests`, their store entries in `registry`, verbs in
//! `verbs`, `looks` and `asking`, and the line editor in `editor`.

mod asking;
mod backlog;
mod editor;
mod guests;
mod looks;
mod registry;
mod tracing;
mod verbs;
mod words;

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::format;
use alloc::rc::Rc;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use crate::hyper::tracing::Tracer;
use crate::hyper::{CallError, DomId, DomainInfo, Hypercalls, domain};
use crate::manifest::Manifest;
use crate::ops::{Created, Files};
use crate::store::Page;
use asking::Until;
use editor::{Editor, Key};
use guests::Guests;
pub use words::setting;

/// The prompt for a command.
pub const PROMPT: &str = "xenlike> ";
/// The key that leaves a console: Ctrl-].
const LEAVE: u8 = 0x1d;
/// The key that interrupts a command: Ctrl-C.
const INTERRUPT: u8 = 0x03;

/// The shell's end of a domain's console ring. Dropping it unmaps the page and closes the channel.
pub trait Ring {
    /// Takes the domain's new output.
    fn take(&mut self, output: &mut Vec<u8>);
    /// Sends keys to the domain; returns the number that had room.
    fn give(&mut self, keys: &[u8]) -> usize;
}

/// How to leave the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leave {
    /// Power the machine off.
    PowerOff,
    /// Restart the machine.
    Reboot,
}

/// The user's screen.
pub trait Terminal {
    /// Shows text unchanged.
    fn print(&self, text: &[u8]);
}

/// The services that the shell needs.
pub trait Platform: Hypercalls + 'static {
    /// The user's screen.
    fn terminal(&self) -> Rc<dyn Terminal>;
    /// Nanoseconds since the machine's start.
    fn now_ns(&self) -> u64;
    /// The files that commands can read.
    fn files(&self) -> Rc<dyn FileList>;
    /// Opens the console of a newly created domain.
    ///
    /// # Errors
    /// If the hypervisor refuses the call.
    fn open_console(&mut self, created: &Created) -> Result<Box<dyn Ring>, CallError>;
    /// Opens the Xenstore ring of a newly created domain.
    ///
    /// # Errors
    /// If the hypervisor refuses the call.
    fn open_store(&mut self, created: &Created) -> Result<Box<dyn Page>, CallError>;
    /// Leaves the machine. Returns if that is not possible.
    fn leave(&mut self, how: Leave);
}

/// A set of named files.
pub trait FileList: Files {
    /// Names and sizes in bytes.
    fn list(&self) -> Vec<(String, u64)>;
}

/// What the shell is waiting for.
#[derive(Debug, Clone, PartialEq)]
enum Mode {
    /// A command from the user or the script.
    Prompt,
    /// Keys for an attached domain, or the domain's end.
    Attached(DomId),
    /// The end of a domain, or some text in its output, optionally showing the output meanwhile.
    Waiting {
        guest: DomId,
        shown: bool,
        text: Option<Vec<u8>>,
        until_ns: Option<u64>,
    },
    /// The reaction of domains that were asked to end.
    Asking {
        asked: Vec<DomId>,
        until: Until,
        /// Messages about domains that did not react.
        faults: Vec<String>,
    },
    /// The next refresh of `top`.
    Top {
        before: Vec<DomainInfo>,
        then_ns: u64,
        next_ns: u64,
        delay_ns: u64,
        left: Option<u64>,
        json: bool,
    },
    /// The end of a trace.
    Tracing { tracer: Tracer, until_ns: u64 },
    /// A point in time.
    Sleeping { until_ns: u64 },
    /// Nothing: the machine has been left.
    Left,
}

/// The state of the shell.
pub struct Shell<P: Platform> {
    platform: P,
    terminal: Rc<dyn Terminal>,
    guests: Guests,
    editor: Editor,
    mode: Mode,
    /// Typed keys that have not been handled.
    typed: VecDeque<u8>,
    /// Commands to run without a user; after the last one the machine is left.
    script: Option<VecDeque<String>>,
    /// Messages to show before the next prompt.
    notices: Vec<String>,
}

impl<P: Platform> Shell<P> {
    /// Creates a shell, without any output yet.
    pub fn new(platform: P) -> Self {
        Shell {
            terminal: platform.terminal(),
            platform,
            guests: Guests::default(),
            editor: Editor::new(PROMPT),
            mode: Mode::Prompt,
            typed: VecDeque::new(),
            script: None,
            notices: Vec::new(),
        }
    }

    /// The platform on which the shell runs.
    pub fn platform(&mut self) -> &mut P {
        &mut self.platform
    }

    /// Whether the shell has left the machine, as far as possible.
    #[must_use]
    pub fn left(&self) -> bool {
        self.mode == Mode::Left
    }

    /// Starts the shell: runs a script if there is one (`exec=` or a file called `autoexec`),
    /// otherwise shows the prompt.
    pub fn start(&mut self, script: Option<&str>) {
        if let Some(script) = script {
            let lines = script
                .split(['\n', ';'])
                .map(str::trim)
                .filter(|line| !line.is_empty());
            self.script = Some(lines.map(ToString::to_string).collect());
        }
        self.prompt();
        self.go_on();
    }

    /// Starts the domains of a manifest. An error is shown, and the other domains start nevertheless.
    pub fn start_manifest(&mut self, manifest: &Manifest) {
        for config in &manifest.domains {
            let started = self.start_domain(config.clone());
            let unpause =
                |id| domain::unpause(&mut self.platform, id).map_err(|error| error.to_string());
            match started.and_then(unpause) {
                Ok(()) => self.print(&format!("{} is running\n", config.name)),
                Err(cause) => self.print(&format!("error: {cause}\n")),
            }
        }
    }

    /// Handles typed keys.
    pub fn input(&mut self, keys: &[u8]) {
        self.typed.extend(keys);
        self.go_on();
    }

    /// Checks the domains' consoles and the time, after an event or an alarm.
    pub fn poll(&mut self) {
        self.guests.drain();
        self.watch(&[]);
        self.go_on();
    }

    /// Checks for domains that have ended.
    pub fn look_for_ends(&mut self) {
        self.reap();
        self.go_on();
    }

    fn reap(&mut self) {
        let ended = self.guests.reap(&mut self.platform);
        self.notices.extend(ended.notices);
        self.watch(&ended.gone);
    }

    /// The time at which [`Shell::poll`] must be called even without an event.
    #[must_use]
    pub fn alarm(&self) -> Option<u64> {
        if self.guests.busy {
            return Some(0);
        }
        match &self.mode {
            Mode::Asking { until, .. } => until.limit(),
            Mode::Waiting { until_ns, .. } => *until_ns,
            Mode::Top { next_ns, .. } => Some(*next_ns),
            Mode::Tracing { until_ns, .. } | Mode::Sleeping { until_ns } => Some(*until_ns),
            Mode::Prompt | Mode::Attached(_) | Mode::Left => None,
        }
    }

    fn print(&mut self, text: &str) {
        // Terminals need a carriage return before each line feed.
        let text = text.replace("\r\n", "\n").replace('\n', "\r\n");
        self.terminal.print(text.as_bytes());
    }

    fn prompt(&mut self) {
        for notice in core::mem::take(&mut self.notices) {
            self.print(&format!("[{notice}]\n"));
        }
        self.mode = Mode::Prompt;
        self.print(PROMPT);
    }

    /// Runs the script and handles keys until the shell has to wait.
    fn go_on(&mut self) {
        loop {
            if self.mode == Mode::Prompt && self.script.is_some() {
                let next = self.script.as_mut().and_then(VecDeque::pop_front);
                match next {
                    Some(line) => {
                        self.print(&format!("{line}\n"));
                        self.run(&line);
                    }
                    None => {
                        self.print("\n");
                        self.mode = Mode::Left;
                        self.platform.leave(Leave::PowerOff);
                    }
                }
                continue;
            }
            let Some(key) = self.typed.pop_front() else {
                return;
            };
            self.key(key);
        }
    }

    fn key(&mut self, key: u8) {
        match &self.mode {
            Mode::Prompt => self.edit(key),
            Mode::Attached(id) => {
                let id = *id;
                if key == LEAVE {
                    self.print("\n");
                    self.finish(Ok(()));
                    return;
                }
                let mut keys = alloc::vec![key];
                while self.typed.front().is_some_and(|&next| next != LEAVE) {
                    keys.extend(self.typed.pop_front());
                }
                self.guests.give(id, &keys);
            }
            Mode::Top { .. } if matches!(key, b'q' | b'Q' | INTERRUPT) => self.finish(Ok(())),
            Mode::Waiting { .. } | Mode::Sleeping { .. } | Mode::Asking { .. }
                if matches!(key, INTERRUPT | LEAVE) =>
            {
                self.finish(Err("interrupted".to_string()));
            }
            Mode::Tracing { tracer, .. } if key == INTERRUPT => self.print_trace(&tracer.clone()),
            Mode::Top { .. }
            | Mode::Tracing { .. }
            | Mode::Waiting { .. }
            | Mode::Sleeping { .. }
            | Mode::Asking { .. }
            | Mode::Left => {}
        }
    }

    fn edit(&mut self, key: u8) {
        let mut echo = String::new();
        let key = self.editor.key(key, &mut echo);
        self.terminal.print(echo.as_bytes());
        match key {
            Key::Nothing | Key::End => {}
            Key::Dropped => self.prompt(),
            Key::Complete => self.complete(),
            Key::Line(line) => {
                // Shows first what has happened meanwhile.
                self.guests.drain();
                self.run(&line);
            }
        }
    }

    /// Runs a command. Unless the command has to wait, also finishes it.
    fn run(&mut self, line: &str) {
        match self.command(line) {
            Ok(Mode::Prompt) => self.finish(Ok(())),
            Ok(mode) => {
                self.mode = mode;
                self.reap();
            }
            Err(cause) => self.finish(Err(cause)),
        }
    }

    /// Finishes a command: shows its error, and the next prompt.
    fn finish(&mut self, result: Result<(), String>) {
        if let Err(cause) = &result {
            self.print(&format!("error: {cause}\n"));
        }
        if self.mode == Mode::Left {
            return;
        }
        if self.script.is_some() {
            self.print(&format!("[exec] status {}\n", u8::from(result.is_err())));
        }
        self.prompt();
    }

    /// Continues the present wait. `gone` are domains that have ended for good.
    fn watch(&mut self, gone: &[guests::Gone]) {
        let now = self.platform.now_ns();
        match self.mode.clone() {
            Mode::Attached(id) => self.show(id, gone, Watched::Attached),
            Mode::Waiting {
                guest,
                shown: true,
                text: None,
                ..
            } => self.show(guest, gone, Watched::Waiting),
            Mode::Waiting {
                guest,
                text,
                until_ns,
                ..
            } => {
                let found = text
                    .as_ref()
                    .is_some_and(|text| self.guests.printed(guest, gone, text));
                let end = gone.iter().find(|end| end.old == guest);
                if found {
                    self.finish(Ok(()));
                } else if let Some(end) = end {
                    match end.successor {
                        Some(successor) => {
                            self.mode = Mode::Waiting {
                                guest: successor,
                                shown: false,
                                text,
                                until_ns,
                            }
                        }
                        None if text.is_some() => {
                            self.finish(Err(format!("{} without these words", end.words())))
                        }
                        None => self.finish(end.verdict()),
                    }
                } else if until_ns.is_some_and(|until| now >= until) {
                    self.finish(Err("that took too long".to_string()));
                }
            }
            Mode::Asking {
                asked,
                until,
                faults,
            } => self.asking(asked, until, faults, gone),
            Mode::Top { next_ns, .. } if now >= next_ns => self.top_again(),
            Mode::Tracing { tracer, until_ns } if now >= until_ns => self.print_trace(&tracer),
            Mode::Sleeping { until_ns } if now >= until_ns => self.finish(Ok(())),
            Mode::Prompt
            | Mode::Top { .. }
            | Mode::Tracing { .. }
            | Mode::Sleeping { .. }
            | Mode::Left => {}
        }
    }

    /// Shows the output of a watched domain. Stops watching when the domain has gone for good.
    fn show(&mut self, id: DomId, gone: &[guests::Gone], watched: Watched) {
        let Some(end) = gone.iter().find(|end| end.old == id) else {
            let text = self.guests.unseen(id);
            self.terminal.print(&text);
            return;
        };
        let text = self.guests.unseen_after(end);
        self.terminal.print(&text);
        // The user has just seen this; the notice would repeat it.
        let words = end.words();
        self.notices.retain(|notice| *notice != words);
        if text.last().is_some_and(|&last| last != b'\n') {
            self.print("\n");
        }
        self.print(&format!("[{words}]\n"));
        match (end.successor, watched) {
            (Some(successor), Watched::Attached) => self.mode = Mode::Attached(successor),
            (None, Watched::Attached) => self.finish(Ok(())),
            (_, Watched::Waiting) => self.finish(end.verdict()),
        }
    }
}

/// How a domain is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Watched {
    /// Attached, with keys going to the domain.
    Attached,
    /// Waiting for the domain's end.
    Waiting,
}

#[cfg(test)]
mod tests;
