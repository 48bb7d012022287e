//! `wait`, `create --wait` and `sleep`. A domain's keeper removes the domain as soon as it has ended, so a waiting
//! process creates a file, into which the keeper writes how the domain ended.

use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use dom0_tools::hyper::DomId;
use dom0_tools::hyper::domain::{self, Ending};
use dom0_tools::ops::uuid_text;
use dom0_tools::verbs::Request;

use crate::commands::{console_of, other};
use crate::console;
use crate::privcmd::Privcmd;
use crate::runtime::FOLDER;

/// Pause between two checks.
const PAUSE: Duration = Duration::from_millis(100);
/// How long a keeper may take to write how its domain ended.
const KEEPER: Duration = Duration::from_secs(2);

/// A registered wait of this process for a domain's end.
pub struct Watch {
    uuid: [u8; 16],
    id: DomId,
    note: PathBuf,
}

fn notes(uuid: &[u8; 16]) -> PathBuf {
    PathBuf::from(FOLDER).join(format!("waiting-{}", uuid_text(uuid)))
}

/// Tells all waiting processes how a domain ended.
pub fn tell(uuid: &[u8; 16], ending: Ending) {
    let folder = notes(uuid);
    for note in fs::read_dir(&folder).into_iter().flatten().flatten() {
        let waits = PathBuf::from("/proc").join(note.file_name()).exists();
        // Removes the file of a process that has gone without doing so.
        let _ = if waits {
            fs::write(note.path(), ending.code().to_string())
        } else {
            fs::remove_file(note.path())
        };
    }
    // This fails, as intended, while the folder contains files.
    let _ = fs::remove_dir(folder);
}

impl Watch {
    /// Registers a wait for the end of domain `id` with this UUID.
    ///
    /// # Errors
    /// If the file can't be created.
    pub fn of(uuid: &[u8; 16], id: DomId) -> Result<Self> {
        let folder = notes(uuid);
        let note = folder.join(std::process::id().to_string());
        fs::create_dir_all(&folder)
            .and_then(|()| fs::write(&note, ""))
            .with_context(|| note.display().to_string())?;
        Ok(Self {
            uuid: *uuid,
            id,
            note,
        })
    }

    /// Waits for the domain's end. Fails if the deadline passes, or the domain didn't end well.
    ///
    /// # Errors
    /// A message that says how the domain ended.
    pub fn verdict(&self, name: &str, deadline: Option<Instant>) -> Result<()> {
        let mut h = Privcmd::open()?;
        loop {
            match domain::info(&mut h, self.id) {
                Ok(info) if info.handle == self.uuid && !info.dying => {
                    if let Some(ending) = info.ended {
                        return judge(name, Some(ending));
                    }
                }
                _ => return judge(name, self.told()),
            }
            if deadline.is_some_and(|deadline| Instant::now() > deadline) {
                bail!("that took too long");
            }
            thread::sleep(PAUSE);
        }
    }

    /// Reads what the keeper wrote about the end.
    fn told(&self) -> Option<Ending> {
        let deadline = Instant::now() + KEEPER;
        loop {
            let text = fs::read_to_string(&self.note).unwrap_or_default();
            if let Ok(code) = text.parse() {
                return Some(Ending::of_code(code));
            }
            if Instant::now() > deadline {
                return None;
            }
            thread::sleep(PAUSE);
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // The folder stays while other processes wait.
        let _ = fs::remove_file(&self.note);
        let _ = fs::remove_dir(notes(&self.uuid));
    }
}

fn judge(name: &str, ending: Option<Ending>) -> Result<()> {
    match ending {
        Some(Ending::PowerOff | Ending::Reboot | Ending::Suspend) => Ok(()),
        Some(ending) => bail!("{name} {ending}"),
        None => bail!("{name} is gone"),
    }
}

/// Runs `wait`: waits for a domain's end.
pub fn wait(request: &Request) -> Result<()> {
    let seconds = request
        .number("timeout")
        .map_err(|sentence| anyhow!(sentence))?;
    let deadline =
        seconds.and_then(|seconds| Instant::now().checked_add(Duration::from_secs(seconds)));
    let (mut h, word) = (Privcmd::open()?, request.word(0));
    let id = other(&mut h, word)?;
    let Some(text) = request.words().get(1) else {
        let info = domain::info(&mut h, id)?;
        return Watch::of(&info.handle, id)?.verdict(word, deadline);
    };
    let (place, _) = console_of(&mut h, id)?;
    let said = |said: &[u8]| {
        said.windows(text.len().max(1))
            .any(|part| part == text.as_bytes())
    };
    match console::read_until(&place, deadline, &mut |all| said(all))? {
        Some(()) => Ok(()),
        None => bail!("{word} has ended without these words"),
    }
}

/// Runs `sleep`: waits for a number of seconds.
pub fn sleep(seconds: &str) -> Result<()> {
    let seconds = seconds.parse().context("sleep wants a number of seconds")?;
    thread::sleep(Duration::from_secs(seconds));
    Ok(())
}
