//! The embedded control domain's shell: a state machine over a [`Platform`], so that it runs on a host in tests.
//!
//! The platform calls [`Shell::input`] with what was typed, [`Shell::poll`] when an event came or the time of
//! [`Shell::alarm`], [`Shell::look_for_ends`] when the hypervisor says that a domain ended. Everything that waits is a [`Mode`]; nothing blocks except creating a
//! domain. Domains are in `guests`, what the store has of them in `registry`, verbs in `verbs`, `looks` and `asking`, the
//! line editor in `editor`.

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

/// The prompt.
pub const PROMPT: &str = "xenlike> ";
/// The key that leaves a console: Ctrl-].
const LEAVE: u8 = 0x1d;
/// Ctrl-C.
const INTERRUPT: u8 = 0x03;

/// The other end of a domain's console ring. Dropping it gives page and channel back.
pub trait Ring {
    /// Takes what the domain has printed.
    fn take(&mut self, output: &mut Vec<u8>);
    /// Gives the domain keys; returns how many found room.
    fn give(&mut self, keys: &[u8]) -> usize;
}

/// How the machine is to be left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leave {
    /// Switched off.
    PowerOff,
    /// Started again.
    Reboot,
}

/// Shows text to the person at the console.
pub trait Terminal {
    /// Shows it as it is.
    fn print(&self, text: &[u8]);
}

/// What the shell stands on.
pub trait Platform: Hypercalls + 'static {
    /// The screen and keyboard of the person at the console.
    fn terminal(&self) -> Rc<dyn Terminal>;
    /// Nanoseconds since the machine's start.
    fn now_ns(&self) -> u64;
    /// The files.
    fn files(&self) -> Rc<dyn FileList>;
    /// Opens the console of a domain that was created just now.
    ///
    /// # Errors
    /// If the hypervisor refuses the call.
    fn open_console(&mut self, created: &Created) -> Result<Box<dyn Ring>, CallError>;
    /// Opens the Xenstore ring of a domain that was created just now.
    ///
    /// # Errors
    /// If the hypervisor refuses the call.
    fn open_store(&mut self, created: &Created) -> Result<Box<dyn Page>, CallError>;
    /// Leaves the machine; may return if that is not possible.
    fn leave(&mut self, how: Leave);
}

/// Files with names.
pub trait FileList: Files {
    /// Names and sizes in bytes.
    fn list(&self) -> Vec<(String, u64)>;
}

/// What the shell is waiting for.
#[derive(Debug, Clone, PartialEq)]
enum Mode {
    /// A command.
    Prompt,
    /// Keys for a domain, or its end.
    Attached(DomId),
    /// The end of a domain whose output is shown meanwhile; or nothing shown, and perhaps some words first.
    Waiting {
        guest: DomId,
        shown: bool,
        text: Option<Vec<u8>>,
        until_ns: Option<u64>,
    },
    /// Domains that were asked to end.
    Asking {
        asked: Vec<DomId>,
        until: Until,
        /// Has one refused?
        faults: Vec<String>,
    },
    /// The next picture of `top`.
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
    /// A time.
    Sleeping { until_ns: u64 },
    /// Nothing any more.
    Left,
}

/// The shell.
pub struct Shell<P: Platform> {
    platform: P,
    terminal: Rc<dyn Terminal>,
    guests: Guests,
    editor: Editor,
    mode: Mode,
    /// What was typed and not looked at.
    typed: VecDeque<u8>,
    /// Commands to run before anybody is asked; after the last the machine is left.
    script: Option<VecDeque<String>>,
    /// Sentences to show before the next prompt.
    notices: Vec<String>,
}

impl<P: Platform> Shell<P> {
    /// A shell that has shown nothing yet.
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

    /// The platform.
    pub fn platform(&mut self) -> &mut P {
        &mut self.platform
    }

    /// Has the machine been left, as far as that goes?
    #[must_use]
    pub fn left(&self) -> bool {
        self.mode == Mode::Left
    }

    /// Begins: runs a script if there is one (`exec=` or a file called `autoexec`), else asks for commands.
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

    /// Starts the domains of a manifest; what goes wrong is told, and the others start all the same.
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

    /// Takes what was typed.
    pub fn input(&mut self, keys: &[u8]) {
        self.typed.extend(keys);
        self.go_on();
    }

    /// Looks at the domains' consoles and the time, after an event or an alarm.
    pub fn poll(&mut self) {
        self.guests.drain();
        self.watch(&[]);
        self.go_on();
    }

    /// Looks for domains that have ended.
    pub fn look_for_ends(&mut self) {
        self.reap();
        self.go_on();
    }

    fn reap(&mut self) {
        let ended = self.guests.reap(&mut self.platform);
        self.notices.extend(ended.notices);
        self.watch(&ended.gone);
    }

    /// When [`Shell::poll`] is wanted even without an event.
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
        // Terminals want a carriage return before each line feed.
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

    /// Runs the script and looks at keys until something must be waited for.
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
                // What happened meanwhile comes first.
                self.guests.drain();
                self.run(&line);
            }
        }
    }

    /// Runs a command; unless it has to wait, its end follows at once.
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

    /// A command is over.
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

    /// Goes on with what the shell waits for; `gone` are domains that have ended for good.
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

    /// Shows what a watched domain has printed; leaves it when it has gone for good.
    fn show(&mut self, id: DomId, gone: &[guests::Gone], watched: Watched) {
        let Some(end) = gone.iter().find(|end| end.old == id) else {
            let text = self.guests.unseen(id);
            self.terminal.print(&text);
            return;
        };
        let text = self.guests.unseen_after(end);
        self.terminal.print(&text);
        // The watcher has just been told; no notice is needed.
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
    /// With keys.
    Attached,
    /// Until its end.
    Waiting,
}

#[cfg(test)]
mod tests;
