//! The keeper of a domain: a process that acts on the domain's end as its configuration says. Where no xenconsoled
//! runs, the keeper also serves the domain's console to any client that attaches.

#![expect(unsafe_code, reason = "poll and setsid")]

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use dom0_tools::config::Action;
use dom0_tools::hyper::DomId;
use dom0_tools::hyper::domain::{self, Ending};
use dom0_tools::store::path;

use crate::privcmd::Privcmd;
use crate::ring::Ring;
use crate::runtime::Record;
use crate::store::Store;
use crate::{commands, libxl, waiting};

/// Bytes of old output that a client receives when it attaches.
const BACKLOG: usize = 16 << 10;
/// Pause between two checks of the domain, in milliseconds.
const LOOK_MS: i32 = 200;
/// How long a keeper may take to get ready.
const READY: Duration = Duration::from_secs(10);

/// Starts the keeper of a new domain. If the keeper serves the console, waits until it listens.
///
/// # Errors
/// If the keeper doesn't get ready.
pub fn start(record: &Record) -> Result<()> {
    let mut keeper = Command::new(std::env::current_exe()?)
        .args([crate::KEEP, &record.id.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .context("the domain's keeper")?;
    let deadline = Instant::now() + READY;
    while !record.served && UnixStream::connect(record.socket()).is_err() {
        if let Some(status) = keeper.try_wait()? {
            bail!("the domain's keeper ended: {status}");
        }
        if Instant::now() > deadline {
            bail!("the domain's keeper does not answer");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// Waits until one of the descriptors is readable, at most [`LOOK_MS`]; returns the readable ones.
pub fn wait(readable: &[RawFd]) -> io::Result<Vec<RawFd>> {
    let mut polled: Vec<libc::pollfd> = readable
        .iter()
        .map(|fd| libc::pollfd {
            fd: *fd,
            events: libc::POLLIN,
            revents: 0,
        })
        .collect();
    // SAFETY: the pointer and the length are those of one array.
    let result = unsafe { libc::poll(polled.as_mut_ptr(), polled.len() as libc::nfds_t, LOOK_MS) };
    if result < 0 {
        let error = io::Error::last_os_error();
        return match error.kind() {
            io::ErrorKind::Interrupted => Ok(Vec::new()),
            _ => Err(error),
        };
    }
    let ready = polled.iter().filter(|polled| polled.revents != 0);
    Ok(ready.map(|polled| polled.fd).collect())
}

struct Keeper {
    record: Record,
    ring: Ring,
    clients: Vec<UnixStream>,
    backlog: VecDeque<u8>,
    /// Typed keys for which the ring had no room yet.
    keys: VecDeque<u8>,
}

/// The main function of the keeper of domain `id`.
///
/// # Errors
/// If the domain's console can't be opened, or the domain can't be created again.
pub fn keep(id: DomId) -> Result<()> {
    // SAFETY: makes a new session, so that closing the terminal doesn't end this process.
    unsafe { libc::setsid() };
    let record = Record::load(id).context("nothing is known of this domain")?;
    let mut h = Privcmd::open()?;
    if record.served {
        return watch(&record, &mut h);
    }
    let ring = Ring::open(&h, &record)?;
    let listener = UnixListener::bind(record.socket())?;
    listener.set_nonblocking(true)?;
    let mut keeper = Keeper {
        record,
        ring,
        clients: Vec::new(),
        backlog: VecDeque::new(),
        keys: VecDeque::new(),
    };
    loop {
        keeper.serve(&listener)?;
        if let Some(end) = ended(&keeper.record, &mut h) {
            // Output that the domain wrote just before its end.
            keeper.output()?;
            if let End::Shutdown(ending) = end {
                let name = &keeper.record.config.name;
                keeper.tell(format!("\r\n[{name} {ending}]\r\n").as_bytes());
            }
            return finish(&keeper.record, &mut h, end);
        }
    }
}

/// Waits for the end of a domain whose console xenconsoled serves.
fn watch(record: &Record, h: &mut Privcmd) -> Result<()> {
    loop {
        wait(&[])?;
        if let Some(end) = ended(record, h) {
            return finish(record, h, end);
        }
    }
}

/// How a domain ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// The domain shut down for this reason.
    Shutdown(Ending),
    /// The domain was destroyed.
    Gone,
}

impl Keeper {
    fn serve(&mut self, listener: &UnixListener) -> Result<()> {
        let mut fds = vec![self.ring.fd(), listener.as_raw_fd()];
        fds.extend(self.clients.iter().map(AsRawFd::as_raw_fd));
        let ready = wait(&fds)?;
        self.output()?;
        if ready.contains(&listener.as_raw_fd()) {
            self.accept(listener);
        }
        self.input(&ready);
        Ok(())
    }

    /// Takes the domain's new output and sends it to all clients.
    fn output(&mut self) -> Result<()> {
        let output = self.ring.take()?;
        self.tell(&output);
        Ok(())
    }

    fn tell(&mut self, output: &[u8]) {
        if output.is_empty() {
            return;
        }
        self.backlog.extend(output);
        let over = self.backlog.len().saturating_sub(BACKLOG);
        self.backlog.drain(..over);
        // A client that has gone or doesn't read is dropped.
        self.clients
            .retain_mut(|client| client.write_all(output).is_ok());
    }

    fn accept(&mut self, listener: &UnixListener) {
        let Ok((mut client, _)) = listener.accept() else {
            return;
        };
        let old: Vec<u8> = self.backlog.iter().copied().collect();
        let limit = Some(Duration::from_secs(1));
        if client.set_write_timeout(limit).is_ok() && client.write_all(&old).is_ok() {
            self.clients.push(client);
        }
    }

    /// Sends the domain the keys that clients typed.
    fn input(&mut self, ready: &[RawFd]) {
        let keys = &mut self.keys;
        self.clients.retain_mut(|client| {
            if !ready.contains(&client.as_raw_fd()) {
                return true;
            }
            let mut typed = [0; 256];
            match client.read(&mut typed) {
                Ok(count @ 1..) => {
                    keys.extend(typed.iter().take(count));
                    true
                }
                _ => false,
            }
        });
        let given = self.ring.give(self.keys.make_contiguous());
        self.keys.drain(..given);
        self.keys.truncate(BACKLOG);
    }
}

fn ended(record: &Record, h: &mut Privcmd) -> Option<End> {
    match domain::info(h, record.id) {
        Ok(info) if info.handle == record.uuid && !info.dying => {
            // A suspended domain is left to the process that saves it, which destroys or resumes it.
            let ended = info.ended.filter(|ending| *ending != Ending::Suspend);
            ended.map(End::Shutdown)
        }
        _ => Some(End::Gone),
    }
}

/// The current record of the domain: its name may have changed, also by `xl rename`.
fn current(record: &Record) -> Record {
    let mut record = Record::load(record.id).unwrap_or_else(|| record.clone());
    if record.served
        && let Some(mut store) = Store::open()
        && let Ok(name) = store.read(&format!("{}/name", path::home(record.id)))
    {
        record.config.name = name;
    }
    record
}

/// Acts on the domain's end as its configuration says.
fn finish(record: &Record, h: &mut Privcmd, end: End) -> Result<()> {
    // The domain may have been renamed.
    let record = &current(record);
    let action = match end {
        End::Gone => {
            libxl::forget(record);
            record.forget();
            return Ok(());
        }
        End::Shutdown(ending) => {
            waiting::tell(&record.uuid, ending);
            record.config.action_at(ending)
        }
    };
    match action {
        Action::Preserve => return Ok(()),
        Action::RenameRestart => commands::rename(record)?,
        Action::Destroy | Action::Restart => {
            commands::remove(h, record.id)?;
            libxl::forget(record);
            record.forget();
        }
    }
    if action != Action::Destroy {
        // Clients reconnect by the domain's name once this keeper's socket is closed.
        commands::start(&record.config, commands::Start::Running)?;
    }
    Ok(())
}
