//! QEMU's monitor, by which a test presses keys and looks at CPUs from outside.

use crate::machine::Machine;
use anyhow::{Context, Result, bail};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

const PROMPT: &str = "(qemu) ";
/// Longest time for an answer. QEMU is slow while a busy machine has other work.
const ANSWER: Duration = Duration::from_secs(60);

/// A machine's monitor.
pub struct Monitor(UnixStream);

impl Monitor {
    /// The machine with a monitor at `socket`.
    #[must_use]
    pub fn on(machine: Machine, socket: &Path) -> Machine {
        let socket = format!(
            "socket,id=monitor,path={},server=on,wait=off",
            socket.display()
        );
        machine
            .with("-chardev")
            .with(&socket)
            .with("-mon")
            .with("chardev=monitor,mode=readline")
    }

    /// Speaks to the monitor at `socket` of a machine that runs.
    ///
    /// # Errors
    /// When there is none.
    pub fn connect(socket: &Path) -> Result<Self> {
        let stream = UnixStream::connect(socket).context("QEMU's monitor")?;
        stream.set_read_timeout(Some(ANSWER))?;
        let mut monitor = Self(stream);
        monitor.answer()?;
        Ok(monitor)
    }

    /// What it says to a command, with the command's echo.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn command(&mut self, line: &str) -> Result<String> {
        self.0.write_all(format!("{line}\n").as_bytes())?;
        self.answer()
    }

    fn answer(&mut self) -> Result<String> {
        let mut said = Vec::new();
        let mut chunk = [0; 4096];
        loop {
            let count = self.0.read(&mut chunk).context("QEMU's monitor")?;
            if count == 0 {
                bail!("QEMU's monitor has ended");
            }
            said.extend_from_slice(chunk.get(..count).unwrap_or_default());
            if said.ends_with(PROMPT.as_bytes()) {
                return Ok(String::from_utf8_lossy(&said).into_owned());
            }
        }
    }
}
