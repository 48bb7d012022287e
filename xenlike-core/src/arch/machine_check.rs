//! The machine-check banks of this CPU, in which the hardware reports its own errors (SDM vol. 3, Machine-Check
//! Architecture; APM vol. 2 chapter 9).
//!
//! An uncorrected error raises #MC, and `entry` ends the machine. A corrected error raises no exception:
//! [`crate::life::machine_check`] polls for it.

use core::fmt;

use super::{cpu, msr, percpu};
use crate::kit::atomic::{AtomicU64, Ordering};
use crate::kit::cell::PerCpu;
use crate::kit::{CpuSet, MAX_CPUS};

const MCG_CAP: u32 = 0x179;
const MCG_STATUS: u32 = 0x17a;
const MCG_CTL: u32 = 0x17b;
const MC0_CTL: u32 = 0x400;
/// MCG_CAP: the number of banks; MCG_CTL exists; uncorrected errors may be recoverable.
const CAP_BANKS: u64 = 0xff;
const CAP_CTL: u64 = 1 << 8;
const CAP_RECOVERY: u64 = 1 << 24;
/// The number of banks that are used: MSRs of further banks would overlap those of the VMX capabilities.
const MAX_BANKS: u32 = 32;

/// A bank that holds an error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bank {
    /// The number of the bank.
    pub number: u32,
    /// Its MCi_STATUS register, which contains the error code.
    pub status: u64,
    /// Its MCi_ADDR register, or 0 if the status doesn't say that it is valid.
    pub address: u64,
    /// Its MCi_MISC register, or 0 if the status doesn't say that it is valid.
    pub misc: u64,
}

/// Bits of MCi_STATUS (SDM vol. 3, IA32_MCi_STATUS MSRs).
mod status {
    pub const VALID: u64 = 1 << 63;
    pub const UNCORRECTED: u64 = 1 << 61;
    pub const MISC_VALID: u64 = 1 << 59;
    pub const ADDRESS_VALID: u64 = 1 << 58;
    pub const SIGNALED: u64 = 1 << 56;
}

impl Bank {
    fn read(number: u32) -> Option<Self> {
        let base = MC0_CTL + 4 * number;
        let status = msr::read_safe(base + 1).unwrap_or(0);
        let when = |bit: u64, msr: u32| match status & bit {
            0 => 0,
            _ => msr::read_safe(msr).unwrap_or(0),
        };
        (status & status::VALID != 0).then(|| Self {
            number,
            status,
            address: when(status::ADDRESS_VALID, base + 2),
            misc: when(status::MISC_VALID, base + 3),
        })
    }
    /// Whether the hardware could not correct the error.
    pub const fn is_uncorrected(&self) -> bool {
        self.status & status::UNCORRECTED != 0
    }
    /// Whether this error raises #MC, in which case polling for corrected errors must leave it alone. On a CPU
    /// with error recovery, an uncorrected error that is not signalled waits to be polled like a corrected one
    /// (SDM vol. 3, UCR Error Classification).
    const fn raises_exception(&self, cap: u64) -> bool {
        let bit = match cap & CAP_RECOVERY {
            0 => status::UNCORRECTED,
            _ => status::SIGNALED,
        };
        self.status & bit != 0
    }
    /// Clears the bank, so that it can record the next error.
    #[expect(unsafe_code, reason = "writes a bank's status")]
    pub fn clear(&self) {
        // SAFETY: zero is the one value that all banks accept, and it affects error reports only.
        unsafe { msr::write_or_ignore(MC0_CTL + 4 * self.number + 1, 0) };
    }
}

impl fmt::Display for Bank {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "bank {}: status {:#018x} address {:#018x} misc {:#018x}",
            self.number, self.status, self.address, self.misc
        )
    }
}

/// Reads MCG_CAP; 0 on a CPU without machine checks.
pub fn capabilities() -> u64 {
    msr::read_safe(MCG_CAP).unwrap_or(0)
}

/// Reads MCG_STATUS; 0 on a CPU without machine checks.
pub fn global_status() -> u64 {
    msr::read_safe(MCG_STATUS).unwrap_or(0)
}

fn count(cap: u64) -> u32 {
    ((cap & CAP_BANKS) as u32).min(MAX_BANKS)
}

/// The banks of this CPU that hold an error.
pub fn banks() -> impl Iterator<Item = Bank> {
    (0..count(capabilities())).filter_map(Bank::read)
}

