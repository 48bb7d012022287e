//! Grant tables: granting pages to other domains and using their grants.
//!
//! The table has version 1 unless the guest calls [`use_version_2`] first. The versions differ in where the hypervisor
//! shows that a grant is in use: in the entry's flags (1), or in a status word beside the table (2).

#![expect(unsafe_code, reason = "shares the grant table with the hypervisor")]

use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{AtomicU16, Ordering, fence};

use guest_pv_abi::grant_table::{
    GNTMAP_HOST_MAP, GNTMAP_READONLY, GNTST_OKAY, GNTTABOP_COPY, GNTTABOP_GET_STATUS_FRAMES,
    GNTTABOP_MAP_GRANT_REF, GNTTABOP_SET_VERSION, GNTTABOP_SETUP_TABLE, GNTTABOP_UNMAP_GRANT_REF,
    GTF_ACCEPT_TRANSFER, GTF_PERMIT_ACCESS, GTF_READING, GTF_READONLY, GTF_TRANSFER_COMMITTED,
    GTF_TRANSFER_COMPLETED, GTF_TRANSITIVE, GTF_TYPE_MASK, GTF_WRITING, GnttabCopy,
    GnttabGetStatusFrames, GnttabMapGrantRef, GnttabSetVersion, GnttabSetupTable,
    GnttabUnmapGrantRef, GrantEntryV1, GrantEntryV2,
};
use guest_pv_abi::xen::DOMID_SELF;
use guest_pv_abi::{Errno, GuestHandle, Long, errno};

use crate::arch::from_long;
use crate::hyper::grant_table_op;
use crate::memory::{PAGE_BYTES, mfn_of, pfn_of};
use crate::paging::{Access, Window};
use crate::sync::Lock;

/// References below this one are reserved for the toolstack (public header grant_table.h).
const FIRST_REF: u32 = guest_pv_abi::grant_table::GNTTAB_NR_RESERVED_ENTRIES;
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
    /// The first frame of entries. The runtime asks for no more.
    entries: Window,
    /// The status words of version 2; none in version 1.
    status: Option<Window>,
    /// References that the guest may give out.
    free: Vec<u32>,
}

static TABLE: Lock<Option<Table>> = Lock::new(None);

/// Makes the table one of version 2. Call it before the first grant.
///
/// # Errors
/// EBUSY if a grant was given before; otherwise the errno that the hypervisor returned.
pub fn use_version_2() -> Result<(), GrantError> {
    let mut table = TABLE.lock();
    if table.is_some() {
        return Err(errno::EBUSY.into());
    }
    set_version(2)?;
    *table = Some(setup(true)?);
    Ok(())
}

/// Sets the version of this domain's table, which empties the table if that is another one.
///
/// # Errors
/// EBUSY while a grant is in use or status words are mapped; EINVAL for a version other than 1 and 2.
pub fn set_version(version: u32) -> Result<(), GrantError> {
    grant_table_op(GNTTABOP_SET_VERSION, &mut [GnttabSetVersion { version }])?;
    Ok(())
}

/// Maps the domain's grant table.
fn setup(version_2: bool) -> Result<Table, GrantError> {
    let mut frames: [Long; 1] = [0];
    let mut request = [GnttabSetupTable {
        dom: DOMID_SELF,
        nr_frames: 1,
        frame_list: GuestHandle::of_mut(&mut frames),
        ..GnttabSetupTable::default()
    }];
    grant_table_op(GNTTABOP_SETUP_TABLE, &mut request)?;
    check(request[0].status)?;
    let frames = [from_long(core::hint::black_box(&frames)[0])];
    let entry_bytes = match version_2 {
        false => size_of::<GrantEntryV1>(),
        true => size_of::<GrantEntryV2>(),
    };
    let count = PAGE_BYTES / entry_bytes;
    Ok(Table {
        entries: Window::map(&frames, DOMID_SELF, Access::ReadWrite)?,
        status: version_2.then(map_status).transpose()?,
        free: (FIRST_REF..count as u32).rev().collect(),
    })
}

/// Maps the status words of a table of version 2.
fn map_status() -> Result<Window, GrantError> {
    let mut frames: [Long; 1] = [0];
    let mut request = [GnttabGetStatusFrames {
        dom: DOMID_SELF,
        nr_frames: 1,
        frame_list: GuestHandle::of_mut(&mut frames[0]),
        ..GnttabGetStatusFrames::default()
    }];
    grant_table_op(GNTTABOP_GET_STATUS_FRAMES, &mut request)?;
    check(core::hint::black_box(request[0]).status)?;
    let frames = [from_long(core::hint::black_box(&frames)[0])];
    Ok(Window::map(&frames, DOMID_SELF, Access::ReadWrite)?)
}

