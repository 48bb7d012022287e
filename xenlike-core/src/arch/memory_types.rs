//! How memory is cached: the PAT, which the core chooses, and the MTRRs, which the firmware sets and which must be
//! equal on all CPUs (SDM vol. 3 §12.11.5 and §12.12.4).
#![cfg_attr(
    target_os = "none",
    expect(unsafe_code, reason = "writes MSRs and turns caches off meanwhile")
)]

use arrayvec::ArrayVec;

#[cfg(target_os = "none")]
use {
    super::{cpu, msr},
    crate::kit::Once,
    crate::kit::atomic::{AtomicBool, Ordering},
};

/// The number of variable ranges that are compared.
const MAX_RANGES: usize = 16;
const RANGE_BASE: u32 = 0x200;
const FIXED: [u32; 11] = [
    0x250, 0x258, 0x259, 0x268, 0x269, 0x26a, 0x26b, 0x26c, 0x26d, 0x26e, 0x26f,
];
const DEFAULT_TYPE: u32 = 0x2ff;
/// The bit of [`DEFAULT_TYPE`] that enables the MTRRs.
const ON: u64 = 1 << 11;
/// The highest number of registers; the default type is the last one.
const COUNT: usize = FIXED.len() + 2 * MAX_RANGES + 1;

/// The MTRRs of a CPU whose MTRRCAP is `cap`: fixed ranges if it has them, variable ranges, default type.
fn registers(cap: u64) -> impl Iterator<Item = u32> {
    const HAS_FIXED: u64 = 1 << 8;
    let fixed = FIXED.into_iter().filter(move |_| cap & HAS_FIXED != 0);
    let ranges = (cap as u8 as usize).min(MAX_RANGES) as u32;
    fixed
        .chain(RANGE_BASE..RANGE_BASE + 2 * ranges)
        .chain([DEFAULT_TYPE])
}

/// The writes, as register and value, that turn a CPU with MTRRs `own` into one with `wanted`. There are none if they
/// are equal, or if the CPUs don't have the same registers.
fn changes(cap: u64, wanted: &[u64], own: &[u64]) -> ArrayVec<(u32, u64), { COUNT + 1 }> {
    let mut changes = ArrayVec::new();
    if wanted == own || wanted.len() != own.len() {
        return changes;
    }
    let off = own.last().map_or(0, |default| default & !ON);
    // Ranges change while all are disabled; the default type, which comes last, enables them again.
    let steps = [(DEFAULT_TYPE, off)].into_iter();
    changes.extend(steps.chain(registers(cap).zip(wanted.iter().copied())));
    changes
}

/// The values of this CPU's MTRRs; empty if it has none.
#[cfg(target_os = "none")]
fn own_registers(cap: u64) -> ArrayVec<u64, COUNT> {
    let read = |number| msr::read_safe(number).unwrap_or(0);
    let has_mtrrs = cpu::cpuid(1, 0)[3] >> 12 & 1 != 0;
    let count = if has_mtrrs { COUNT } else { 0 };
    registers(cap).take(count).map(read).collect()
}

/// Sets this CPU's PAT, and its MTRRs as on the boot CPU, which is the first to call.
#[cfg(target_os = "none")]
pub fn init_this_cpu() {
    static BOOT: Once<ArrayVec<u64, COUNT>> = Once::new();
    static SAID: AtomicBool = AtomicBool::new(false);
    const MTRR_CAP: u32 = 0xfe;
    let cap = msr::read_safe(MTRR_CAP).unwrap_or(0);
    let own = own_registers(cap);
    let wanted = BOOT.call_once(|| own.clone());
    let changes = changes(cap, wanted, &own);
    without_caches(|| {
        for (number, value) in &changes {
            // SAFETY: the value that the boot CPU has in the same register.
            unsafe { msr::write_or_ignore(*number, *value) };
        }
        // SAFETY: the memory types that the core's page tables rely on.
        unsafe { msr::write(msr::nr::PAT, msr::PUBLIC_PAT) };
    });
    if *wanted != own && !SAID.swap(true, Ordering::Relaxed) {
        let done = if *wanted == own_registers(cap) {
            "are set alike"
        } else {
            "can't be set alike"
        };
        log::warn!("the firmware left the MTRRs of other CPUs unlike the first CPU's: they {done}");
    }
}

/// Runs `act` as the manual requires for changes of memory types: caches disabled and written back, TLB flushed, before
/// and after it. PGE is off, so a CR3 load flushes the whole TLB.
#[cfg(target_os = "none")]
fn without_caches(act: impl FnOnce()) {
    use core::arch::asm;
    const CACHE_DISABLE: u64 = 1 << 30;
    let (cr0, cr3) = (super::cr::read_cr0(), super::cr::read_cr3());
    // SAFETY: memory keeps its contents, and the address space stays the same.
    unsafe {
        asm!("mov cr0, {cd}", "wbinvd", "mov cr3, {cr3}", cd = in(reg) cr0 | CACHE_DISABLE, cr3 = in(reg) cr3, options(nostack));
    }
    act();
    // SAFETY: as above.
    unsafe {
        asm!("wbinvd", "mov cr3, {cr3}", "mov cr0, {cr0}", cr3 = in(reg) cr3, cr0 = in(reg) cr0, options(nostack));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_registers_fit() {
        assert_eq!(registers(0x1ff).count(), COUNT);
        assert_eq!(registers(0).collect::<std::vec::Vec<_>>(), [DEFAULT_TYPE]);
    }

    #[test]
    fn a_cpu_that_differs_is_switched_off_first_and_on_last() {
        let (cap, wanted) = (1, [6, 0xfff0_0800, 0xc06]);
        assert!(changes(cap, &wanted, &wanted).is_empty());
        let steps = changes(cap, &wanted, &[0, 0, 0xc00]);
        let expected = [
            (DEFAULT_TYPE, 0x400),
            (0x200, 6),
            (0x201, 0xfff0_0800),
            (DEFAULT_TYPE, 0xc06),
        ];
        assert_eq!(steps.as_slice(), expected);
    }
}
