//! Questions about memory: sizes, limits, and the location of the machine-to-physical table.

use guest_pv_abi::arch_x86::{MACH2PHYS_NR_ENTRIES, MACH2PHYS_VIRT_END, MACH2PHYS_VIRT_START};
use guest_pv_abi::errno::{self, Errno};
use guest_pv_abi::memory::{MachphysMapping, MachphysMfnList};
use guest_pv_abi::xen::SharedInfo;
use guest_pv_abi::{Width, narrow};

use core::mem::offset_of;

use super::Ctx;
use crate::domain::{Domain, Rights};
use crate::kit::atomic::Ordering::Relaxed;
use crate::kit::{Mfn, Vaddr};
use crate::mm::guest::Long;
use crate::mm::layout::{NARROW_M2P_END, NARROW_M2P_FRAMES, NARROW_START};
use crate::mm::{alloc, m2p};

/// XENMEM_maximum_ram_page: returns one past the machine's highest RAM frame.
pub(super) fn maximum_ram_page() -> i64 {
    alloc::end_of_ram().0 as i64
}

fn about(
    ctx: &Ctx<'_>,
    at: Vaddr,
    fact: impl FnOnce(&Domain) -> Option<u64>,
) -> Result<i64, Errno> {
    let dom = ctx.target(ctx.guest().read::<u16>(at)?)?;
    fact(&dom).map(|n| n as i64).ok_or(errno::EINVAL)
}

/// XENMEM_current_reservation: returns the number of frames that a domain has.
pub(super) fn current_reservation(ctx: &Ctx<'_>, at: Vaddr) -> Result<i64, Errno> {
    about(ctx, at, |dom| Some(dom.pages.total()))
}

/// XENMEM_maximum_reservation: returns the number of frames that a domain may have.
pub(super) fn maximum_reservation(ctx: &Ctx<'_>, at: Vaddr) -> Result<i64, Errno> {
    about(ctx, at, |dom| Some(dom.pages.max()))
}

/// XENMEM_maximum_gpfn: returns the domain's highest pseudo-physical frame, which the domain itself wrote to its
/// shared info page. EINVAL once that page is gone.
pub(super) fn maximum_gpfn(ctx: &Ctx<'_>, at: Vaddr) -> Result<i64, Errno> {
    about(ctx, at, |dom| {
        let page = dom.shared_info()?;
        let max_pfn = match dom.pages.width() {
            Width::Wide => page
                .u64(offset_of!(SharedInfo, arch.max_pfn))?
                .load(Relaxed),
            Width::Narrow => page
                .u32(offset_of!(narrow::SharedInfo, arch.max_pfn))?
                .load(Relaxed)
                .into(),
        };
        Some(max_pfn.saturating_sub(1))
    })
}

/// XENMEM_machphys_mfn_list: returns the first frame of each 2 MiB of the caller's machine-to-physical table.
pub(super) fn machphys_mfn_list(ctx: &Ctx<'_>, at: Vaddr) -> Result<(), Errno> {
    match ctx.dom.pages.width() {
        Width::Wide => list_extents(ctx, at, m2p::extents()),
        Width::Narrow => machphys_compat_mfn_list(ctx, at),
    }
}

/// XENMEM_machphys_compat_mfn_list: the same for the table of narrow guests.
pub(super) fn machphys_compat_mfn_list(ctx: &Ctx<'_>, at: Vaddr) -> Result<(), Errno> {
    list_extents(ctx, at, m2p::narrow_extents())
}

fn list_extents(ctx: &Ctx<'_>, at: Vaddr, extents: &[Mfn]) -> Result<(), Errno> {
    let mut list: MachphysMfnList = ctx.guest().read(at)?;
    let fits = extents.len().min(list.max_extents as usize);
    for (n, extent) in m2p::without_gaps(extents).take(fits).enumerate() {
        ctx.guest()
            .write_at(Vaddr(list.extent_start.0), n as u64, &Long(extent.0))?;
    }
    list.nr_extents = fits as u32;
    Ok(ctx.guest().write(at, &list)?)
}

/// XENMEM_machphys_mapping: returns where the caller finds its table. Only a wide domain 0, which never migrates, learns
/// its actual end on this machine.
pub(super) fn machphys_mapping(ctx: &Ctx<'_>, at: Vaddr) -> Result<(), Errno> {
    let entries = match ctx.dom.rights() {
        Rights::None => MACH2PHYS_NR_ENTRIES,
        Rights::Control | Rights::Boot => alloc::end_of_ram().0,
    };
    let mapping = match ctx.dom.pages.width() {
        Width::Wide => MachphysMapping {
            v_start: MACH2PHYS_VIRT_START,
            v_end: MACH2PHYS_VIRT_END,
            max_mfn: entries.saturating_sub(1),
        },
        Width::Narrow => MachphysMapping {
            v_start: NARROW_START,
            v_end: NARROW_M2P_END,
            max_mfn: NARROW_M2P_FRAMES.saturating_sub(1),
        },
    };
    Ok(ctx.guest().write(at, &mapping)?)
}