/// The banks of this CPU that hold an error for which there is no exception.
pub fn silent_banks() -> impl Iterator<Item = Bank> {
    let cap = capabilities();
    banks().filter(move |bank| !bank.raises_exception(cap))
}

/// Enables all error reports of this CPU's banks. Errors that an earlier system left in them stay, for the poll.
#[expect(unsafe_code, reason = "turns reports on")]
pub fn enable() {
    let cap = capabilities();
    let family_model = cpu::family_model();
    if cap & CAP_CTL != 0 {
        // SAFETY: reports errors by #MC, which the core handles.
        unsafe { msr::write_or_ignore(MCG_CTL, u64::MAX) };
    }
    for number in 0..count(cap) {
        if let Some(bits) = control(cpu::features().vendor, family_model, number) {
            // SAFETY: as above; a bank that refuses the value keeps the firmware's.
            unsafe { msr::write_or_ignore(MC0_CTL + 4 * number, bits) };
        }
    }
}

/// The value for a bank's control register, or `None` if the core must not write it.
fn control(vendor: cpu::Vendor, (family, model): (u32, u32), bank: u32) -> Option<u64> {
    const GART_WALK: u64 = 1 << 10;
    match (vendor, bank) {
        // Before Nehalem, bank 0's control register is for the firmware alone (SDM vol. 3, IA32_MCi_CTL MSRs).
        (cpu::Vendor::Intel, 0) if family == 6 && model < 0x1a => None,
        // The north bridge reports GART walks of speculative accesses as errors (BKDG of families 0Fh and 10h,
        // MC4_CTL).
        (cpu::Vendor::Amd, 4) if family < 0x15 => Some(!GART_WALK),
        _ => Some(u64::MAX),
    }
}

/// The worst error that each CPU found when it took #MC: status (0: none), address, bank number.
static WORST: PerCpu<[AtomicU64; 3]> =
    PerCpu::new([const { [const { AtomicU64::new(0) }; 3] }; MAX_CPUS]);

/// Records this CPU's worst error for [`Worst`]. An exception may hit all CPUs at once, of which one reports for all.
pub fn note_worst() {
    let worst = banks().max_by_key(|bank| (bank.is_uncorrected(), bank.status));
    if let Some(bank) = worst {
        let [status, address, number] = WORST.of(percpu::this_cpu());
        number.store(u64::from(bank.number), Ordering::Relaxed);
        address.store(bank.address, Ordering::Relaxed);
        status.store(bank.status, Ordering::Release);
    }
}

/// Formats the errors in this CPU's banks and the worst errors that other CPUs recorded.
pub struct Worst;

impl fmt::Display for Worst {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for bank in banks() {
            writeln!(f, "machine check {bank}")?;
        }
        for cpu in percpu::online()
            .without(CpuSet::one(percpu::this_cpu()))
            .iter()
        {
            let [status, address, number] = WORST.of(cpu);
            let status = status.load(Ordering::Acquire);
            if status != 0 {
                let number = number.load(Ordering::Relaxed);
                let address = address.load(Ordering::Relaxed);
                writeln!(
                    f,
                    "machine check on {cpu:?}, bank {number}: status {status:#018x} address {address:#018x}"
                )?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cpu::Vendor;

    #[test]
    fn uncorrected_errors_are_left_to_the_exception() {
        let bank = |status| Bank {
            status: status | status::VALID,
            ..Bank::default()
        };
        assert!(!bank(0).raises_exception(0));
        assert!(bank(status::UNCORRECTED).raises_exception(0));
        // No action required: left to the poll, on a CPU that can tell the two apart.
        assert!(!bank(status::UNCORRECTED).raises_exception(CAP_RECOVERY));
        let signaled = status::UNCORRECTED | status::SIGNALED;
        assert!(bank(signaled).raises_exception(CAP_RECOVERY));
    }

    #[test]
    fn banks_with_errata_are_spared() {
        assert_eq!(control(Vendor::Intel, (6, 0x17), 0), None);
        assert_eq!(control(Vendor::Intel, (6, 0x1a), 0), Some(u64::MAX));
        assert_eq!(control(Vendor::Intel, (6, 0x17), 1), Some(u64::MAX));
        assert_eq!(control(Vendor::Amd, (0x10, 4), 4), Some(!(1 << 10)));
        assert_eq!(control(Vendor::Amd, (0x17, 1), 4), Some(u64::MAX));
    }
}
