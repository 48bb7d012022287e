//! A running machine and its serial console: sends lines, and waits for text with a time limit.

use crate::bochs::{self, Bochs};
use crate::machine::{Machine, Serial};
use crate::media::Media;
use crate::paths::{Scratch, build};
use crate::terminal::PlainText;
use anyhow::{Context, Result, anyhow, bail};
use regex::Regex;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};
use std::{fs, thread};

/// The shell's prompt in the embedded control domain.
pub const PROMPT: &str = "xenlike> ";

/// The console's output so far.
#[derive(Default)]
struct Log {
    text: String,
    ended: bool,
}

/// Text that ends every wait: a panic, or an audit that found something.
const FATAL: &str = r"(?m)^.*(xenlike: panic on |\(xenlike\) audit: [a-z]).*\n";

type SharedLog = Arc<(Mutex<Log>, Condvar)>;

/// A machine that runs in QEMU or Bochs. Dropping it ends the emulator.
pub struct Session {
    name: String,
    emulator: Child,
    input: Box<dyn Write + Send>,
    log: SharedLog,
    /// Offset in bytes after the last text that was waited for.
    cursor: usize,
    /// Text that ends every wait at once.
    fatal: Option<Regex>,
    /// Whether the hypervisor can audit itself.
    audits: bool,
    _scratch: Scratch,
}

impl Session {
    /// Writes `media` and boots it on `machine`. `name` is the transcript's name.
    ///
    /// # Errors
    /// If the medium can't be made or QEMU doesn't start.
    pub fn boot(name: &str, media: &Media, machine: &Machine) -> Result<Self> {
        let scratch = Scratch::new(name)?;
        let iso = scratch.path().join("boot.iso");
        media.write(&iso)?;
        let mut session = Self::start(name, &iso, machine, scratch)?;
        session.audits = media.is_test_build();
        Ok(session)
    }

    /// Boots an existing image.
    ///
    /// # Errors
    /// If QEMU doesn't start.
    pub fn boot_iso(name: &str, iso: &Path, machine: &Machine) -> Result<Self> {
        Self::start(name, iso, machine, Scratch::new(name)?)
    }