impl Table {
    /// Writes an entry of version 1. Its flags go last, as they make it valid.
    fn fill_version_1(&self, reference: u32, new: GrantEntryV1) {
        let entry = self.entry::<GrantEntryV1>(reference);
        // SAFETY: an entry of the mapped table, which is free.
        unsafe {
            entry.write_volatile(GrantEntryV1 { flags: 0, ..new });
            fence(Ordering::Release);
            (&raw mut (*entry).flags).write_volatile(new.flags);
        }
    }

    /// Writes an entry of version 2. Its flags go last, as they make it valid.
    fn fill_version_2(&self, reference: u32, new: GrantEntryV2) {
        let entry = self.entry::<GrantEntryV2>(reference);
        // SAFETY: an entry of the mapped table, which is free.
        unsafe {
            entry.write_volatile(GrantEntryV2 { flags: 0, ..new });
            fence(Ordering::Release);
            (&raw mut (*entry).flags).write_volatile(new.flags);
        }
    }

    /// The entry of a reference, for volatile and atomic accesses. `T` is the entry of the table's version.
    fn entry<T>(&self, reference: u32) -> *mut T {
        let entries = self.entries.as_ptr().cast::<T>();
        entries.wrapping_add(reference as usize)
    }

    /// An entry's flags, which come first in both versions.
    fn flags(&self, reference: u32) -> &AtomicU16 {
        let at: *mut u16 = match self.status {
            None => self.entry::<GrantEntryV1>(reference).cast(),
            Some(_) => self.entry::<GrantEntryV2>(reference).cast(),
        };
        // SAFETY: in the mapped table; the hypervisor changes flags atomically, too.
        unsafe { AtomicU16::from_ptr(at) }
    }

    /// Whether the status word says that the grant is in use. Version 1 has none.
    fn status_shows_use(&self, reference: u32) -> bool {
        self.status.as_ref().is_some_and(|window| {
            let words = window.as_ptr().cast::<u16>();
            // SAFETY: a word of the mapped status frame, which the hypervisor changes atomically.
            let word = unsafe { AtomicU16::from_ptr(words.wrapping_add(reference as usize)) };
            word.load(Ordering::SeqCst) & (GTF_READING | GTF_WRITING) != 0
        })
    }
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

/// Passes on what `owner` has granted to this domain by `reference`: `domain` may copy it by the new reference, as if it
/// were this domain's ([`use_version_2`] first).
///
/// # Errors
/// ENOSPC when all references are in use; EINVAL for a table of version 1.
pub fn pass_on(domain: u16, owner: u16, reference: u32) -> Result<u32, GrantError> {
    let mut table = TABLE.lock();
    let table = table.as_mut().filter(|table| table.status.is_some());
    let table = table.ok_or(errno::EINVAL)?;
    let own = table.free.pop().ok_or(errno::ENOSPC)?;
    let entry = GrantEntryV2 {
        flags: GTF_TRANSITIVE,
        domid: domain,
        first: owner,
        length: 0,
        frame: reference.into(),
    };
    table.fill_version_2(own, entry);
    Ok(own)
}

fn fill_entry(domid: u16, frame: u32, flags: u16) -> Result<u32, GrantError> {
    let mut table = TABLE.lock();
    if table.is_none() {
        *table = Some(setup(false)?);
    }
    let table = table.as_mut().ok_or(errno::ENOMEM)?;
    let reference = table.free.pop().ok_or(errno::ENOSPC)?;
    if table.status.is_none() {
        let entry = GrantEntryV1 {
            flags,
            domid,
            frame,
        };
        table.fill_version_1(reference, entry);
    } else {
        let entry = GrantEntryV2 {
            flags,
            domid,
            first: 0,
            length: 0,
            frame: frame.into(),
        };
        table.fill_version_2(reference, entry);
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
/// EBUSY while the other domain has it mapped, copies it, or gives its frame. A grant of version 2 can't be used anew
/// from then on; call this again until it succeeds.
pub fn take_back(reference: u32) -> Result<(), GrantError> {
    let mut table = TABLE.lock();
    let table = table.as_mut().ok_or(errno::EINVAL)?;
    let flags = table.flags(reference);
    let mut now = flags.load(Ordering::Acquire);
    loop {
        if is_in_use(now) {
            return Err(errno::EBUSY.into());
        }
        match flags.compare_exchange(now, 0, Ordering::SeqCst, Ordering::Acquire) {
            Ok(_) => break,
            Err(other) => now = other,
        }
    }
    // The hypervisor sets the status word first and then looks at the flags again, so one of the two sees the other.
    if table.status_shows_use(reference) {
        return Err(errno::EBUSY.into());
    }
    table.free.push(reference);
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
