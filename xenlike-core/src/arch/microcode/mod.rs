//! Updates of the CPUs' microcode: which one of a file fits a CPU, and how all CPUs get it.
//!
//! [`newest`] reads the vendor's file ([`intel`], [`amd`]), which may be damaged. The first CPU loads what it chose by
//! [`lead`]; the others follow, at the boot when they start, later in a [`meeting`] of all CPUs. [`Registers`] is what
//! the rules know of a CPU.

mod amd;
mod hardware;
mod intel;
pub mod meeting;
#[cfg(test)]
mod tests;

use alloc::vec::Vec;
use core::fmt;

pub use super::cpu::Vendor;
use crate::kit::atomic::{AtomicBool, AtomicU64, Ordering};
pub use hardware::{Hardware, follow_boot_cpu};

/// What updates are chosen by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Identity {
    /// Who made the CPU.
    pub vendor: Vendor,
    /// EAX of CPUID's leaf 1.
    pub signature: u32,
    /// The bit of its platform, on Intel's; else 0.
    pub platform: u32,
    /// The revision of its microcode.
    pub revision: u32,
}

/// An update that fits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Update<'a> {
    /// The revision that a CPU has once it is loaded.
    pub revision: u32,
    /// Month, day and year in BCD, from the highest byte down.
    pub date: u32,
    /// All that the CPU needs of it, its header included.
    pub bytes: &'a [u8],
}

/// Whether a CPU takes what it has already, or had.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Version {
    /// Only what is newer.
    Newer,
    /// Also what is as old as its own, or older.
    Any,
}

/// Whether updates are taken whose origin the CPU can't prove.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trust {
    /// None: where the CPU's own proof can be forged, nothing is loaded.
    CpusAlone,
    /// All: whoever gave the file is trusted (`ucode=digest-check=no`).
    File,
}

static TRUSTS_FILES: AtomicBool = AtomicBool::new(false);

/// Sets what [`trust`] gives.
pub fn set_trust(trust: Trust) {
    TRUSTS_FILES.store(trust == Trust::File, Ordering::Relaxed);
}

/// What the command line says.
pub fn trust() -> Trust {
    match TRUSTS_FILES.load(Ordering::Relaxed) {
        true => Trust::File,
        false => Trust::CpusAlone,
    }
}

/// Why a CPU has not been updated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// This CPU takes no updates.
    NotOffered,
    /// It would hang, at its present revision.
    Final(u32),
    /// The file isn't what it should be.
    Damaged(&'static str),
    /// The file has none for this CPU.
    NoneFits,
    /// The CPU would take forged ones.
    Unproven,
    /// It has this one, or a newer one: its own revision and the file's.
    NotNewer(u32, u32),
    /// After all it has the first of these revisions, not the second.
    NotTaken(u32, u32),
    /// Some CPUs didn't come, or another update is under way.
    Busy,
    /// There is too little memory.
    NoMemory,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotOffered => f.write_str("this CPU takes no updates"),
            Self::Final(own) => write!(f, "this CPU can't leave revision {own:#x} safely"),
            Self::Damaged(how) => write!(f, "the file is damaged: {how}"),
            Self::NoneFits => f.write_str("the file has no update for this CPU"),
            Self::Unproven => f.write_str(
                "this CPU would take a forged update (CVE-2024-56161); ucode=digest-check=no trusts the file",
            ),
            Self::NotNewer(own, offered) => {
                write!(f, "the file has revision {offered:#x}, the CPU {own:#x}")
            }
            Self::NotTaken(left, offered) => write!(
                f,
                "the CPU did not take revision {offered:#x}, it has {left:#x}"
            ),
            Self::Busy => f.write_str("not all CPUs came together"),
            Self::NoMemory => f.write_str("there is too little memory"),
        }
    }
}

/// Whether a CPU can be updated at all. Zen 1 to 5 check updates by a weak hash (AMD-SB-7033, CVE-2024-56161), and
/// there is no list here of what AMD has published.
pub fn offered(cpu: &Identity, trust: Trust) -> Result<(), Refusal> {
    /// Revisions of AMD's family 10h that hang when they are to be replaced.
    const FINAL: [u32; 3] = [0x0100_0098, 0x0100_009f, 0x0100_00af];
    let family = super::cpu::signature(cpu.signature).family;
    match cpu.vendor {
        // What a hypervisor shows that doesn't want any.
        _ if cpu.revision == u32::MAX => Err(Refusal::NotOffered),
        Vendor::Intel if family >= 6 => Ok(()),
        Vendor::Amd if family == 0x10 && FINAL.contains(&cpu.revision) => {
            Err(Refusal::Final(cpu.revision))
        }
        Vendor::Amd if family >= 0x17 && trust == Trust::CpusAlone => Err(Refusal::Unproven),
        Vendor::Amd if family >= 0x10 => Ok(()),
        _ => Err(Refusal::NotOffered),
    }
}

