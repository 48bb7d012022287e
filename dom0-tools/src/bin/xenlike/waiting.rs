//! `wait`, `create --wait` and `sleep`. The keeper of a domain removes it as soon as it has ended, so a waiting process
//! leaves a file in which the keeper writes how it ended.

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

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(100);
/// How long a keeper may take to say how its domain ended.
const KEEPER: Duration = Duration::from_secs(2);

/// A process that waits for a domain's end.
pub struct Watch {
    uuid: [u8; 16],
    id: DomId,
    note: PathBuf,
}

fn notes(uuid: &[u8; 16]) -> PathBuf {
    PathBuf::from(FOLDER).join(format!("waiting-{}", uuid_text(uuid)))
}

/// Tells all who wait how a domain ended.
pub fn tell(uuid: &[u8; 16], ending: Ending) {
    let folder = notes(uuid);
    for note in fs::read_dir(&folder).into_iter().flatten().flatten() {
        let waits = PathBuf::from("/proc").join(note.file_name()).exists();
        // A process that is gone by now has left its note, or takes it away itself.
        let _ = if waits {
            fs::write(note.path(), ending.code().to_string())
        } else {
            fs::remove_file(note.path())
        };
    }
    // It stays while there are notes in it.
    let _ = fs::remove_dir(folder);
}

impl Watch {
    /// Begins to wait for the end of the domain `id` with that UUID.
    ///
    /// # Errors
    /// When the file can't be made.
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

    /// Waits for the end; an error if it was no good one, or comes too late.
    ///
    /// # Errors
    /// A sentence.
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

    /// What the keeper has said of the end.
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
        // The folder stays while others wait.
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

/// `wait`.
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

/// `sleep`.
pub fn sleep(seconds: &str) -> Result<()> {
    let seconds = seconds.parse().context("sleep wants a number of seconds")?;
    thread::sleep(Duration::from_secs(seconds));
    Ok(())
}
