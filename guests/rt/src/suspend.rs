//! Suspending the domain, so that the toolstack can save it and restore it later, in other machine frames.
//!
//! The toolstack rewrites what it knows to hold machine frames: page tables, the P2M, which it finds through the lists
//! of its frames in the shared info page, the vCPUs' registers, and the start info page. There it expects the frames of
//! the console and the Xenstore ring by their pseudo-physical numbers. It refuses a page table that maps a frame of
//! another owner, so the shared info page is unmapped meanwhile.

#![expect(unsafe_code, reason = "writes pages that the toolstack reads")]

use core::ptr::from_ref;

use guest_pv_abi::{Errno, Long, PAGE_SIZE, errno};

use crate::arch::from_long;
use crate::info::{Page, SHARED_INFO, shared_info, start_info, start_info_page};
use crate::memory::{map_shared_info, mfn_of, pfn_of, pfn_of_mfn};
use crate::{cpu, events, hyper};

/// How the domain went on after [`suspend`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resumed {
    /// In a new domain. Its only ports are those of the console and the Xenstore.
    Restored,
    /// In the same domain, with its ports.
    InPlace,
}

/// Machine frames of the P2M's frames.
static FRAME_LIST: Page = Page::new();
/// The machine frame of `FRAME_LIST`.
static FRAME_LIST_LIST: Page = Page::new();

/// Entries of a page of frame numbers.
const ENTRIES: u64 = (PAGE_SIZE / size_of::<Long>()) as u64;

/// Tells the toolstack where it finds the P2M: it looks for it before it asks the domain to suspend. Writes the lists of
/// the P2M's frames, and names them in the shared info page. Called on vCPU 0.
///
/// # Errors
/// E2BIG if the P2M has more frames than one page lists.
pub fn prepare() -> Result<(), Errno> {
    let info = start_info();
    let pages = from_long(info.nr_pages);
    let first = pfn_of(from_long(info.mfn_list));
    let frames = pages.div_ceil(ENTRIES);
    if frames > ENTRIES {
        return Err(errno::E2BIG);
    }
    for n in 0..frames {
        write(&FRAME_LIST, n, mfn_of(first + n).ok_or(errno::EINVAL)?);
    }
    let frame_of = |page: &'static Page| mfn_of(pfn_of(page.address())).ok_or(errno::EINVAL);
    write(&FRAME_LIST_LIST, 0, frame_of(&FRAME_LIST)?);
    let list = frame_of(&FRAME_LIST_LIST)?;
    let arch = (&raw const shared_info().arch).cast_mut();
    // SAFETY: the guest's own fields of the shared info page, which only the toolstack reads.
    unsafe {
        (&raw mut (*arch).max_pfn).write_volatile(pages as Long);
        (&raw mut (*arch).pfn_to_mfn_frame_list_list).write_volatile(list as Long);
    }
    Ok(())
}

/// Suspends the domain until the toolstack resumes it. Called on vCPU 0, after [`prepare`].
///
/// # Errors
/// The errno that the hypervisor returned.
///
/// # Safety
/// Until this returns, no other vCPU takes upcalls, uses the clock, events or the console, or changes page tables. No
/// reference to [`start_info`] from before is used afterwards. The domain maps no frames but its own.
pub unsafe fn suspend() -> Result<Resumed, Errno> {
    let was_open = cpu::mask_events();
    let frame = mfn_of(pfn_of(from_ref(start_info()).expose_provenance() as u64));
    // SAFETY: the caller's promise.
    let suspend = |frame| unsafe { suspend_with(frame) };
    let outcome = frame.ok_or(errno::EINVAL).and_then(suspend);
    if was_open {
        cpu::unmask_events();
    }
    outcome
}

/// # Safety
/// As for [`suspend`].
unsafe fn suspend_with(start_info_frame: u64) -> Result<Resumed, Errno> {
    let own = mfn_of(pfn_of(SHARED_INFO.address())).ok_or(errno::EINVAL)?;
    // SAFETY: the caller's promise that no reference to the page is left.
    unsafe { change_ring_frames(pfn_of_mfn) };
    map_shared_info(own << 12);
    let answer = hyper::suspend(start_info_frame);
    if answer != Ok(0) {
        // SAFETY: as above.
        unsafe { change_ring_frames(|pfn| mfn_of(pfn).unwrap_or_default()) };
    }
    map_shared_info(from_long(start_info().shared_info));
    match answer? {
        0 => {
            events::forget_ports();
            prepare()?;
            Ok(Resumed::Restored)
        }
        _ => Ok(Resumed::InPlace),
    }
}

/// Replaces the frames of the Xenstore ring and the console in the start info page.
///
/// # Safety
/// No reference to the page is left.
unsafe fn change_ring_frames(change: impl Fn(u64) -> u64) {
    let page = start_info_page();
    // SAFETY: the page is the domain's own, and the caller's promise.
    unsafe {
        for field in [&raw mut (*page).store_mfn, &raw mut (*page).console_mfn] {
            field.write_volatile(change(from_long(field.read_volatile())) as Long);
        }
    }
}

/// Writes an entry of a page of frame numbers.
fn write(page: &'static Page, index: u64, frame: u64) {
    assert!(index < ENTRIES, "no entry {index}");
    let entries = core::ptr::with_exposed_provenance_mut::<Long>(page.address() as usize);
    // SAFETY: inside the page, which only vCPU 0 writes.
    unsafe { entries.add(index as usize).write_volatile(frame as Long) };
}
