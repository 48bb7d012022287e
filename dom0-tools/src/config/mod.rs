//! Domain configurations in xl's `.cfg` syntax.
//!
//! [`parse`] turns a file into a [`DomainConfig`] plus warnings; every fault is one sentence with file and line.
//! What the file means is in `keys`, which keys xl has in `known`, how it is written in `syntax`, CPU lists in `cpus`.

mod cpus;
mod keys;
mod known;
mod syntax;

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use crate::hyper::domain::Ending;

use serde::{Deserialize, Serialize};

pub use cpus::{CpuSet, MAX_CPU};
pub use keys::parse;

/// What happens to a domain when it ends (`on_poweroff=` and its like).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    /// Remove the domain.
    Destroy,
    /// Remove it and create it again from its configuration.
    Restart,
    /// Keep the ended domain under another name and create it again.
    RenameRestart,
    /// Keep the ended domain as it is.
    Preserve,
}

/// Where the vCPUs of a domain may run (`cpus=`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Pinning {
    /// On every CPU.
    Any,
    /// All vCPUs on one set of CPUs.
    All(CpuSet),
    /// One set a vCPU, in order; vCPUs beyond the list run anywhere.
    Each(Vec<Option<CpuSet>>),
}

/// A PV domain as its configuration describes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DomainConfig {
    /// `name=`.
    pub name: String,
    /// `uuid=`; chosen at creation if absent.
    pub uuid: Option<[u8; 16]>,
    /// `kernel=`: file name of the kernel image.
    pub kernel: String,
    /// `ramdisk=`: file name of the initial RAM disk.
    pub ramdisk: Option<String>,
    /// The kernel's command line: `cmdline=`, or `root=` and `extra=` put together.
    pub cmdline: String,
    /// `memory=` in MiB: what the domain starts with.
    pub memory_mib: u64,
    /// `maxmem=` in MiB: how far it may grow.
    pub max_memory_mib: u64,
    /// `vcpus=`: how many are there at the start.
    pub vcpus: u32,
    /// `maxvcpus=`: how many it may bring up.
    pub max_vcpus: u32,
    /// `cpus=`.
    pub pinning: Pinning,
    /// `cpu_weight=`, scheduler weight (256 is the usual one).
    pub weight: Option<u16>,
    /// `cap=` in percent of one CPU; 0 is no cap.
    pub cap: Option<u16>,
    /// `max_grant_frames=`.
    pub max_grant_frames: Option<u32>,
    /// `max_maptrack_frames=`.
    pub max_maptrack_frames: Option<u32>,
    /// `max_grant_version=`.
    pub max_grant_version: Option<u32>,
    /// `on_poweroff=`.
    pub on_poweroff: Action,
    /// `on_reboot=`.
    pub on_reboot: Action,
    /// `on_watchdog=`.
    pub on_watchdog: Action,
    /// `on_crash=`.
    pub on_crash: Action,
}

impl DomainConfig {
    /// What happens to the domain when it has ended this way: a suspended one stays, as its image is in it; one that
    /// ended in a way that nobody knows is removed (as xl does).
    #[must_use]
    pub const fn action_at(&self, ending: Ending) -> Action {
        match ending {
            Ending::PowerOff => self.on_poweroff,
            Ending::Reboot => self.on_reboot,
            Ending::Crash => self.on_crash,
            Ending::Watchdog => self.on_watchdog,
            Ending::Suspend => Action::Preserve,
            Ending::Other(_) => Action::Destroy,
        }
    }
}

/// Where a setting stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In a file, on this line.
    Line(String, usize),
    /// In a file; it is about something that the file lacks.
    File(String),
    /// On the command line, behind the file's name.
    CommandLine,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Line(file, line) => write!(f, "{file}:{line}"),
            Place::File(file) => f.write_str(file),
            Place::CommandLine => f.write_str("on the command line"),
        }
    }
}

/// A file that a configuration names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedFile {
    /// The key that names it, and where that stands: `a.cfg:3: kernel`.
    pub by: String,
    /// Its name.
    pub name: String,
}

/// A configuration and what was odd about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parsed {
    /// The domain.
    pub config: DomainConfig,
    /// Sentences about keys that were ignored, with their place.
    pub warnings: Vec<String>,
    /// The files that it takes to create the domain.
    pub files: Vec<NamedFile>,
}

/// Why a file is not a usable configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// Where the fault is.
    pub place: Place,
    /// What is wrong, in words.
    pub cause: String,
    /// What else was odd. These are to be told first: the fault may follow from a key that was misspelt.
    pub warnings: Vec<String>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.cause)
    }
}

impl core::error::Error for ConfigError {}

#[cfg(test)]
mod against_xl;
#[cfg(test)]
mod documented;
#[cfg(test)]
mod tests;
