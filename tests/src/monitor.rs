//! QEMU's monitor (QMP over a socket), through which a test presses keys, plugs devices, and inspects
//! CPUs and the screen.

use crate::machine::Machine;
use crate::paths::Scratch;
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Time limit until QEMU's monitor is ready.
const START: Duration = Duration::from_secs(20);
/// Time limit for an answer. QEMU is slow while the host is busy.
const ANSWER: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(200);

/// The monitor of one machine.
pub struct Monitor {
    scratch: Scratch,
}

impl Monitor {
    /// Prepares a monitor for a machine that has not started yet.
    ///
    /// # Errors
    /// If the socket's folder can't be made.
    pub fn new() -> Result<Self> {
        let scratch = Scratch::new("monitor")?;
        Ok(Self { scratch })
    }

    /// Path of a file in the monitor's folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    /// The machine with this monitor.
    #[must_use]
    pub fn on(&self, machine: Machine) -> Machine {
        let socket = self.path("socket").display().to_string();
        machine
            .with("-qmp")
            .with(&format!("unix:{socket},server,nowait"))
    }

    /// Runs a command of QEMU's human monitor, such as `mce` or `nmi`; returns its output.
    ///
    /// # Errors
    /// If QEMU is gone or doesn't answer.
    pub fn command(&self, line: &str) -> Result<String> {
        let said = self.execute("human-monitor-command", &json!({ "command-line": line }))?;
        Ok(said.as_str().unwrap_or_default().to_owned())
    }

    /// Number of CPUs that are in HLT now.
    ///
    /// # Errors
    /// As for [`Self::command`].
    pub fn halted(&self) -> Result<usize> {
        let registers = self.command("info registers -a")?;
        Ok(registers.matches("HLT=1").count())
    }

    /// Tells QEMU to quit. It may have ended already, and then has no monitor any more.
    pub fn quit(&self) {
        if let Ok(stream) = UnixStream::connect(self.path("socket")) {
            let _ = ask(stream, "quit", &json!({}));
        }
    }

    /// QEMU creates the socket shortly after it starts.
    fn connect(&self) -> Result<UnixStream> {
        let deadline = Instant::now() + START;
        loop {
            match UnixStream::connect(self.path("socket")) {
                Err(_) if Instant::now() < deadline => sleep(POLL),
                result => return result.context("QEMU's monitor"),
            }
        }
    }

    /// Runs a QMP command; returns its result.
    pub(crate) fn execute(&self, command: &str, arguments: &Value) -> Result<Value> {
        ask(self.connect()?, command, arguments)
    }
}

fn ask(mut stream: UnixStream, command: &str, arguments: &Value) -> Result<Value> {
    stream.set_read_timeout(Some(ANSWER))?;
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    lines.next().context("no greeting")??;
    let mut given = Value::Null;
    for (command, arguments) in [("qmp_capabilities", &json!({})), (command, arguments)] {
        let asked = json!({ "execute": command, "arguments": arguments });
        writeln!(stream, "{asked}")?;
        given = loop {
            let line = lines.next().context("the monitor closed")??;
            let mut said: Value = serde_json::from_str(&line)?;
            ensure!(said.get("error").is_none(), "QEMU: {line}");
            // Events may arrive before the result.
            if let Some(given) = said.get_mut("return") {
                break given.take();
            }
        };
    }
    Ok(given)
}
