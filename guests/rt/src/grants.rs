//! Grant tables, version 1: granting pages to other domains and using their grants.

#![expect(unsafe_code, reason = "shares the grant table with the hypervisor")]

use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{AtomicU16, Ordering, fence};

use guest_pv_abi::grant_table::{
    GNTMAP_HOST_MAP, GNTMAP_READONLY, GNTST_OKAY, GNTTABOP_COPY, GNTTABOP_MAP_GRANT_REF,
    GNTTABOP_SETUP_TABLE, GNTTABOP_UNMAP_GRANT_REF, GTF_ACCEPT_TRANSFER, GTF_PERMIT_ACCESS,
    GTF_READING, GTF_READONLY, GTF_TRANSFER_COMMITTED, GTF_TRANSFER_COMPLETED, GTF_TYPE_MASK,
    GTF_WRITING, GnttabCopy, GnttabMapGrantRef, GnttabSetupTable, GnttabUnmapGrantRef,
    GrantEntryV1,
};
use guest_pv_abi::xen::DOMID_SELF;
use guest_pv_abi::{Errno, GuestHandle, errno};

use crate::hyper::grant_table_op;
use crate::memory::{PAGE_BYTES, mfn_of, pfn_of};
use crate::paging::{Access, Window};
use crate::sync::Lock;

/// References below this one are reserved for the toolstack (public header grant_table.h).
const FIRST_REF: u32 = guest_pv_abi::grant_table::GNTTAB_NR_RESERVED_ENTRIES;
/// Number of entries in one frame, which is all that the runtime sets up.
const ENTRIES: u32 = (PAGE_BYTES / size_of::<GrantEntryV1>()) as u32;

/// Why a grant operation failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GrantError {
    /// The hypercall failed as a whole.
    Call(Errno),
    /// This operation failed with a status `GNTST_*`.
    Status(i16),
}

impl From<Errno> for GrantError {
    fn from(error: Errno) -> Self {
        Self::Call(error)
    }
}

impl fmt::Display for GrantError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Call(error) => write!(f, "{error}"),
            Self::Status(status) => write!(f, "grant status {status}"),
        }
    }
}

fn check(status: i16) -> Result<(), GrantError> {
    if status == GNTST_OKAY {
        Ok(())
    } else {
        Err(GrantError::Status(status))
    }
}

struct Table {
    window: Window,
    free: Vec<u32>,
}

static TABLE: Lock<Option<Table>> = Lock::new(None);

/// Maps the first frame of the domain's grant table. The first grant does this.
fn setup() -> Result<Table, GrantError> {
    let mut frames = [0u64; 1];
    let mut request = [GnttabSetupTable {
        dom: DOMID_SELF,
        nr_frames: 1,
        frame_list: GuestHandle::of_mut(&mut frames),
        ..GnttabSetupTable::default()
    }];
    grant_table_op(GNTTABOP_SETUP_TABLE, &mut request)?;
    check(request[0].status)?;
    let frames = [core::hint::black_box(&frames)[0]];
    let window = Window::map(&frames, DOMID_SELF, Access::ReadWrite)?;
    let free = (FIRST_REF..ENTRIES).rev().collect();
    Ok(Table { window, free })
}

/// The entry of a reference. Use only volatile and atomic accesses: the hypervisor changes it, too.
fn entry(window: &Window, reference: u32) -> *mut GrantEntryV1 {
    window
        .as_ptr()
        .cast::<GrantEntryV1>()
        .wrapping_add(reference as usize)
}

/// Grants `domain` access to the page at `page` (an address in the direct mapping).
///
/// # Errors
/// ENOSPC when all references are in use, or the errno that the hypervisor returned.
pub fn give(domain: u16, page: *const u8, access: Access) -> Result<u32, GrantError> {
    let mfn = mfn_of(pfn_of(page.addr() as u64)).ok_or(errno::EINVAL)?;
    give_frame(domain, mfn as u32, access)
}

/// Grants `domain` access to a machine frame.
///
/// # Errors
/// ENOSPC when all references are in use, or the errno that the hypervisor returned.
pub fn give_frame(domain: u16, mfn: u32, access: Access) -> Result<u32, GrantError> {
    let flags = match access {
        Access::ReadOnly => GTF_PERMIT_ACCESS | GTF_READONLY,
        Access::ReadWrite => GTF_PERMIT_ACCESS,
    };
    fill_entry(domain, mfn, flags)
}

