//! What the hypervisor tells the domain: the start info page, the shared info page, and the time of the entry.

#![expect(unsafe_code, reason = "the start info and shared info pages")]

use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicU64, Ordering};

use guest_pv_abi::xen::{SharedInfo, StartInfo};

/// A page inside the image.
#[repr(C, align(4096))]
pub(crate) struct Page(UnsafeCell<[u8; guest_pv_abi::PAGE_SIZE]>);

// SAFETY: the comment of each static of this type says how it is used.
unsafe impl Sync for Page {}

impl Page {
    /// Makes a page of zeroes.
    pub(crate) const fn new() -> Self {
        Self(UnsafeCell::new([0; guest_pv_abi::PAGE_SIZE]))
    }

    /// The virtual address of the page.
    pub(crate) fn address(&'static self) -> u64 {
        core::ptr::from_ref(self).expose_provenance() as u64
    }
}

/// The shared info frame is mapped at this address; the page behind it is unused.
pub(crate) static SHARED_INFO: Page = Page::new();

static START_INFO: AtomicU64 = AtomicU64::new(0);

/// The start info page that the builder wrote. The console and the Xenstore ring that it names belong to this
/// domain; the page tables that it names are in use. When the domain is suspended, the page changes: see
/// [`suspend`](crate::suspend::suspend).
///
/// # Panics
/// If the runtime has not started; guest code always runs later.
#[must_use]
pub fn start_info() -> &'static StartInfo {
    let address = START_INFO.load(Ordering::Relaxed);
    assert!(address != 0, "the runtime has not started");
    // SAFETY: the builder mapped a start info page there. The runtime never unmaps it, and writes it only when the
    // domain is suspended, whose caller promises that no reference to it is left.
    unsafe { &*core::ptr::with_exposed_provenance(address as usize) }
}

/// The start info page, for `suspend` to change.
pub(crate) fn start_info_page() -> *mut StartInfo {
    core::ptr::with_exposed_provenance_mut(START_INFO.load(Ordering::Relaxed) as usize)
}

static ENTRY_TSC: AtomicU64 = AtomicU64::new(0);

/// The time-stamp counter as read by the guest's first instructions.
#[must_use]
pub fn entry_tsc() -> u64 {
    ENTRY_TSC.load(Ordering::Relaxed)
}

/// Records what the first instructions found. Called once, before anything else.
pub(crate) fn init(start_info: u64, tsc: u64) {
    START_INFO.store(start_info, Ordering::Relaxed);
    ENTRY_TSC.store(tsc, Ordering::Relaxed);
}

/// The shared info page. The hypervisor may write it at any time: read its fields with volatile or atomic
/// accesses through raw pointers.
pub(crate) fn shared_info() -> &'static SharedInfo {
    // SAFETY: `memory::init` mapped it there for good; every bit pattern of the type is valid.
    unsafe { &*SHARED_INFO.0.get().cast() }
}
