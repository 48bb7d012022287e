//! The hypervisor's address map: L4 slots 256 to 271. They are the same in every address space, except
//! slot 260, which belongs to the running domain. The public ABI fixes the outer bounds (arch-x86_64
//! xen.h: HYPERVISOR_VIRT_START, HYPERVISOR_VIRT_END).

use guest_pv_abi::arch_x86::narrow;

use crate::kit::{Mfn, Once, Vaddr};

/// The number of bytes that an L4 slot spans.
pub const SLOT_BYTES: u64 = 1 << 39;

/// The first L4 slot that is the hypervisor's.
pub const FIRST_SLOT: usize = 256;
/// The last L4 slot that is the hypervisor's.
pub const LAST_SLOT: usize = 271;

/// Returns the first address of an L4 slot in the upper half.
const fn slot(n: usize) -> u64 {
    0xffff_0000_0000_0000 | (n as u64 * SLOT_BYTES)
}

/// The first address of the hypervisor (HYPERVISOR_VIRT_START).
pub const HYPERVISOR_START: u64 = slot(FIRST_SLOT);
/// The first address above the hypervisor, which is a guest's again (HYPERVISOR_VIRT_END).
pub const HYPERVISOR_END: u64 = slot(LAST_SLOT + 1);

/// The machine-to-physical table, 8 bytes for each frame, which guests can read (MACH2PHYS_VIRT_START).
pub const M2P: u64 = slot(256);
/// The end of the table, as guests know it (MACH2PHYS_VIRT_END).
pub const M2P_END: u64 = M2P + (256 << 30);

/// The mappings of the two machine-to-physical tables through which the hypervisor writes them: the one of wide guests,
/// then the one of narrow guests.
pub const M2P_OWN: u64 = slot(258);
/// See [`M2P_OWN`].
pub const NARROW_M2P_OWN: u64 = M2P_OWN + (256 << 30);

/// The mappings of device registers, and the per-CPU stack blocks.
pub const DEVICES: u64 = slot(257);

/// The L4 slot of the running domain's area.
pub const PERDOMAIN_SLOT: usize = 260;
/// The first address of the running domain's area: GDT and LDT windows.
pub const PERDOMAIN: u64 = slot(PERDOMAIN_SLOT);
/// The size of a vCPU's window: 16 pages of GDT, then 16 pages of LDT.
pub const WINDOW_BYTES: u64 = 32 << 12;
/// The offset of the LDT in a vCPU's window.
pub const LDT_OFFSET: u64 = 16 << 12;

/// The address of the hypervisor's image.
pub const IMAGE: u64 = 0xffff_82d0_4000_0000;
/// The frame table, [`super::frame::FRAME_BYTES`] bytes for each frame.
pub const FRAME_TABLE: u64 = 0xffff_82e0_0000_0000;
/// The end of the frame table.
pub const FRAME_TABLE_END: u64 = slot(262);

/// The direct map of all RAM.
pub const DIRECT_MAP: u64 = slot(262);
/// The end of the direct map, which has room for 5 TiB of RAM.
pub const DIRECT_MAP_END: u64 = HYPERVISOR_END;

/// The maximum number of frames that the core can manage.
pub const MAX_FRAMES: u64 = (DIRECT_MAP_END - DIRECT_MAP) >> 12;

/// The first address of the hypervisor in the 4 GiB of a narrow guest (HYPERVISOR_VIRT_START), where the guest finds its
/// machine-to-physical table of 4-byte entries.
pub const NARROW_START: u64 = narrow::COMPAT_VIRT_START;
/// The end of the room for that table, as on a 64-bit Xen. (MACH2PHYS_VIRT_END is the end on a 32-bit one.)
pub const NARROW_M2P_END: u64 = 0xffe0_0000;
/// The first entry of the hypervisor in the L2 of a narrow guest's last GiB. It has all entries from there on.
pub const NARROW_FIRST_SLOT: usize = Vaddr(NARROW_START).index(2);
/// The number of frames that a narrow guest's machine-to-physical table can describe.
pub const NARROW_M2P_FRAMES: u64 = (NARROW_M2P_END - NARROW_START) / 4;

/// The master L4. Its slots 256 to 271 are copied into every L4 that a guest makes.
pub static MASTER: Once<Mfn> = Once::new();

/// Returns the first address of the GDT window of vCPU `vcpu`.
pub const fn gdt_window(vcpu: u32) -> Vaddr {
    Vaddr(PERDOMAIN + vcpu as u64 * WINDOW_BYTES)
}

/// Returns the first address of the LDT window of vCPU `vcpu`.
pub const fn ldt_window(vcpu: u32) -> Vaddr {
    Vaddr(PERDOMAIN + vcpu as u64 * WINDOW_BYTES + LDT_OFFSET)
}