/// Allows `domain` to transfer a frame to this domain (`GNTTABOP_transfer`), which gets the number `pfn` here.
///
/// # Errors
/// ENOSPC when all references are in use, or the errno that the hypervisor returned.
pub fn accept_frame(domain: u16, pfn: u32) -> Result<u32, GrantError> {
    fill_entry(domain, pfn, GTF_ACCEPT_TRANSFER)
}

fn fill_entry(domain: u16, frame: u32, flags: u16) -> Result<u32, GrantError> {
    let mut table = TABLE.lock();
    if table.is_none() {
        *table = Some(setup()?);
    }
    let Table { window, free } = table.as_mut().ok_or(errno::ENOMEM)?;
    let reference = free.pop().ok_or(errno::ENOSPC)?;
    let entry = entry(window, reference);
    // SAFETY: the entry lies in the mapped table and is free; the flags are written last, as they
    // make the entry valid.
    unsafe {
        (&raw mut (*entry).domid).write_volatile(domain);
        (&raw mut (*entry).frame).write_volatile(frame);
        fence(Ordering::Release);
        (&raw mut (*entry).flags).write_volatile(flags);
    }
    Ok(reference)
}

/// Whether the hypervisor or another domain is using an entry with these flags. `GTF_reading` of an access
/// grant has the same value as `GTF_transfer_completed` of a transfer.
fn is_in_use(flags: u16) -> bool {
    let transfer = GTF_TRANSFER_COMMITTED | GTF_TRANSFER_COMPLETED;
    if flags & GTF_TYPE_MASK == GTF_ACCEPT_TRANSFER {
        flags & transfer == GTF_TRANSFER_COMMITTED
    } else {
        flags & (GTF_READING | GTF_WRITING) != 0
    }
}

/// Revokes a grant or an offer to accept a frame, whether a frame was transferred or not.
///
/// # Errors
/// EBUSY while the other domain has the grant mapped or is transferring its frame.
pub fn take_back(reference: u32) -> Result<(), GrantError> {
    let mut table = TABLE.lock();
    let Table { window, free } = table.as_mut().ok_or(errno::EINVAL)?;
    let entry = entry(window, reference);
    // SAFETY: the entry lies in the mapped table; the hypervisor also changes flags atomically.
    let flags = unsafe { AtomicU16::from_ptr(&raw mut (*entry).flags) };
    let mut now = flags.load(Ordering::Acquire);
    loop {
        if is_in_use(now) {
            return Err(errno::EBUSY.into());
        }
        match flags.compare_exchange(now, 0, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => break,
            Err(other) => now = other,
        }
    }
    free.push(reference);
    Ok(())
}

/// A page of another domain, mapped until this value is dropped.
#[derive(Debug)]
pub struct Mapping {
    window: Window,
    handle: u32,
}

impl Mapping {
    /// Maps the page of `domain` that `reference` grants.
    ///
    /// # Errors
    /// The errno that the hypervisor returned.
    pub fn new(domain: u16, reference: u32, access: Access) -> Result<Self, GrantError> {
        let window = Window::reserve(1)?;
        window.prepare()?;
        let mut flags = GNTMAP_HOST_MAP;
        if access == Access::ReadOnly {
            flags |= GNTMAP_READONLY;
        }
        let mut request = [GnttabMapGrantRef {
            host_addr: window.address(),
            flags,
            ref_: reference,
            dom: domain,
            ..GnttabMapGrantRef::default()
        }];
        grant_table_op(GNTTABOP_MAP_GRANT_REF, &mut request)?;
        check(request[0].status)?;
        let handle = request[0].handle;
        Ok(Self { window, handle })
    }

    /// The mapped page. The other domain may change it at any time.
    #[must_use]
    pub fn as_ptr(&self) -> *mut u8 {
        self.window.as_ptr()
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        let mut request = [GnttabUnmapGrantRef {
            host_addr: self.window.address(),
            handle: self.handle,
            ..GnttabUnmapGrantRef::default()
        }];
        let _ = grant_table_op(GNTTABOP_UNMAP_GRANT_REF, &mut request);
    }
}

/// Copies between frames and grants; each request receives its own status.
///
/// # Errors
/// The errno of the whole call.
pub fn copy(requests: &mut [GnttabCopy]) -> Result<(), GrantError> {
    grant_table_op(GNTTABOP_COPY, requests)?;
    Ok(())
}