    /// Like [`Session::boot`], in Bochs.
    ///
    /// # Errors
    /// If the medium can't be made or Bochs doesn't start.
    pub fn boot_on_bochs(name: &str, media: &Media, machine: &Bochs) -> Result<Self> {
        let scratch = Scratch::new(name)?;
        let iso = scratch.path().join("boot.iso");
        media.write(&iso)?;
        let port = TcpListener::bind(("127.0.0.1", 0))?;
        let command = machine.command(&iso, port.local_addr()?.port(), scratch.path())?;
        let mut emulator = ends_with_us(command)
            .current_dir(scratch.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("bochs (run scripts/setup)")?;
        let serial = bochs::connected(&port, &mut emulator, scratch.path())?;
        let output = serial.try_clone()?;
        let mut session = Self::attach(name, emulator, (Box::new(serial), output), scratch)?;
        session.audits = media.is_test_build();
        Ok(session)
    }

    fn start(name: &str, iso: &Path, machine: &Machine, scratch: Scratch) -> Result<Self> {
        let mut qemu = ends_with_us(machine.command(iso, Serial::Pipe, scratch.path())?)
            .arg("-no-reboot")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .context("qemu-system-x86_64 (run scripts/setup)")?;
        let input = qemu.stdin.take().context("QEMU's standard input")?;
        let output = qemu.stdout.take().context("QEMU's standard output")?;
        Self::attach(name, qemu, (Box::new(input), output), scratch)
    }

    /// Attaches to a machine whose serial port is connected to these two ends.
    fn attach(
        name: &str,
        emulator: Child,
        (input, output): (Box<dyn Write + Send>, impl Read + Send + 'static),
        scratch: Scratch,
    ) -> Result<Self> {
        let log = SharedLog::default();
        let writer = Arc::clone(&log);
        thread::spawn(move || collect(output, &writer));
        Ok(Self {
            name: name.to_owned(),
            emulator,
            input,
            log,
            cursor: 0,
            fatal: Some(Regex::new(FATAL)?),
            audits: false,
            _scratch: scratch,
        })
    }

    /// For a test that expects a hypervisor panic: waits don't end when one occurs.
    pub fn allow_panic(&mut self) {
        self.fatal = None;
    }

    /// Sends `text` as if typed.
    ///
    /// # Errors
    /// If QEMU is gone.
    pub fn send(&mut self, text: &str) -> Result<()> {
        let sent = self
            .input
            .write_all(text.as_bytes())
            .and_then(|()| self.input.flush());
        sent.map_err(|error| self.failure(&format!("sending {text:?}: {error}")))
    }

    /// Sends a line and the return key.
    ///
    /// # Errors
    /// If QEMU is gone.
    pub fn send_line(&mut self, line: &str) -> Result<()> {
        self.send(&format!("{line}\r"))
    }

    /// Waits until the console's output, after the last text that was waited for, matches `pattern` (a regular
    /// expression, in which `^` and `$` match at lines). Returns the matched text.
    ///
    /// # Errors
    /// If the time limit passes, QEMU ends, or the hypervisor panics; the error has the transcript's end.
    pub fn expect(&mut self, pattern: &str, limit: Duration) -> Result<String> {
        let regex = Regex::new(&format!("(?m){pattern}"))?;
        let (_, matched) = self.wait(&regex, limit)?;
        Ok(matched)
    }

    /// Waits for `pattern` and returns all output before it.
    ///
    /// # Errors
    /// As for [`Session::expect`].
    pub fn read_until(&mut self, pattern: &str, limit: Duration) -> Result<String> {
        let regex = Regex::new(&format!("(?m){pattern}"))?;
        let (before, _) = self.wait(&regex, limit)?;
        Ok(before)
    }

    /// Waits for the embedded shell's prompt.
    ///
    /// # Errors
    /// As for [`Session::expect`].
    pub fn expect_prompt(&mut self, limit: Duration) -> Result<()> {
        self.expect(&format!("^{PROMPT}"), limit).map(drop)
    }

    /// Runs a command in the embedded shell, at its prompt; returns its output.
    ///
    /// # Errors
    /// As for [`Session::expect`].
    pub fn command(&mut self, line: &str, limit: Duration) -> Result<String> {
        self.send_line(line)?;
        self.expect(r"\n", limit)?;
        self.read_until(&format!("^{PROMPT}"), limit)
    }

    /// Like [`Session::command`], but fails if the command printed an error.
    ///
    /// # Errors
    /// As for [`Session::expect`], or if a line begins with `error: `.
    pub fn succeed(&mut self, line: &str, limit: Duration) -> Result<String> {
        let printed = self.command(line, limit)?;
        if printed.lines().any(|line| line.starts_with("error: ")) {
            return Err(self.failure(&format!("`{line}` failed:\n{printed}")));
        }
        Ok(printed)
    }

    /// Makes the hypervisor audit itself by its debug key, if it is the test build: every reference, type and binding
    /// is recounted. An audit that finds something, whatever requested it, ends any wait.
    ///
    /// # Errors
    /// If the audit finds something.
    pub fn audit(&mut self) -> Result<()> {
        const LIMIT: Duration = Duration::from_secs(60);
        if !self.audits {
            return Ok(());
        }
        self.send("\x01\x01\x01")?;
        self.expect("serial input goes to the hypervisor", LIMIT)?;
        self.send("a")?;
        let said = self.expect(r"audit: \d+ frames, .* agree in \d+ ms", LIMIT)?;
        println!("{said}");
        self.send("\x01\x01\x01")?;
        self.expect("serial input goes to domain 0", LIMIT)
            .map(drop)
    }

    /// Waits until QEMU ends by itself (power off, or a reset).
    ///
    /// # Errors
    /// If the time limit passes.
    pub fn expect_end(&mut self, limit: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.emulator.try_wait()? {
                return Ok(status);
            }
            if Instant::now() > deadline {
                return Err(self.failure("the machine did not end"));
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// All output of the console.
    pub fn transcript(&self) -> String {
        let guard = self.log.0.lock().unwrap_or_else(PoisonError::into_inner);
        guard.text.clone()
    }

    fn wait(&mut self, wanted: &Regex, limit: Duration) -> Result<(String, String)> {
        let deadline = Instant::now() + limit;
        let log = Arc::clone(&self.log);
        let mut guard = log.0.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let fresh = guard.text.get(self.cursor..).unwrap_or_default();
            if let Some(found) = wanted.find(fresh) {
                let before = fresh.get(..found.start()).unwrap_or_default().to_owned();
                let matched = found.as_str().to_owned();
                self.cursor += found.end();
                return Ok((before, matched));
            }
            let fatal = self.fatal.as_ref().and_then(|fatal| fatal.find(fresh));
            let left = deadline.saturating_duration_since(Instant::now());
            let problem = if let Some(found) = fatal {
                Some(format!("the hypervisor says: {}", found.as_str().trim()))
            } else if guard.ended {
                Some(format!("the machine ended while waiting for {wanted}"))
            } else if left.is_zero() {
                Some(format!("no {wanted} within {} s", limit.as_secs()))
            } else {
                None
            };
            if let Some(problem) = problem {
                drop(guard);
                if fatal_report_follows(&problem) {
                    // Lets the panic's registers and backtrace arrive.
                    thread::sleep(Duration::from_secs(2));
                }
                return Err(self.failure(&problem));
            }
            let waited = log.1.wait_timeout(guard, left);
            guard = waited.map_or_else(|poison| poison.into_inner().0, |(guard, _)| guard);
        }
    }

    /// An error with the end of the transcript; the whole transcript is written to a file.
    fn failure(&self, problem: &str) -> anyhow::Error {
        let text = self.transcript();
        let lines: Vec<&str> = text.lines().collect();
        let tail = lines[lines.len().saturating_sub(60)..].join("\n");
        match self.save_transcript(&text) {
            Ok(path) => anyhow!("{problem}\nthe console's last lines ({path} has all):\n{tail}"),
            Err(error) => anyhow!("{problem}\nthe console's last lines ({error}):\n{tail}"),
        }
    }

    fn save_transcript(&self, text: &str) -> Result<String> {
        let folder = build("transcripts");
        fs::create_dir_all(&folder)?;
        let path = folder.join(format!("{}.log", self.name));
        fs::write(&path, text)?;
        Ok(path.display().to_string())
    }

    /// Ends QEMU without involving the machine.
    ///
    /// # Errors
    /// If QEMU can't be ended.
    pub fn kill(mut self) -> Result<()> {
        if self.emulator.try_wait()?.is_none() {
            self.emulator.kill()?;
        }
        if self.emulator.wait().is_err() {
            bail!("QEMU doesn't end");
        }
        Ok(())
    }
}

/// The command, wrapped so that it dies with this thread even if that is killed (by util-linux's setpriv).
fn ends_with_us(command: Command) -> Command {
    let setpriv = Path::new("/usr/bin/setpriv");
    if !setpriv.exists() {
        return command;
    }
    let mut wrapped = Command::new(setpriv);
    wrapped
        .args(["--pdeathsig", "KILL", "--"])
        .arg(command.get_program())
        .args(command.get_args());
    wrapped
}

fn fatal_report_follows(problem: &str) -> bool {
    problem.starts_with("the hypervisor says")
}

impl Drop for Session {
    fn drop(&mut self) {
        // It may have ended already, and another failure can't be handled here.
        let _ = self.emulator.kill();
        let _ = self.emulator.wait();
    }
}

/// Reads the port until QEMU closes it.
fn collect(mut output: impl Read, log: &SharedLog) {
    let mut plain = PlainText::default();
    let mut chunk = [0_u8; 4096];
    loop {
        let count = output.read(&mut chunk).unwrap_or(0);
        let mut guard = log.0.lock().unwrap_or_else(PoisonError::into_inner);
        plain.feed(chunk.get(..count).unwrap_or_default(), &mut guard.text);
        guard.ended = count == 0;
        log.1.notify_all();
        if count == 0 {
            return;
        }
    }
}
