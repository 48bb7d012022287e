//! QEMU's monitor (QMP over a socket), by which a test presses keys, plugs devices, and looks at CPUs and at the screen from
//! outside.

use crate::machine::Machine;
use crate::paths::Scratch;
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Longest time until QEMU has its monitor.
const START: Duration = Duration::from_secs(20);
/// Longest time for an answer. QEMU is slow while a busy machine has other work.
const ANSWER: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(200);

/// The monitor of one machine.
pub struct Monitor {
    scratch: Scratch,
}

impl Monitor {
    /// A monitor for a machine that is yet to start.
    ///
    /// # Errors
    /// When there is no place for its socket.
    pub fn new() -> Result<Self> {
        let scratch = Scratch::new("monitor")?;
        Ok(Self { scratch })
    }

    /// A file of its own.
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

    /// What QEMU's human monitor says to a command, such as `mce` or `nmi`.
    ///
    /// # Errors
    /// When QEMU is gone or does not answer.
    pub fn command(&self, line: &str) -> Result<String> {
        let said = self.execute("human-monitor-command", &json!({ "command-line": line }))?;
        Ok(said.as_str().unwrap_or_default().to_owned())
    }

    /// Of so many CPUs, how many are in HLT now.
    ///
    /// # Errors
    /// As [`Self::command`].
    pub fn halted(&self) -> Result<usize> {
        let registers = self.command("info registers -a")?;
        Ok(registers.matches("HLT=1").count())
    }

    /// Tells QEMU to end, which may have ended already: then it has no monitor any more.
    pub fn quit(&self) {
        if let Ok(stream) = UnixStream::connect(self.path("socket")) {
            let _ = ask(stream, "quit", &json!({}));
        }
    }

    /// QEMU makes the socket a moment after it starts.
    fn connect(&self) -> Result<UnixStream> {
        let deadline = Instant::now() + START;
        loop {
            match UnixStream::connect(self.path("socket")) {
                Err(_) if Instant::now() < deadline => sleep(POLL),
                result => return result.context("QEMU's monitor"),
            }
        }
    }

    /// What QEMU gives back for a command of QMP.
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
            // Events come in between.
            if let Some(given) = said.get_mut("return") {
                break given.take();
            }
        };
    }
    Ok(given)
}
