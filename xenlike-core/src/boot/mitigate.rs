//! What is written into the code for this machine, once, before there are guests: the steps against
//! speculation, and SMAP's instructions.
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

/// Decides, and says what.
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

/// Writes the chosen steps into the ways in and out.
fn harden(choice: &Choice) {
    let mut written = false;
    for site in harden::sites(choice) {
        // SAFETY: bytes of the stubs, where these left room.
        unsafe { write_code(site.at, site.bytes) };
        written = true;
    }
    if written {
        forget_fetched();
    }
}

/// Makes every place where guest memory opens or closes do so, if this machine's CPUs keep ring 0 from it.
pub fn use_smap() {
    if !cpu::features().smap {
        return;
    }
    for place in smap::places() {
        // SAFETY: a no-operation of as many bytes.
        unsafe { write_code(place.at, place.bytes) };
    }
    forget_fetched();
}

/// Writes instructions into the image.
///
/// # Safety
/// The bytes at `at` are code that may be these instructions; no other CPU runs, and this one does not
/// execute them now.
unsafe fn write_code<const BYTES: usize>(at: Vaddr, bytes: [u8; BYTES]) {
    let at = DIRECT_MAP + machine_of(at.0).0;
    // SAFETY: the image is in one piece in memory, and all of that is in the direct map.
    unsafe { (at as *mut [u8; BYTES]).write(bytes) };
}

/// What was fetched before is forgotten (SDM vol. 3 §8.1.3: a serialising instruction).
fn forget_fetched() {
    let _ = cpu::cpuid(0, 0);
}

/// Page tables are not isolated, whatever was asked for.
fn warn_of_meltdown(xpti: PerDomain) {
    warn!("*** THIS CPU IS OPEN TO MELTDOWN: guests can read the hypervisor's memory ***");
    warn!("*** Page tables are not isolated yet: run only guests that you trust      ***");
    if [xpti.dom0, xpti.domus].contains(&Some(true)) {
        warn!("*** xpti= asks for isolated page tables: that is not built                ***");
    }
}

/// The rule of L1 terminal fault. By default, where the CPU is open to it, for all domains but
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

/// Behind the last byte that may be in a cache: RAM, and what the firmware keeps in RAM.
fn cacheable_end(map: &[Region]) -> u64 {
    const CACHEABLE: [u32; 4] = [1, 3, 4, 7];
    map.iter()
        .filter(|region| CACHEABLE.contains(&region.kind))
        .map(|region| region.range.end)
        .max()
        .unwrap_or(0)
}
