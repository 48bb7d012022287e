//! Attack: map, read or write memory of other domains and of the hypervisor.

#![no_std]
#![no_main]
#![expect(unsafe_code, reason = "touches what it may not")]

use samples::Attack;
use xenlike_rt::abi::arch_x86::MACH2PHYS_VIRT_START;
use xenlike_rt::abi::xen::{DOMID_IO, DOMID_SELF, DOMID_XEN};
use xenlike_rt::abi::xenlike::DOMID_BOOT;
use xenlike_rt::memory::{mfn_of, pfn_of_mfn};
use xenlike_rt::paging::{Access, Window};
use xenlike_rt::{events, from_long, grants, start_info, traps};

xenlike_rt::entry!(main);

/// Addresses of the hypervisor behind its M2P.
#[cfg(target_pointer_width = "32")]
const HIDDEN: [usize; 4] = [0xfc00_0000, 0xfd00_0000, 0xffff_0000, 0xffff_f000];
/// Addresses of the hypervisor behind its M2P.
#[cfg(target_pointer_width = "64")]
const HIDDEN: [usize; 10] = [
    0xffff_8040_0000_0000,
    0xffff_8100_0000_0000,
    0xffff_8180_0000_0000,
    0xffff_8200_0000_0000,
    0xffff_82c0_0000_0000,
    0xffff_82d0_4000_0000,
    0xffff_82e0_0000_0000,
    0xffff_8300_0000_0000,
    0xffff_8300_0010_0000,
    0xffff_87ff_ffff_f000,
];

/// Machine frames that don't belong to this domain.
fn foreign_frames() -> impl Iterator<Item = u64> {
    let own = from_long(start_info().nr_pages);
    (0x100..0x2_0000).step_by(0x6ff).filter(move |mfn| {
        let mut pfn = u64::MAX;
        // The M2P may lack pages for some numbers.
        let _ = traps::attempt(|| pfn = pfn_of_mfn(*mfn));
        pfn >= own || mfn_of(pfn) != Some(*mfn)
    })
}

fn main() {
    let mut attack = Attack::new("hostile-foreign", "use memory that is not its own");
    let own = events::own_domain().expect("the own id");

    for mfn in foreign_frames().take(40) {
        for access in [Access::ReadOnly, Access::ReadWrite] {
            let outcome = Window::map(&[mfn], DOMID_SELF, access).map(|window| window.address());
            attack.refused("a foreign frame as its own", outcome);
        }
    }
    let owners = [
        0,
        own.wrapping_sub(1),
        own + 1,
        DOMID_BOOT,
        DOMID_XEN,
        DOMID_IO,
        0x7ff4,
        0x7fff,
        0xffff,
    ];
    for owner in owners {
        let mfn = foreign_frames().next().expect("there is more memory");
        for mfn in [mfn, 0, 0xa0, 0xfee00, 0xfec00, 1 << 39, (1 << 40) - 1] {
            let outcome = Window::map(&[mfn], owner, Access::ReadOnly);
            attack.refused(
                "a frame by its owner",
                outcome.map(|window| window.address()),
            );
        }
        for reference in [0, 1, 8, 100_000, u32::MAX] {
            let outcome = grants::Mapping::new(owner, reference, Access::ReadOnly);
            attack.refused(
                "a grant never given",
                outcome.map(|mapping| mapping.as_ptr()),
            );
        }
    }

    // The M2P can be read but not written; the rest of the hypervisor's range is inaccessible.
    let m2p = MACH2PHYS_VIRT_START as usize;
    let written = traps::attempt(|| {
        let entry = core::ptr::with_exposed_provenance_mut::<u64>(m2p);
        // SAFETY: must fault.
        unsafe { entry.write_volatile(0) };
    });
    attack.holds("a store into the M2P faults", written.is_err());
    for address in HIDDEN {
        let read = traps::attempt(|| {
            // SAFETY: must fault.
            let _ = unsafe { core::ptr::with_exposed_provenance::<u64>(address).read_volatile() };
        });
        attack.holds("a load from the hypervisor's range faults", read.is_err());
    }
    attack.finish();
}
