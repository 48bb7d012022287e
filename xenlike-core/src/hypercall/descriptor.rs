//! set_gdt and update_descriptor. Whatever a guest puts into its GDT, the core's own page of every
//! GDT stays out of its reach, and no descriptor gets it out of ring 3.

use guest_pv_abi::errno::{self, Errno};

use super::{Args, Ctx, get};
use crate::arch::paging::DATA;
use crate::domain::vcpu::{GDT_GUEST_FRAMES, GuestGdt};
use crate::domain::{Domain, VcpuState, window};
use crate::kit::{Maddr, Mfn, PAGE_SIZE};
use crate::mm::directmap::SharedPage;
use crate::pagetype::{check_descriptor, machine};

/// Descriptors in a page.
const PER_PAGE: u32 = 512;
/// Entries that a guest may have (FIRST_RESERVED_GDT_ENTRY).
const MOST_ENTRIES: u64 = GDT_GUEST_FRAMES as u64 * PER_PAGE as u64;

/// `set_gdt(frames, entries)`.
pub fn set_gdt(ctx: &mut Ctx<'_>, args: Args) -> Result<(), Errno> {
    let [list, entries, ..] = args.0;
    let entries = u64::from(entries as u32);
    if entries > MOST_ENTRIES {
        return Err(errno::EINVAL);
    }
    let mut frames = [0; GDT_GUEST_FRAMES];
    let count = entries.div_ceil(u64::from(PER_PAGE)) as usize;
    for (n, frame) in (0_u64..).zip(frames.iter_mut().take(count)) {
        *frame = get::<u64>(list.wrapping_add(n.wrapping_mul(8)))?;
    }
    let frames = frames.get(..count).unwrap_or(&frames);
    replace_gdt(ctx.dom, ctx.st, frames, entries as u32)?;
    crate::arch::tlb::flush_local();
    Ok(())
}

/// Gives a vCPU another GDT: all of its frames are taken before any of the old ones is let go.
pub fn replace_gdt(
    dom: &Domain,
    st: &mut VcpuState,
    frames: &[u64],
    entries: u32,
) -> Result<(), Errno> {
    let mut gdt = GuestGdt {
        entries,
        ..GuestGdt::default()
    };
    for (slot, &frame) in gdt.frames.iter_mut().zip(frames) {
        let Some(taken) = machine().get_segdesc(Mfn(frame), dom.id()) else {
            drop_frames(&gdt);
            return Err(errno::EINVAL);
        };
        *slot = Some(taken.keep());
    }
    let old = core::mem::replace(&mut st.gdt, gdt);
    for (page, frame) in st.gdt.frames.iter().enumerate() {
        // Ring 3 reads its GDT through no address of its own: the window is the core's.
        let entry = frame.map_or(0, |mfn| mfn.maddr().0 | DATA);
        window::set(st.window, page, entry);
    }
    drop_frames(&old);
    Ok(())
}

/// Lets the frames of a GDT go; the window no longer maps them, or never did.
pub fn drop_frames(gdt: &GuestGdt) {
    for mfn in gdt.frames.iter().flatten() {
        machine().put_simple(*mfn);
    }
}

/// `update_descriptor(address, descriptor)`: one descriptor, by its machine address.
pub fn update(ctx: &mut Ctx<'_>, args: Args) -> Result<(), Errno> {
    let [address, descriptor, ..] = args.0;
    let address = Maddr(address);
    if address.0 % 8 != 0 {
        return Err(errno::EINVAL);
    }
    let descriptor = check_descriptor(descriptor).ok_or(errno::EINVAL)?;
    let owner = ctx.dom.id();
    // In use as descriptors it stays that; mapped writable, it is written as data.
    let frame = machine()
        .get_segdesc(address.mfn(), owner)
        .or_else(|| machine().get_writable(address.mfn(), owner))
        .ok_or(errno::EINVAL)?;
    let page = SharedPage::new(frame.mfn()).ok_or(errno::EINVAL)?;
    debug_assert!(address.offset() < PAGE_SIZE);
    let word = page.u64(address.offset()).ok_or(errno::EINVAL)?;
    word.store(descriptor, core::sync::atomic::Ordering::SeqCst);
    Ok(())
}
