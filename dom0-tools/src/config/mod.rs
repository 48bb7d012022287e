//! Domain configurations in xl's `.cfg` syntax.
//!
//! [`parse`] turns a file into a [`DomainConfig`] and warnings; every error is one sentence with file and
//! line. `keys` has the meaning of the file, `known` the keys that xl has, `syntax` the grammar, and `cpus`
//! the lists of CPUs.

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

/// What happens to a domain when it ends (`on_poweroff=` and similar keys).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    /// The domain is removed.
    Destroy,
    /// The domain is removed and created again from its configuration.
    Restart,
    /// The ended domain is kept under another name and created again.
    RenameRestart,
    /// The ended domain is kept as it is.
    Preserve,
}

/// Where the vCPUs of a domain may run (`cpus=`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Pinning {
    /// All vCPUs may run on every CPU.
    Any,
    /// All vCPUs may run on this set of CPUs.
    All(CpuSet),
    /// A set for each vCPU, in order; vCPUs beyond the list run anywhere.
    Each(Vec<Option<CpuSet>>),
}

/// A PV domain as its configuration describes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DomainConfig {
    /// `name=`: the name of the domain.
    pub name: String,
    /// `uuid=`; chosen when the domain is created if absent.
    pub uuid: Option<[u8; 16]>,
    /// `kernel=`: name of the file with the kernel image.
    pub kernel: String,
    /// `ramdisk=`: name of the file with the initial RAM disk.
    pub ramdisk: Option<String>,
    /// The kernel's command line: `cmdline=`, or `root=` and `extra=` joined.
    pub cmdline: String,
    /// `memory=` in MiB: memory at the start.
    pub memory_mib: u64,
    /// `maxmem=` in MiB: the maximum memory.
    pub max_memory_mib: u64,
    /// `vcpus=`: number of vCPUs that are up at the start.
    pub vcpus: u32,
    /// `maxvcpus=`: maximum number of vCPUs.
    pub max_vcpus: u32,
    /// `cpus=`: the CPUs on which its vCPUs may run.
    pub pinning: Pinning,
    /// `cpu_weight=`: scheduler weight; the default is 256.
    pub weight: Option<u16>,
    /// `cap=`: maximum CPU time in percent of one CPU; 0 means no cap.
    pub cap: Option<u16>,
    /// `max_grant_frames=`: maximum frames of its grant table.
    pub max_grant_frames: Option<u32>,
    /// `max_maptrack_frames=`: maximum frames for its grant handles.
    pub max_maptrack_frames: Option<u32>,
    /// `max_grant_version=`: the highest grant table version.
    pub max_grant_version: Option<u32>,
    /// `on_poweroff=`: what happens when it powers off.
    pub on_poweroff: Action,
    /// `on_reboot=`: what happens when it reboots.
    pub on_reboot: Action,
    /// `on_watchdog=`: what happens when its watchdog fires.
    pub on_watchdog: Action,
    /// `on_crash=`: what happens when it crashes.
    pub on_crash: Action,
}

impl DomainConfig {
    /// What happens to the domain when it has ended in this way. A suspended domain is kept, since its memory is the
    /// image to save. An unknown reason removes the domain, as xl does.
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

/// Where a setting or an error is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In a file, on this line.
    Line(String, usize),
    /// In a file, without a line, since something is missing there.
    File(String),
    /// On the command line, after the file's name.
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
    /// The key that names it, with its place: `a.cfg:3: kernel`.
    pub by: String,
    /// Name of the file as the configuration gives it.
    pub name: String,
}

/// A configuration, with warnings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parsed {
    /// The configuration of the domain.
    pub config: DomainConfig,
    /// Messages about keys that were ignored, with their places.
    pub warnings: Vec<String>,
    /// The files that are needed to create the domain.
    pub files: Vec<NamedFile>,
}

/// Why a file is not a usable configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The place of the error.
    pub place: Place,
    /// A message about the error.
    pub cause: String,
    /// Warnings to print first, since a misspelt key may have caused the error.
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
