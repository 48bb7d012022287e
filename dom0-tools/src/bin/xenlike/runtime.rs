//! This program's own records of the domains that it has created, besides their nodes in Xenstore. Each has a folder
//! below `/run/xenlike`, named after the domain's number; it is valid while the domain with the recorded UUID lives.

use std::fs;
use std::path::PathBuf;
use std::time::SystemTime;

use anyhow::{Context, Result};
use dom0_tools::config::DomainConfig;
use dom0_tools::hyper::domain::DomainInfo;
use dom0_tools::hyper::{DomId, Mfn, Port};
use serde::{Deserialize, Serialize};

/// The folder that holds the records.
pub const FOLDER: &str = "/run/xenlike";

/// The record of a domain that this program has created.
#[derive(Debug, Clone)]
pub struct Record {
    /// The domain's number.
    pub id: DomId,
    /// Machine frame of the domain's console ring.
    pub console: Mfn,
    /// The domain's port of the console's event channel.
    pub console_port: Port,
    /// The domain's UUID. It tells the domain from a later one with the same number.
    pub uuid: [u8; 16],
    /// Whether Xenstore has its name and xenconsoled serves its console; otherwise its keeper does both.
    pub served: bool,
    /// Time of its creation, in seconds since 1970.
    pub started: u64,
    /// The configuration from which it was created.
    pub config: DomainConfig,
}

/// A record in the form in which it is stored.
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
    /// Path of the socket on which the domain's keeper listens.
    pub fn socket(&self) -> PathBuf {
        folder(self.id).join("console")
    }

    /// Stores the record. Replaces that of an older domain with the same number.
    ///
    /// # Errors
    /// If the folder can't be written.
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
        // Renamed into place, so that concurrent readers see either the old or the new record.
        let new = path.with_extension("new");
        let bytes = serde_json::to_vec(&written)?;
        let done = fs::write(&new, bytes).and_then(|()| fs::rename(&new, &path));
        done.with_context(|| path.display().to_string())
    }

    /// Changes the domain's name in its stored record.
    ///
    /// # Errors
    /// If the record can't be written.
    pub fn rename(&self, name: &str) -> Result<()> {
        let mut record = self.clone();
        name.clone_into(&mut record.config.name);
        record.write()
    }

    /// Reads the record of domain `id`.
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

    /// Reads the record of a living domain; `None` if it belongs to an older domain.
    pub fn of(info: &DomainInfo) -> Option<Record> {
        Record::load(info.id).filter(|record| record.uuid == info.handle)
    }

    /// The number of seconds for which the domain has run.
    pub fn age(&self) -> Option<u64> {
        now()?.checked_sub(self.started)
    }

    /// Removes the record, unless a newer domain has the same number.
    pub fn forget(&self) {
        if Record::load(self.id).is_some_and(|now| now.uuid == self.uuid) {
            let _ = fs::remove_dir_all(folder(self.id));
        }
    }
}

/// The current time in seconds since 1970.
pub fn now() -> Option<u64> {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.ok().map(|since| since.as_secs())
}
