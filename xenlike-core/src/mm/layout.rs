//! The hypervisor's address map: L4 slots 256 to 271, the same in every address space except slot
//! 260, which is the running domain's own. The public ABI fixes the outer bounds (arch-x86_64 xen.h:
//! HYPERVISOR_VIRT_START, HYPERVISOR_VIRT_END).

use crate::kit::{Mfn, Once, Vaddr};

/// Bytes that one L4 slot spans.
pub const SLOT_BYTES: u64 = 1 << 39;

/// The first L4 slot that is the hypervisor's.
pub const FIRST_SLOT: usize = 256;
/// The last L4 slot that is the hypervisor's.
pub const LAST_SLOT: usize = 271;

/// First address of an L4 slot of the upper half.
const fn slot(n: usize) -> u64 {
    0xffff_0000_0000_0000 | (n as u64 * SLOT_BYTES)
}

/// First address that is the hypervisor's (HYPERVISOR_VIRT_START).
pub const HYPERVISOR_START: u64 = slot(FIRST_SLOT);
/// First address above it that is a guest's again (HYPERVISOR_VIRT_END).
pub const HYPERVISOR_END: u64 = slot(LAST_SLOT + 1);

/// The machine-to-physical table, 8 bytes a frame, readable by guests (MACH2PHYS_VIRT_START).
pub const M2P: u64 = slot(256);
/// Its end as guests are told it (MACH2PHYS_VIRT_END).
pub const M2P_END: u64 = M2P + (256 << 30);

/// Device mappings and the per-CPU stack blocks.
pub const DEVICES: u64 = slot(257);

/// L4 slot of the area that belongs to the running domain.
pub const PERDOMAIN_SLOT: usize = 260;
/// First address of the running domain's area: GDT and LDT windows.
pub const PERDOMAIN: u64 = slot(PERDOMAIN_SLOT);
/// Bytes of the window of one vCPU: 16 pages of GDT, then 16 pages of LDT.
pub const WINDOW_BYTES: u64 = 32 << 12;
/// Offset of the LDT in a vCPU's window.
pub const LDT_OFFSET: u64 = 16 << 12;

/// The hypervisor's image.
pub const IMAGE: u64 = 0xffff_82d0_4000_0000;
/// The frame table, [`super::frame::FRAME_BYTES`] a frame.
pub const FRAME_TABLE: u64 = 0xffff_82e0_0000_0000;
/// Its end.
pub const FRAME_TABLE_END: u64 = slot(262);

/// The direct map of all RAM.
pub const DIRECT_MAP: u64 = slot(262);
/// Its end: 5 TiB of addresses can be named.
pub const DIRECT_MAP_END: u64 = HYPERVISOR_END;

/// The most frames the core can manage.
pub const MAX_FRAMES: u64 = (DIRECT_MAP_END - DIRECT_MAP) >> 12;

/// The master L4: its slots 256 to 271 go into every L4 that a guest makes.
pub static MASTER: Once<Mfn> = Once::new();

/// First address of the GDT window of vCPU number `vcpu`.
pub const fn gdt_window(vcpu: u32) -> Vaddr {
    Vaddr(PERDOMAIN + vcpu as u64 * WINDOW_BYTES)
}

/// First address of the LDT window of vCPU number `vcpu`.
pub const fn ldt_window(vcpu: u32) -> Vaddr {
    Vaddr(PERDOMAIN + vcpu as u64 * WINDOW_BYTES + LDT_OFFSET)
}

/// Whether an L4 slot is the hypervisor's.
pub const fn is_hypervisor_slot(index: usize) -> bool {
    index >= FIRST_SLOT && index <= LAST_SLOT
}

/// Whether `bytes` at `va` are all a guest's: canonical, and outside the hypervisor's slots.
#[inline]
pub const fn guest_range(va: Vaddr, bytes: u64) -> bool {
    let Some(end) = va.0.checked_add(bytes) else {
        return va.0 >= HYPERVISOR_END && va.0.wrapping_add(bytes) == 0;
    };
    end <= 1 << 47 || va.0 >= HYPERVISOR_END
}

/// Where nothing is mapped, ever: the first address of the hole between the halves of the address
/// space. A CPU that ignores the upper bits while it speculates finds the start of the M2P there,
/// which guests may read anyway (AMD: transient execution of non-canonical accesses).
pub const NOWHERE: Vaddr = Vaddr(1 << 47);

/// `va` if what begins there is a guest's, else [`NOWHERE`]: for a run of a few words. Behind the lower
/// half is a hole that faults, and behind the last address comes the first one, so such a run can't
/// reach the hypervisor's slots. Whoever uses the address lands by the exception table if it was none.
///
/// There is no branch in it, so no speculation passes it by (Spectre v1).
#[inline(always)] // six instructions
#[cfg_attr(
    target_os = "none",
    expect(
        unsafe_code,
        reason = "the compiler must not turn the arithmetic into a branch"
    )
)]
pub fn guest_or_nowhere(va: Vaddr) -> Vaddr {
    // As signed numbers, guests' addresses are one range around 0; in these units its borders are small.
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
    assert!(IMAGE >= slot(261) && FRAME_TABLE > IMAGE);
    // What a frame's number, cut to 32 bits, can reach of the frame table.
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
