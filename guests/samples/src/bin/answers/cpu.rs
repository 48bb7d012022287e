//! CPUID and MSRs of domain 0.

use core::arch::asm;

use xenlike_rt::traps;

use crate::width::cpuid;
use crate::{check, set_cr4};

const OSXSAVE: usize = 1 << 18;
/// Size of the x87 and SSE state with the header, in bytes.
const LEGACY_BYTES: u32 = 576;

/// Reads an MSR; `None` if that faults.
fn rdmsr(number: u32) -> Option<u64> {
    let mut value = 0;
    let read = traps::attempt(|| {
        let (low, high): (u32, u32);
        // SAFETY: reads a register, or traps.
        unsafe { asm!("rdmsr", in("ecx") number, out("eax") low, out("edx") high) };
        value = u64::from(high) << 32 | u64::from(low);
    });
    read.ok().map(|()| value)
}

fn xsave() {
    check("no size before XCR0 is set", cpuid(0xd, 0)[1] == 0);
    set_cr4(|cr4| cr4 | OSXSAVE);
    let set = traps::attempt(|| {
        // SAFETY: x87 and SSE, which are enabled anyway.
        unsafe { asm!("xsetbv", in("ecx") 0, in("eax") 3, in("edx") 0) };
    });
    check("XCR0 can be set", set.is_ok());
    check("its size then", cpuid(0xd, 0)[1] == LEGACY_BYTES);
}

pub fn run() {
    if cpuid(1, 0)[2] >> 26 & 1 != 0 {
        xsave();
    }
    let [flags, mode, khz, incarnation] = cpuid(0x4000_0003, 0);
    check(
        "no scale of its own",
        [mode, khz, incarnation] == [0; 3] && flags & 1 == 0,
    );
    check("nor an offset", cpuid(0x4000_0003, 1) == [0; 4]);
    check("the machine's frequency", cpuid(0x4000_0003, 2)[0] != 0);
    let mtrr = |leaf| cpuid(leaf, 0)[3] >> 12 & 1;
    check(
        "MTRRs in both leaves",
        mtrr(1) == 1 && mtrr(0x8000_0001) == 1,
    );
    let intel = cpuid(0, 0)[1] == u32::from_le_bytes(*b"Genu");
    let caps = cpuid(7, 0)[3] >> 29 & 1 != 0;
    check(
        "ARCH_CAPABILITIES on Intel",
        caps == intel && rdmsr(0x10a).is_some() == intel,
    );
    let mcg = rdmsr(0x179).unwrap_or(0);
    check(
        "banks and interrupts of machine checks",
        mcg & 0xff == 2 && (mcg >> 10 & 1 != 0) == intel,
    );
    let events = (0x18a..=0x18d).map(rdmsr);
    let wanted = intel.then_some(0);
    check(
        "eight event selectors on Intel",
        events.into_iter().all(|value| value == wanted),
    );
    check("no ninth", rdmsr(0x18e).is_none());
}