/// The newest update for `cpu` in a file. One that stands before a damaged place counts.
pub fn newest<'a>(file: &'a [u8], cpu: &Identity) -> Result<Update<'a>, Refusal> {
    let mut best: Option<Update<'a>> = None;
    let mut found = |update: Update<'a>| {
        if best.is_none_or(|best| update.revision > best.revision) {
            best = Some(update);
        }
    };
    let end = match cpu.vendor {
        Vendor::Intel => intel::each(file, cpu, &mut found),
        Vendor::Amd => amd::each(file, cpu, &mut found),
        Vendor::Other => Ok(()),
    };
    match (best, end) {
        (Some(best), _) => Ok(best),
        (None, Ok(())) => Err(Refusal::NoneFits),
        (None, Err(how)) => Err(Refusal::Damaged(how)),
    }
}

/// The little-endian word at a byte offset.
fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..)?.first_chunk()?;
    Some(u32::from_le_bytes(*bytes))
}

/// An update as CPUs read it, aligned as Intel's want it (SDM vol. 3 §10.11.6), with what it is for.
#[derive(Debug)]
pub struct Order {
    /// The CPU that it was chosen for, before the update.
    cpu: Identity,
    revision: u32,
    version: Version,
    blocks: Vec<u128>,
}

const _: () = assert!(align_of::<u128>() == 16);

impl Order {
    /// Copies an update that was chosen for `cpu`.
    pub fn new(update: &Update<'_>, cpu: &Identity, version: Version) -> Result<Self, Refusal> {
        let mut blocks = Vec::new();
        let count = update.bytes.len().div_ceil(size_of::<u128>());
        blocks
            .try_reserve_exact(count)
            .map_err(|_| Refusal::NoMemory)?;
        blocks.extend(update.bytes.chunks(size_of::<u128>()).map(|chunk| {
            let mut block = [0; size_of::<u128>()];
            for (to, from) in block.iter_mut().zip(chunk) {
                *to = *from;
            }
            u128::from_ne_bytes(block)
        }));
        Ok(Self {
            cpu: *cpu,
            revision: update.revision,
            version,
            blocks,
        })
    }

    /// What the loader's register is to be given.
    fn address(&self) -> u64 {
        let start = self.blocks.as_ptr() as u64;
        match self.cpu.vendor {
            Vendor::Intel => start.wrapping_add(intel::HEADER as u64),
            _ => start,
        }
    }

    /// Lets all CPUs that follow have it. It must live as long as they may load it.
    pub fn announce(&self) {
        let kind = u64::from(self.cpu.signature) << 32 | u64::from(self.cpu.platform);
        let forced = u64::from(self.version == Version::Any);
        ANNOUNCED.kind.store(kind, Ordering::Relaxed);
        let revision = forced << 32 | u64::from(self.revision);
        ANNOUNCED.revision.store(revision, Ordering::Relaxed);
        ANNOUNCED.address.store(self.address(), Ordering::Release);
    }

    /// Keeps it for good: a CPU that starts late may still load it.
    pub fn keep(self) {
        core::mem::forget(self.blocks);
    }
}

/// What CPUs that follow load, in words that an NMI's handler can read. No address: nothing.
struct Announced {
    address: AtomicU64,
    kind: AtomicU64,
    revision: AtomicU64,
}

static ANNOUNCED: Announced = Announced {
    address: AtomicU64::new(0),
    kind: AtomicU64::new(0),
    revision: AtomicU64::new(0),
};

/// Ends what [`Order::announce`] began.
pub fn withdraw() {
    ANNOUNCED.address.store(0, Ordering::Release);
}

/// What loading needs of a CPU.
pub trait Registers {
    /// What this CPU is, and has.
    fn identity(&self) -> Identity;
    /// Has it load the update at a linear address; tells whether it raised no fault. It may have ignored it even so.
    fn load(&self, address: u64) -> bool;
}

fn load(cpu: &impl Registers, address: u64, revision: u32) -> Result<(), Refusal> {
    let loads = cpu.load(address);
    match cpu.identity().revision {
        now if now == revision && loads => Ok(()),
        now => Err(Refusal::NotTaken(now, revision)),
    }
}

/// Loads an update on the first CPU, for which it was chosen.
pub fn lead(cpu: &impl Registers, order: &Order) -> Result<(), Refusal> {
    let own = cpu.identity().revision;
    if order.version == Version::Newer && own >= order.revision {
        return Err(Refusal::NotNewer(own, order.revision));
    }
    load(cpu, order.address(), order.revision)
}

/// Loads what was announced on another CPU, if it is of the same kind and older. A sibling thread of Intel's has it
/// already; AMD's threads each have a part of their own.
pub fn follow(cpu: &impl Registers) -> Result<(), Refusal> {
    let address = ANNOUNCED.address.load(Ordering::Acquire);
    let kind = ANNOUNCED.kind.load(Ordering::Relaxed);
    let word = ANNOUNCED.revision.load(Ordering::Relaxed);
    let (forced, revision) = (word >> 32 != 0, word as u32);
    if address == 0 {
        return Ok(());
    }
    let own = cpu.identity();
    if kind != u64::from(own.signature) << 32 | u64::from(own.platform) {
        return Err(Refusal::NoneFits);
    }
    let is_own_part = own.vendor == Vendor::Amd && own.revision == revision;
    if own.revision >= revision && !forced && !is_own_part {
        return Ok(());
    }
    load(cpu, address, revision)
}
