//! set_gdt and update_descriptor. Whatever descriptors a guest installs, the core's own page of each GDT stays out of
//! its reach, and no descriptor lets the guest leave ring 3.

use guest_pv_abi::Width;
use guest_pv_abi::errno::{self, Errno};
use zerocopy::IntoBytes;

use super::Ctx;
use super::arguments::{SetGdt, UpdateDescriptor};
use crate::kit::{PAGE_SIZE, Vaddr};
use crate::mm::directmap::SharedPage;
use crate::mm::guest::Guest;
use crate::pagetype::{check_descriptor, machine};
use crate::pv::state::gdt::{self, GDT_ENTRIES_PER_FRAME, GDT_GUEST_FRAMES};

/// Maximum number of GDT entries of a guest (FIRST_RESERVED_GDT_ENTRY).
const MAX_ENTRIES: u32 = GDT_GUEST_FRAMES as u32 * GDT_ENTRIES_PER_FRAME;

/// `set_gdt(frames, entries)`: replaces the calling vCPU's GDT with the listed frames.
pub fn set_gdt(ctx: &mut Ctx<'_>, args: &SetGdt) -> Result<(), Errno> {
    let entries = args.entries;
    if entries > MAX_ENTRIES {
        return Err(errno::EINVAL);
    }
    let mut frames = [0_u64; GDT_GUEST_FRAMES];
    let count = entries.div_ceil(GDT_ENTRIES_PER_FRAME) as usize;
    let frames = frames.get_mut(..count).ok_or(errno::EINVAL)?;
    match ctx.st.kind.width() {
        Width::Wide => ctx.guest().read_bytes(frames.as_mut_bytes(), args.frames)?,
        Width::Narrow => read_narrow(ctx.guest(), frames, args.frames)?,
    }
    gdt::replace(&ctx.dom.pages, ctx.st.pv_mut(), frames, entries).map_err(|_| errno::EINVAL)?;
    crate::arch::tlb::flush_local();
    Ok(())
}

/// Reads the list of frame numbers of a narrow guest.
#[inline(never)] // keeps its registers off the path of wide guests
fn read_narrow(guest: Guest<'_>, frames: &mut [u64], at: Vaddr) -> Result<(), Errno> {
    for (n, frame) in (0..).zip(frames) {
        *frame = guest.read_at::<u32>(at, n)?.into();
    }
    Ok(())
}

/// `update_descriptor(address, descriptor)`: writes one descriptor, given by its machine address.
pub fn update(ctx: &mut Ctx<'_>, args: &UpdateDescriptor) -> Result<(), Errno> {
    let address = args.address;
    if !address.0.is_multiple_of(8) {
        return Err(errno::EINVAL);
    }
    let descriptor = check_descriptor(args.descriptor, ctx.st.kind.width());
    let descriptor = descriptor.ok_or(errno::EINVAL)?;
    let owner = ctx.dom.id();
    // A page in use as a descriptor table keeps that type while the word is written; any other page is written as
    // data, with a writable reference. `_held` keeps the reference until the store is done.
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
