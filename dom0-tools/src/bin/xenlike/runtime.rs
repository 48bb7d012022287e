//! What this program knows of the domains that it has made, beside what Xenstore may have: a folder for each
//! below `/run/xenlike`, named by its number, true while the domain with that UUID lives.

use std::fs;
use std::path::PathBuf;
use std::time::SystemTime;

use anyhow::{Context, Result};
use dom0_tools::config::DomainConfig;
use dom0_tools::hyper::domain::DomainInfo;
use dom0_tools::hyper::{DomId, Mfn, Port};
use serde::{Deserialize, Serialize};

/// Where it is kept.
pub const FOLDER: &str = "/run/xenlike";

/// A domain that this program has made.
#[derive(Debug, Clone)]
pub struct Record {
    /// Its number.
    pub id: DomId,
    /// The frame of its console ring.
    pub console: Mfn,
    /// Its end of the console's channel.
    pub console_port: Port,
    /// Its UUID, by which another domain with the same number is told apart.
    pub uuid: [u8; 16],
    /// Whether a Xenstore has its name and xenconsoled its console; else its keeper has both.
    pub served: bool,
    /// When it was made, in seconds since 1970.
    pub started: u64,
    /// What it was made from.
    pub config: DomainConfig,
}

/// The same as it is written.
#[derive(Serialize, Deserialize)]
struct Written {
    console: u64,
    console_port: u32,
    uuid: [u8; 16],
    served: bool,
    started: u64,
    config: DomainConfig,
}

fn folder(id: DomId) -> PathBuf {
    PathBuf::from(FOLDER).join(id.to_string())
}

impl Record {
    /// Where its keeper listens.
    pub fn socket(&self) -> PathBuf {
        folder(self.id).join("console")
    }

    /// Writes it down, in the place of what was known of an older domain with its number.
    ///
    /// # Errors
    /// When the folder can't be written.
    pub fn save(&self) -> Result<()> {
        let folder = folder(self.id);
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        self.write()
    }

    fn write(&self) -> Result<()> {
        let written = Written {
            console: self.console.0,
            console_port: self.console_port.0,
            uuid: self.uuid,
            served: self.served,
            started: self.started,
            config: self.config.clone(),
        };
        let path = folder(self.id).join("domain.json");
        // In one step, for who reads it meanwhile.
        let new = path.with_extension("new");
        let bytes = serde_json::to_vec(&written)?;
        let done = fs::write(&new, bytes).and_then(|()| fs::rename(&new, &path));
        done.with_context(|| path.display().to_string())
    }

    /// Gives the domain another name, in what is known of it here.
    ///
    /// # Errors
    /// When it can't be written down.
    pub fn rename(&self, name: &str) -> Result<()> {
        let mut record = self.clone();
        name.clone_into(&mut record.config.name);
        record.write()
    }

    /// What is known of domain `id`.
    pub fn load(id: DomId) -> Option<Record> {
        let bytes = fs::read(folder(id).join("domain.json")).ok()?;
        let written: Written = serde_json::from_slice(&bytes).ok()?;
        Some(Record {
            id,
            console: Mfn(written.console),
            console_port: Port(written.console_port),
            uuid: written.uuid,
            served: written.served,
            started: written.started,
            config: written.config,
        })
    }

    /// What is known of a living domain.
    pub fn of(info: &DomainInfo) -> Option<Record> {
        Record::load(info.id).filter(|record| record.uuid == info.handle)
    }

    /// For how many seconds it has run.
    pub fn age(&self) -> Option<u64> {
        now()?.checked_sub(self.started)
    }

    /// Forgets it, unless another domain has its number by now.
    pub fn forget(&self) {
        if Record::load(self.id).is_some_and(|now| now.uuid == self.uuid) {
            let _ = fs::remove_dir_all(folder(self.id));
        }
    }
}

/// Seconds since 1970.
pub fn now() -> Option<u64> {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.ok().map(|since| since.as_secs())
}
