//! Updates of the CPUs' microcode: which update of a file fits a CPU, and how all CPUs get it.
//!
//! [`newest`] reads the vendor's file ([`intel`], [`amd`]), which may be damaged. The first CPU loads its update by
//! [`lead`]. The others follow: at boot when they start, later in a [`meeting`] of all CPUs. [`Registers`] is the
//! rules' view of a CPU.

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

/// The properties of a CPU by which updates are chosen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Identity {
    /// The vendor of the CPU.
    pub vendor: Vendor,
    /// EAX of CPUID leaf 1.
    pub signature: u32,
    /// The bit of the CPU's platform id, for Intel; else 0.
    pub platform: u32,
    /// The revision of the microcode that is loaded.
    pub revision: u32,
}

/// An update that fits a CPU.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Update<'a> {
    /// The revision of the microcode after the update.
    pub revision: u32,
    /// The date in BCD: month, day and year, from the highest byte down.
    pub date: u32,
    /// The bytes that the CPU needs, the update's header included.
    pub bytes: &'a [u8],
}

/// Which revisions a CPU loads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Version {
    /// Only revisions that are newer than the loaded one.
    Newer,
    /// Also revisions that are as old as the loaded one, or older.
    Any,
}

/// Whether updates are accepted whose origin the CPU can't verify.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trust {
    /// No: nothing is loaded on a CPU whose own verification can be forged.
    CpusAlone,
    /// Yes: the origin of the file is trusted (`ucode=digest-check=no`).
    File,
}

static TRUSTS_FILES: AtomicBool = AtomicBool::new(false);

/// Sets the trust that the command line chooses.
pub fn set_trust(trust: Trust) {
    TRUSTS_FILES.store(trust == Trust::File, Ordering::Relaxed);
}

/// The trust that the command line chooses.
pub fn trust() -> Trust {
    match TRUSTS_FILES.load(Ordering::Relaxed) {
        true => Trust::File,
        false => Trust::CpusAlone,
    }
}

/// Why a CPU has not been updated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// The CPU can't be updated.
    NotOffered,
    /// The CPU would hang, because of its current revision.
    Final(u32),
    /// The file is malformed, in this way.
    Damaged(&'static str),
    /// The file contains no update for this CPU.
    NoneFits,
    /// The CPU would accept forged updates.
    Unproven,
    /// The CPU has this revision or a newer one: its own revision, and the file's.
    NotNewer(u32, u32),
    /// After the update the CPU has the first of these revisions, not the second.
    NotTaken(u32, u32),
    /// Some CPUs didn't come, or another update is in progress.
    Busy,
    /// There is too little memory for the update.
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

/// Checks whether a CPU can be updated at all. Zen 1 to Zen 5 verify updates by a weak hash (AMD-SB-7033,
/// CVE-2024-56161), and the core has no list of the hashes that AMD has published.
pub fn offered(cpu: &Identity, trust: Trust) -> Result<(), Refusal> {
    /// Revisions of AMD's family 10h that hang when they are replaced.
    const FINAL: [u32; 3] = [0x0100_0098, 0x0100_009f, 0x0100_00af];
    let family = super::cpu::signature(cpu.signature).family;
    match cpu.vendor {
        // The revision that a hypervisor shows if it permits no updates.
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

/// The newest update for `cpu` in a file. Updates before the first damage count.
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

/// An update in the memory from which CPUs load it, aligned as Intel's require (SDM vol. 3 §10.11.6),
/// and what it is for.
#[derive(Debug)]
pub struct Order {
    /// The CPU that it was chosen for, as it was before the update.
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

    /// The value for the register that loads an update.
    fn address(&self) -> u64 {
        let start = self.blocks.as_ptr() as u64;
        match self.cpu.vendor {
            Vendor::Intel => start.wrapping_add(intel::HEADER as u64),
            _ => start,
        }
    }

    /// Lets all CPUs that follow load it. It must live for as long as they may.
    pub fn announce(&self) {
        let kind = u64::from(self.cpu.signature) << 32 | u64::from(self.cpu.platform);
        let forced = u64::from(self.version == Version::Any);
        ANNOUNCED.kind.store(kind, Ordering::Relaxed);
        let revision = forced << 32 | u64::from(self.revision);
        ANNOUNCED.revision.store(revision, Ordering::Relaxed);
        ANNOUNCED.address.store(self.address(), Ordering::Release);
    }

    /// Leaks the memory, because a CPU that starts late may still load it.
    pub fn keep(self) {
        core::mem::forget(self.blocks);
    }
}

/// What CPUs that follow load, in words that an NMI handler can read. If the address is 0, nothing.
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

/// Ends the effect of [`Order::announce`].
pub fn withdraw() {
    ANNOUNCED.address.store(0, Ordering::Release);
}

/// The operations on a CPU that loading needs.
pub trait Registers {
    /// The identity of this CPU as it is now.
    fn identity(&self) -> Identity;
    /// Loads the update at a linear address; returns false if that faulted. The CPU may have ignored
    /// the update even if not.
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

/// Loads the announced update on another CPU, if it is of the same kind and has an older revision. On Intel, a sibling
/// thread may have loaded it for both; on AMD, each thread loads it.
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
