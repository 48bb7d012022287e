//! set_gdt and update_descriptor. Whatever a guest puts into its GDT, the core's own page of every
//! GDT stays out of its reach, and no descriptor gets it out of ring 3.

use guest_pv_abi::errno::{self, Errno};
use zerocopy::IntoBytes;

use super::{Args, Ctx};
use crate::domain::gdt;
use crate::domain::vcpu::{GDT_ENTRIES_PER_FRAME, GDT_GUEST_FRAMES};
use crate::kit::{Maddr, PAGE_SIZE, Vaddr};
use crate::mm::directmap::SharedPage;
use crate::mm::guest_copy;
use crate::pagetype::{check_descriptor, machine};

/// Entries that a guest may have (FIRST_RESERVED_GDT_ENTRY).
const MOST_ENTRIES: u64 = GDT_GUEST_FRAMES as u64 * GDT_ENTRIES_PER_FRAME as u64;

/// `set_gdt(frames, entries)`.
#[inline(never)] // one body for both tables
pub fn set_gdt(ctx: &mut Ctx<'_>, args: Args) -> Result<(), Errno> {
    let [list, entries, ..] = args.0;
    let entries = u64::from(entries as u32);
    if entries > MOST_ENTRIES {
        return Err(errno::EINVAL);
    }
    let mut frames = [0_u64; GDT_GUEST_FRAMES];
    let count = entries.div_ceil(u64::from(GDT_ENTRIES_PER_FRAME)) as usize;
    let frames = frames.get_mut(..count).ok_or(errno::EINVAL)?;
    guest_copy::copy_from_guest(frames.as_mut_bytes(), Vaddr(list)).map_err(|_| errno::EFAULT)?;
    gdt::replace(ctx.dom, ctx.st, frames, entries as u32).map_err(|_| errno::EINVAL)?;
    crate::arch::tlb::flush_local();
    Ok(())
}

/// `update_descriptor(address, descriptor)`: one descriptor, by its machine address.
pub fn update(ctx: &mut Ctx<'_>, args: Args) -> Result<(), Errno> {
    let [address, descriptor, ..] = args.0;
    let address = Maddr(address);
    if !address.0.is_multiple_of(8) {
        return Err(errno::EINVAL);
    }
    let descriptor = check_descriptor(descriptor).ok_or(errno::EINVAL)?;
    let owner = ctx.dom.id();
    // In use as descriptors it stays that; mapped writable, it is written as data. Either reference is held
    // until the word is written.
    let (_held, page) = match machine().get_segdesc_in_use(address.mfn(), owner) {
        Some((held, state)) => (held, SharedPage::of_typed(address.mfn(), state)),
        None => {
            let held = machine().get_writable(address.mfn(), owner);
            let held = held.ok_or(errno::EINVAL)?;
            (held, SharedPage::new(address.mfn()))
        }
    };
    let page = page.ok_or(errno::EINVAL)?;
    debug_assert!(address.offset() < PAGE_SIZE);
    let word = page.u64(address.offset()).ok_or(errno::EINVAL)?;
    word.store(descriptor, crate::kit::atomic::Ordering::SeqCst);
    Ok(())
}
