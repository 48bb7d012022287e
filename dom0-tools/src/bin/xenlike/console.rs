//! `console`: a terminal on a domain's console, until `Ctrl-]`.

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

/// `Ctrl-]`
const LEAVE: u8 = 0x1d;
/// How long a domain that restarts may be away.
const RESTART: Duration = Duration::from_secs(5);

/// The terminal without echo and lines; as it was when dropped.
struct Raw(libc::termios);

impl Raw {
    fn enter() -> Option<Raw> {
        let input = io::stdin();
        if !input.is_terminal() {
            return None;
        }
        // SAFETY: the structure is plain numbers, which tcgetattr fills.
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
        // SAFETY: sets what was there before.
        unsafe { libc::tcsetattr(io::stdin().as_raw_fd(), libc::TCSANOW, &raw const self.0) };
    }
}

/// Where a domain's console is to be had.
pub enum Place {
    /// The socket of its keeper.
    Keeper(PathBuf),
    /// The terminal that xenconsoled made for it.
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

/// Why a terminal was left.
#[derive(PartialEq, Eq)]
enum Left {
    /// The person wanted to.
    Person,
    /// The console's end.
    Domain,
}

/// Whether a person's keys go to the domain.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Keys {
    /// They do.
    Taken,
    /// They are left alone.
    Left,
}

/// Attaches to a domain's console; when that ends, goes on with the one that `next` finds, if it does.
///
/// # Errors
/// If nobody has the console.
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

/// Reads a domain's console until `found` says so of what it has said, `None` at its end, or the deadline.
///
/// # Errors
/// If nobody has the console, or the deadline passes.
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

/// Carries bytes both ways.
fn talk(socket: &mut dyn Wire, taken: Keys) -> Result<Left> {
    let (keyboard, domain) = (io::stdin().as_raw_fd(), socket.as_raw_fd());
    let mut fds = vec![domain];
    if taken == Keys::Taken {
        fds.push(keyboard);
    }
    let mut bytes = [0; 1024];
    // Without the buffer of `Stdin`, whose content nobody can wait for.
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
                // A script's end: the output still counts.
                fds.truncate(1);
            } else if socket.write_all(typed).is_err() {
                return Ok(Left::Domain);
            }
        }
    }
}
