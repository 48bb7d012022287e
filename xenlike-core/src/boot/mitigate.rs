//! Patches the code for this machine, once, before there are guests: the steps
//! against speculation, and SMAP's instructions.
#![expect(unsafe_code, reason = "writes instructions over others")]

use alloc::format;
use alloc::string::String;
use log::{info, warn};

use super::info::{BootInfo, Region};
use super::start::machine_of;
use crate::arch::speculation::wishes::{PerDomain, Wishes};
use crate::arch::speculation::{self, Bugs, Choice, Facts, bugs};
use crate::arch::{cpu, smap};
use crate::entry::harden;
use crate::kit::Vaddr;
use crate::mm::layout::DIRECT_MAP;
use crate::pagetype::l1tf::{self, Policy, SafeAddresses};

/// Chooses and applies the mitigations; returns a line about them for reports.
pub fn decide(info: &BootInfo, wishes: &Wishes) -> String {
    let cpu = Facts::ask();
    let bugs = Bugs::of(&cpu);
    if bugs.meltdown {
        warn_of_meltdown(wishes.xpti);
    }
    let choice = Choice::of(&cpu, bugs, wishes);
    let line = format!("{bugs}; {choice}");
    info!("speculation: {line}");
    speculation::set_hides_avx(choice.hides_avx);
    harden(&choice);
    hide_absent_entries(&cpu, bugs, info, wishes.pv_l1tf);
    line
}

/// Writes the chosen steps into the entry and exit paths.
fn harden(choice: &Choice) {
    let mut written = false;
    for site in harden::sites(choice) {
        // SAFETY: instructions for a place in the stubs that was reserved for them.
        unsafe { write_code(site.at, site.bytes) };
        written = true;
    }
    if written {
        forget_fetched();
    }
}

/// Makes the places that open and close guest memory do so, if the CPUs have SMAP.
pub fn use_smap() {
    if !cpu::features().smap {
        return;
    }
    for place in smap::places() {
        // SAFETY: replaces a no-operation of the same length.
        unsafe { write_code(place.at, place.bytes) };
    }
    forget_fetched();
}

/// Writes instructions into the image.
///
/// # Safety
/// The bytes at `at` are code that may become these instructions. No other CPU runs, and this one isn't executing them.
unsafe fn write_code<const BYTES: usize>(at: Vaddr, bytes: [u8; BYTES]) {
    let at = DIRECT_MAP + machine_of(at.0).0;
    // SAFETY: the image is contiguous in machine memory, and the direct map contains it.
    unsafe { (at as *mut [u8; BYTES]).write(bytes) };
}

/// Executes a serialising instruction, so that instructions fetched before are discarded (SDM vol. 3,
/// Handling Self- and Cross-Modifying Code).
fn forget_fetched() {
    let _ = cpu::cpuid(0, 0);
}

/// Warns that page tables are not isolated, whatever the command line asks for (docs/adr/0009).
fn warn_of_meltdown(xpti: PerDomain) {
    warn!("*** THIS CPU IS OPEN TO MELTDOWN: guests can read the hypervisor's memory ***");
    warn!("*** Page tables are not isolated yet: run only guests that you trust      ***");
    if [xpti.dom0, xpti.domus].contains(&Some(true)) {
        warn!("*** xpti= asks for isolated page tables: that is not built                ***");
    }
}

/// Sets the rule against L1 terminal fault. By default it applies on a CPU with that bug, to all domains but
/// domain 0, as on Xen.
fn hide_absent_entries(cpu: &Facts, bugs: Bugs, info: &BootInfo, wish: PerDomain) {
    let policy = Policy {
        dom0: wish.dom0.unwrap_or(false),
        domus: wish.domus.unwrap_or(bugs.l1tf),
    };
    let (from, looked_at) = bugs::l1tf_safe_from(cpu, cacheable_end(&info.map));
    if bugs.l1tf || policy.dom0 || policy.domus {
        let on = |held| if held { "held to it" } else { "not" };
        info!(
            "L1TF: this CPU is {}open to it; entries that are not present name nothing below {from:#x}: domain 0 is {}, others are {}",
            if bugs.l1tf { "" } else { "not " },
            on(policy.dom0),
            on(policy.domus),
        );
    }
    if policy.dom0 || policy.domus {
        l1tf::set(SafeAddresses { from, looked_at }, policy);
    }
}

/// The end of memory that may be cached: RAM, and what the firmware keeps in RAM.
fn cacheable_end(map: &[Region]) -> u64 {
    const CACHEABLE: [u32; 4] = [1, 3, 4, 7];
    map.iter()
        .filter(|region| CACHEABLE.contains(&region.kind))
        .map(|region| region.range.end)
        .max()
        .unwrap_or(0)
}