/// Whether all of the `bytes` bytes at `va` are a guest's: canonical, and outside the hypervisor's slots.
#[inline]
pub const fn guest_range(va: Vaddr, bytes: u64) -> bool {
    let Some(end) = va.0.checked_add(bytes) else {
        return va.0 >= HYPERVISOR_END && va.0.wrapping_add(bytes) == 0;
    };
    end <= 1 << 47 || va.0 >= HYPERVISOR_END
}

/// An address at which nothing is ever mapped: the first one of the hole between the two halves of the address
/// space. A CPU that ignores the upper bits while it speculates accesses the start of the M2P instead, which
/// guests may read anyway (AMD: transient execution of non-canonical accesses).
pub const NOWHERE: Vaddr = Vaddr(1 << 47);

/// Returns `va` if it is a guest's address, and otherwise [`NOWHERE`]. For an access to a few words from there
/// on. Such an access can't reach the hypervisor's slots: after the lower half comes the hole, where it faults,
/// and after the last address comes the first one. The caller's access must have an entry in the exception
/// table, for addresses that were not a guest's.
///
/// There is no branch here that speculation could bypass (Spectre v1).
#[inline(always)] // six instructions
#[cfg_attr(
    target_os = "none",
    expect(
        unsafe_code,
        reason = "the compiler must not turn the arithmetic into a branch"
    )
)]
pub fn guest_or_nowhere(va: Vaddr) -> Vaddr {
    // As signed numbers, the addresses of guests are one range around 0. In this unit, the bounds are small.
    const UNIT: u32 = 43;
    const BEFORE: i64 = -(HYPERVISOR_END as i64 >> UNIT);
    const UNITS: i64 = BEFORE + (1 << (47 - UNIT));
    #[cfg(target_os = "none")]
    {
        let mut at = va.0;
        // SAFETY: arithmetic on registers.
        unsafe {
            core::arch::asm!(
                "mov {unit}, {at}",
                "sar {unit}, {shift}",
                "add {unit}, {before}",
                "cmp {unit}, {units}",
                "cmovae {at}, {nowhere}",
                at = inout(reg) at,
                unit = out(reg) _,
                nowhere = in(reg) NOWHERE.0,
                shift = const UNIT,
                before = const BEFORE,
                units = const UNITS,
                options(pure, nomem, nostack),
            );
        }
        Vaddr(at)
    }
    #[cfg(not(target_os = "none"))]
    {
        let unit = (va.0 as i64 >> UNIT) + BEFORE;
        if (0..UNITS).contains(&unit) {
            va
        } else {
            NOWHERE
        }
    }
}

const _: () = {
    assert!(HYPERVISOR_END.is_multiple_of(1 << 43));
    assert!(HYPERVISOR_START == 0xffff_8000_0000_0000);
    assert!(HYPERVISOR_END == 0xffff_8800_0000_0000);
    assert!(DEVICES == 0xffff_8080_0000_0000);
    assert!(PERDOMAIN == 0xffff_8200_0000_0000);
    assert!(DIRECT_MAP == 0xffff_8300_0000_0000);
    assert!(M2P + MAX_FRAMES * 8 <= M2P_END);
    assert!(NARROW_FIRST_SLOT == 428);
    assert!(IMAGE >= slot(261) && FRAME_TABLE > IMAGE);
    // The part of the frame table that a frame number of 32 bits can reach.
    assert!(FRAME_TABLE + (super::frame::FRAME_BYTES as u64) * (1 << 32) <= FRAME_TABLE_END);
    assert!(MAX_FRAMES <= 1 << 32);
    assert!(FRAME_TABLE + MAX_FRAMES * super::frame::FRAME_BYTES as u64 <= FRAME_TABLE_END);
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_runs_may_begin() {
        for va in [0, 0x7fff_ffff_ffff, HYPERVISOR_END, u64::MAX - 7] {
            assert_eq!(guest_or_nowhere(Vaddr(va)), Vaddr(va), "{va:#x}");
        }
        let last = HYPERVISOR_START - 1;
        for va in [
            1 << 47,
            last,
            HYPERVISOR_START,
            M2P,
            DIRECT_MAP,
            HYPERVISOR_END - 1,
        ] {
            assert_eq!(guest_or_nowhere(Vaddr(va)), NOWHERE, "{va:#x}");
        }
    }

    #[test]
    fn guest_ranges() {
        assert!(guest_range(Vaddr(0), 0));
        assert!(guest_range(Vaddr(0x7fff_ffff_f000), 0x1000));
        assert!(!guest_range(Vaddr(0x7fff_ffff_f000), 0x1001));
        assert!(!guest_range(Vaddr(HYPERVISOR_START - 1), 1));
        assert!(!guest_range(Vaddr(M2P), 8));
        assert!(!guest_range(Vaddr(HYPERVISOR_END - 1), 2));
        assert!(guest_range(Vaddr(HYPERVISOR_END), 8));
        assert!(guest_range(Vaddr(u64::MAX - 7), 8));
        assert!(!guest_range(Vaddr(u64::MAX - 7), 9));
        assert!(!guest_range(Vaddr(1), u64::MAX));
    }
}
