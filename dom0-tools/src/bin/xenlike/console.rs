//! `console`: connects the terminal to a domain's console, until `Ctrl-]` is typed.

#![expect(unsafe_code, reason = "terminal settings")]

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::keeper::wait;

/// The byte that `Ctrl-]` sends.
const LEAVE: u8 = 0x1d;
/// How long to wait for a restarting domain's console.
const RESTART: Duration = Duration::from_secs(5);

/// The terminal in raw mode, without echo and line editing. Dropping it restores the old mode, which it holds.
struct Raw(libc::termios);

impl Raw {
    fn enter() -> Option<Raw> {
        let input = io::stdin();
        if !input.is_terminal() {
            return None;
        }
        // SAFETY: the structure consists of plain numbers, which tcgetattr fills in.
        let before = unsafe {
            let mut before: libc::termios = std::mem::zeroed();
            if libc::tcgetattr(input.as_raw_fd(), &raw mut before) != 0 {
                return None;
            }
            before
        };
        let mut raw = before;
        // SAFETY: changes and sets a valid structure.
        unsafe {
            libc::cfmakeraw(&raw mut raw);
            libc::tcsetattr(input.as_raw_fd(), libc::TCSANOW, &raw const raw);
        }
        Some(Raw(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // SAFETY: restores the mode that was read before.
        unsafe { libc::tcsetattr(io::stdin().as_raw_fd(), libc::TCSANOW, &raw const self.0) };
    }
}

/// Where a domain's console can be opened.
pub enum Place {
    /// At the socket of the domain's keeper.
    Keeper(PathBuf),
    /// At the terminal that xenconsoled made for the domain.
    Terminal(PathBuf),
}

trait Wire: Read + Write + AsRawFd {}
impl Wire for UnixStream {}
impl Wire for File {}

impl Place {
    fn open(&self) -> io::Result<Box<dyn Wire>> {
        Ok(match self {
            Place::Keeper(socket) => Box::new(UnixStream::connect(socket)?),
            Place::Terminal(path) => Box::new(
                OpenOptions::new()
                    .read(true)
                    .write(true)
                    .custom_flags(libc::O_NOCTTY)
                    .open(path)?,
            ),
        })
    }
}

/// Why `talk` returned.
#[derive(PartialEq, Eq)]
enum Left {
    /// The user typed `Ctrl-]`.
    Person,
    /// The console was closed at its other end.
    Domain,
}

/// Whether the user's keys go to the domain.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Keys {
    /// Keys are read and sent to the domain.
    Taken,
    /// Keys are not read.
    Left,
}

/// Attaches to a domain's console. When the console closes, continues with the place that `next` returns, if any.
///
/// # Errors
/// If no process serves the console.
pub fn attach(place: &Place, keys: Keys, next: &mut dyn FnMut() -> Option<Place>) -> Result<()> {
    let mut wire = place.open().context("nobody keeps this domain's console")?;
    let _raw = match keys {
        Keys::Taken => Raw::enter(),
        Keys::Left => None,
    };
    loop {
        if talk(&mut *wire, keys)? == Left::Person {
            print(b"\r\n");
            return Ok(());
        }
        let Some(place) = next() else {
            return Ok(());
        };
        let Some(again) = open_soon(&place) else {
            return Ok(());
        };
        wire = again;
    }
}

fn open_soon(place: &Place) -> Option<Box<dyn Wire>> {
    let deadline = Instant::now() + RESTART;
    loop {
        if let Ok(wire) = place.open() {
            return Some(wire);
        }
        if Instant::now() > deadline {
            return None;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn print(text: &[u8]) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(text).and_then(|()| out.flush());
}

/// Reads a domain's console until `found` accepts the output so far. Returns `None` if the console closes first.
///
/// # Errors
/// If no process serves the console, or the deadline passes.
pub fn read_until(
    place: &Place,
    deadline: Option<Instant>,
    found: &mut dyn FnMut(&[u8]) -> bool,
) -> Result<Option<()>> {
    let mut wire = place.open().context("nobody keeps this domain's console")?;
    let (mut said, mut bytes) = (Vec::new(), [0; 1024]);
    loop {
        if !wait(&[wire.as_raw_fd()])?.is_empty() {
            match wire.read(&mut bytes) {
                Ok(count @ 1..) => said.extend_from_slice(bytes.get(..count).unwrap_or_default()),
                _ => return Ok(None),
            }
            if found(&said) {
                return Ok(Some(()));
            }
        }
        if deadline.is_some_and(|deadline| Instant::now() > deadline) {
            bail!("that took too long");
        }
    }
}

/// Copies bytes in both directions.
fn talk(socket: &mut dyn Wire, taken: Keys) -> Result<Left> {
    let (keyboard, domain) = (io::stdin().as_raw_fd(), socket.as_raw_fd());
    let mut fds = vec![domain];
    if taken == Keys::Taken {
        fds.push(keyboard);
    }
    let mut bytes = [0; 1024];
    // Bypasses the buffer of `Stdin`, since poll can't wait for the buffer's content.
    let mut keys = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    loop {
        let ready = wait(&fds)?;
        if ready.contains(&domain) {
            match socket.read(&mut bytes) {
                Ok(count @ 1..) => print(bytes.get(..count).unwrap_or_default()),
                _ => return Ok(Left::Domain),
            }
        }
        if ready.contains(&keyboard) {
            let count = keys.read(&mut bytes)?;
            let typed = bytes.get(..count).unwrap_or_default();
            if typed.contains(&LEAVE) {
                return Ok(Left::Person);
            }
            if count == 0 {
                // The input is a script that has ended; output is still wanted.
                fds.truncate(1);
            } else if socket.write_all(typed).is_err() {
                return Ok(Left::Domain);
            }
        }
    }
}
