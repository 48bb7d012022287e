//! The page tables of the running address space.
//!
//! Tables are read through the direct mapping, which maps them read-only. They are changed through the
//! hypervisor, which validates each entry. Entries name machine frames.

#![expect(unsafe_code, reason = "reads and changes page tables")]

use guest_pv_abi::xen::{
    DOMID_SELF, MMU_NORMAL_PT_UPDATE, MMUEXT_TLB_FLUSH_ALL, MmuUpdate, MmuextOp, UVMF_INVLPG,
};
use guest_pv_abi::{Errno, errno};

use crate::memory::{self, PAGE_BYTES, direct, mfn_of, pfn_of, pfn_of_mfn};
use crate::start::start_info;
use crate::sync::Lock;

/// Entry bit 0: the entry is present.
pub const PRESENT: u64 = 1 << 0;
/// Entry bit 1: the mapping is writable.
pub const WRITABLE: u64 = 1 << 1;
/// Entry bit 2: accessible in ring 3. The hypervisor also sets it in a 64-bit domain's kernel entries.
pub const USER: u64 = 1 << 2;
/// Entry bit 5: the CPU has used the entry.
pub const ACCESSED: u64 = 1 << 5;
/// Entry bit 6: the CPU has written through the entry.
pub const DIRTY: u64 = 1 << 6;
/// Entry bit 7: a large page, which PV page tables may not use.
pub const LARGE: u64 = 1 << 7;
/// Entry bit 63: instructions can't be fetched.
pub const NO_EXECUTE: u64 = 1 << 63;
/// The bits of an entry that hold the frame's machine address.
pub const FRAME_MASK: u64 = 0x000f_ffff_ffff_f000;

/// Flags of the builder's entries for ordinary memory.
pub const RAM_FLAGS: u64 = PRESENT | WRITABLE | USER | ACCESSED | DIRTY;
/// Flags of entries for read-only memory, which includes page tables.
pub const READ_ONLY_FLAGS: u64 = PRESENT | USER | ACCESSED;
/// Flags of entries that name a lower table.
pub const TABLE_FLAGS: u64 = PRESENT | WRITABLE | USER | ACCESSED | DIRTY;

/// Entries that one hypercall sets.
const BATCH: usize = 64;

/// Address range of [`Window`]s: L4 slot 273, which Xen's ABI leaves to the kernel.
const WINDOWS_START: u64 = 0xffff_8880_0000_0000;
const WINDOWS_END: u64 = 0xffff_8900_0000_0000;
/// Address range of the heap's large blocks: the beginning of L4 slot 274.
pub(crate) const LARGE_START: u64 = 0xffff_8900_0000_0000;
pub(crate) const LARGE_END: u64 = LARGE_START + (16 << 30);

/// The rights of a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// The mapping can only be read.
    ReadOnly,
    /// The mapping can be read and written.
    ReadWrite,
}

impl Access {
    const fn flags(self) -> u64 {
        match self {
            Self::ReadOnly => READ_ONLY_FLAGS | NO_EXECUTE,
            Self::ReadWrite => RAM_FLAGS | NO_EXECUTE,
        }
    }
}

/// Index of the entry for `address` in a table of `level` (1–4).
const fn index(address: u64, level: u32) -> usize {
    (address >> (12 + 9 * (level - 1))) as usize & 511
}

/// Reads an entry of the table at `table` (an address in the direct mapping).
fn read(table: u64, index: usize) -> u64 {
    let table = core::ptr::with_exposed_provenance::<u64>(table as usize);
    // SAFETY: callers pass tables found by walking, which the direct mapping maps.
    unsafe { table.add(index).read_volatile() }
}

/// The address in the direct mapping of the table that `entry` names.
fn table_of(entry: u64) -> u64 {
    direct(pfn_of_mfn((entry & FRAME_MASK) >> 12))
}

/// Walks towards `address`. Returns the deepest table that exists and its level; 1 if that is the L1 table.
fn walk(root: u64, address: u64) -> (u64, u32) {
    let mut table = root;
    for level in (2..=4).rev() {
        let entry = read(table, index(address, level));
        if entry & PRESENT == 0 {
            return (table, level);
        }
        table = table_of(entry);
    }
    (table, 1)
}

/// The L1 entry of an address in the builder's address space, if it is present.
#[must_use]
pub fn entry_of(address: u64) -> Option<u64> {
    let (table, level) = walk(start_info().pt_base, address);
    let entry = read(table, index(address, 1));
    (level == 1 && entry & PRESENT != 0).then_some(entry)
}

/// The machine address of the L1 entry of `address`, if its L1 table exists.
#[must_use]
pub fn entry_machine_address(address: u64) -> Option<u64> {
    let (table, level) = walk(start_info().pt_base, address);
    (level == 1).then(|| machine_address(table, index(address, 1)))?
}

/// The machine address of an entry of the table at `table` (an address in the direct mapping).
fn machine_address(table: u64, index: usize) -> Option<u64> {
    Some((mfn_of(pfn_of(table))? << 12) | (index as u64 * 8))
}

/// Makes the page at `page` (an address in the direct mapping) read-only, as required before it becomes a table.
///
/// # Errors
/// The errno that the hypervisor returned.
///
/// # Safety
/// No code writes to the page through a reference any more.
pub unsafe fn make_read_only(page: u64) -> Result<(), Errno> {
    let mfn = mfn_of(pfn_of(page)).ok_or(errno::EINVAL)?;
    // SAFETY: the caller's promise; the page keeps its frame.
    unsafe { crate::hyper::update_va_mapping(page, (mfn << 12) | READ_ONLY_FLAGS, UVMF_INVLPG) }?;
    Ok(())
}

/// Makes the page at `page` (an address in the direct mapping) writable again.
///
/// # Errors
/// The errno that the hypervisor returned: EINVAL or EBUSY while it is a page table.
pub fn make_writable(page: u64) -> Result<(), Errno> {
    let mfn = mfn_of(pfn_of(page)).ok_or(errno::EINVAL)?;
    // SAFETY: the page keeps its frame and becomes writable, which the hypervisor allows only if
    // the frame isn't a page table.
    unsafe { crate::hyper::update_va_mapping(page, (mfn << 12) | RAM_FLAGS, UVMF_INVLPG) }?;
    Ok(())
}

/// Held while a table is linked, since another vCPU may be about to link one at the same place.
static LINKING: Lock<()> = Lock::new(());

/// The L1 table of `address` under `root`. Missing tables are made from pages that `page` returns.
fn ensure_table(
    root: u64,
    address: u64,
    page: &mut dyn FnMut() -> Option<u64>,
) -> Result<u64, Errno> {
    let mut spare = None;
    let table = loop {
        let (table, level) = walk(root, address);
        if level == 1 {
            break table;
        }
        // The page is allocated before the lock is taken, since allocating may itself link tables.
        let new = spare.take().or_else(&mut *page).ok_or(errno::ENOMEM)?;
        let linking = LINKING.lock();
        if walk(root, address) == (table, level) {
            link(table, index(address, level), new)?;
        } else {
            spare = Some(new);
        }
        drop(linking);
    };
    if let Some(page) = spare {
        // SAFETY: the page came from the free pages: another vCPU can link a table first only for
        // windows, and the tables of windows are made from free pages.
        unsafe { memory::free_page(core::ptr::with_exposed_provenance_mut(page as usize)) };
    }
    Ok(table)
}

/// Makes the zeroed page `new` a table and entry `index` of `table` name it.
fn link(table: u64, index: usize, new: u64) -> Result<(), Errno> {
    let mfn = mfn_of(pfn_of(new)).ok_or(errno::EINVAL)?;
    let slot = machine_address(table, index).ok_or(errno::EINVAL)?;
    let entry = MmuUpdate {
        ptr: slot,
        val: (mfn << 12) | TABLE_FLAGS,
    };
    // SAFETY: the page is zeroed, has no other user, and is only read from now on.
    unsafe {
        make_read_only(new)?;
        set_entries(&[entry], DOMID_SELF)
    }
}

/// Sets entries by machine address. `owner` is the domain that owns the frames that they name.
///
/// # Errors
/// The errno that the hypervisor returned.
///
/// # Safety
/// The caller is responsible for what the page tables map afterwards.
pub unsafe fn set_entries(updates: &[MmuUpdate], owner: u16) -> Result<(), Errno> {
    // SAFETY: the caller's promise.
    unsafe { crate::hyper::mmu_update(updates, owner) }?;
    Ok(())
}

/// Sets the L1 entries of `count` pages from `address` on, under the table at `root`. Missing tables are made
/// from pages that `page` returns.
///
/// # Safety
/// The caller is responsible for what the addresses map afterwards.
pub(crate) unsafe fn set_range(
    root: u64,
    address: u64,
    count: u64,
    owner: u16,
    entry: &dyn Fn(u64) -> Option<u64>,
    page: &mut dyn FnMut() -> Option<u64>,
) -> Result<(), Errno> {
    let mut batch = [MmuUpdate::default(); BATCH];
    let mut filled = 0;
    for n in 0..count {
        let at = address + n * PAGE_BYTES as u64;
        let table = ensure_table(root, at, page)?;
        let slot = machine_address(table, index(at, 1)).ok_or(errno::EINVAL)?;
        let val = entry(n).ok_or(errno::EINVAL)?;
        batch[filled] = MmuUpdate {
            ptr: slot | MMU_NORMAL_PT_UPDATE,
            val,
        };
        filled += 1;
        if filled == BATCH || n + 1 == count {
            // SAFETY: the caller's promise.
            unsafe { set_entries(&batch[..filled], owner) }?;
            filled = 0;
        }
    }
    Ok(())
}

/// Maps the domain's frames `first..last` in the direct mapping.
pub(crate) fn map_direct(
    first: u64,
    last: u64,
    mut page: impl FnMut() -> Option<u64>,
) -> Option<()> {
    let entry = |n: u64| Some((mfn_of(first + n)? << 12) | RAM_FLAGS);
    let root = start_info().pt_base;
    // SAFETY: the frames belong to the domain, are free, and are not mapped anywhere.
    unsafe {
        set_range(
            root,
            direct(first),
            last - first,
            DOMID_SELF,
            &entry,
            &mut page,
        )
    }
    .ok()
}

/// A range of addresses for mapping machine frames. Dropping it unmaps them.
#[derive(Debug)]
pub struct Window {
    address: u64,
    pages: u64,
}

/// First window address that was never used. Addresses are not scarce (512 GiB), and single pages are reused.
static NEXT_WINDOW: Lock<u64> = Lock::new(WINDOWS_START);
/// Addresses of single-page windows that were dropped.
static RETURNED: Lock<alloc::vec::Vec<u64>> = Lock::new(alloc::vec::Vec::new());

impl Window {
    /// Reserves addresses without mapping anything there.
    ///
    /// # Errors
    /// ENOMEM when the address range is used up.
    pub fn reserve(pages: u64) -> Result<Self, Errno> {
        let returned = if pages == 1 {
            RETURNED.lock().pop()
        } else {
            None
        };
        if let Some(address) = returned {
            return Ok(Self { address, pages });
        }
        let mut next = NEXT_WINDOW.lock();
        let address = *next;
        let bytes = pages.checked_mul(PAGE_BYTES as u64).ok_or(errno::ENOMEM)?;
        let end = address.checked_add(bytes).filter(|end| *end <= WINDOWS_END);
        *next = end.ok_or(errno::ENOMEM)?;
        Ok(Self { address, pages })
    }

    /// Maps machine frames of `owner`: `DOMID_SELF`, another domain (given the right to map its frames),
    /// `DOMID_IO` for devices, or `DOMID_XEN`.
    ///
    /// # Errors
    /// The errno that the hypervisor returned; ENOMEM.
    pub fn map(frames: &[u64], owner: u16, access: Access) -> Result<Self, Errno> {
        let window = Self::reserve(frames.len() as u64)?;
        window.map_in(frames, owner, access)?;
        Ok(window)
    }

    /// Maps machine frames at the start of the window.
    ///
    /// # Errors
    /// The errno that the hypervisor returned; EINVAL for more frames than the window has pages.
    pub fn map_in(&self, frames: &[u64], owner: u16, access: Access) -> Result<(), Errno> {
        let count = frames.len() as u64;
        if count > self.pages {
            return Err(errno::EINVAL);
        }
        let entry = |n: u64| Some((frames.get(n as usize)? << 12) | access.flags());
        let root = start_info().pt_base;
        // SAFETY: only this window uses the addresses.
        unsafe { set_range(root, self.address, count, owner, &entry, &mut new_table) }
    }

    /// Makes the page tables of the window's addresses, for a hypercall that writes the L1 entries
    /// itself (a grant mapping).
    ///
    /// # Errors
    /// ENOMEM, or the errno that the hypervisor returned.
    pub fn prepare(&self) -> Result<(), Errno> {
        let root = start_info().pt_base;
        for n in 0..self.pages {
            ensure_table(root, self.address + n * PAGE_BYTES as u64, &mut new_table)?;
        }
        Ok(())
    }

    /// Pointer to the window's first byte.
    #[must_use]
    pub fn as_ptr(&self) -> *mut u8 {
        core::ptr::with_exposed_provenance_mut(self.address as usize)
    }

    /// Address of the window's first byte.
    #[must_use]
    pub const fn address(&self) -> u64 {
        self.address
    }

    /// Length of the window in bytes.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.pages as usize * PAGE_BYTES
    }
}

impl Window {
    /// Unmaps the window's first `pages` pages; the addresses stay reserved.
    pub fn unmap_first(&self, pages: u64) {
        clear(self.address, pages.min(self.pages));
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        self.unmap_first(self.pages);
        if self.pages == 1 {
            RETURNED.lock().push(self.address);
        }
    }
}

/// Maps machine frames of this domain from `address` on.
///
/// # Safety
/// The caller is responsible for what the addresses map afterwards.
pub(crate) unsafe fn map_at(address: u64, frames: &[u64], access: Access) -> Result<(), Errno> {
    let entry = |n: u64| Some((frames.get(n as usize)? << 12) | access.flags());
    let (root, count) = (start_info().pt_base, frames.len() as u64);
    // SAFETY: the caller's promise.
    unsafe { set_range(root, address, count, DOMID_SELF, &entry, &mut new_table) }
}

/// Unmaps those of `count` pages from `address` on that are mapped, and flushes all vCPUs.
pub(crate) fn clear(address: u64, count: u64) {
    let root = start_info().pt_base;
    let mut batch = [MmuUpdate::default(); BATCH];
    let (mut filled, mut any) = (0, false);
    for n in 0..count {
        let at = address + n * PAGE_BYTES as u64;
        let (table, level) = walk(root, at);
        if level == 1
            && read(table, index(at, 1)) & PRESENT != 0
            && let Some(slot) = machine_address(table, index(at, 1))
        {
            batch[filled] = MmuUpdate {
                ptr: slot | MMU_NORMAL_PT_UPDATE,
                val: 0,
            };
            filled += 1;
        }
        if filled == BATCH || n + 1 == count && filled > 0 {
            // SAFETY: callers own the addresses and no longer use what they mapped.
            let _ = unsafe { set_entries(&batch[..filled], DOMID_SELF) };
            (filled, any) = (0, true);
        }
    }
    if any {
        let flush = MmuextOp {
            cmd: MMUEXT_TLB_FLUSH_ALL,
            ..MmuextOp::default()
        };
        // SAFETY: a flush changes no mapping.
        let _ = unsafe { crate::hyper::mmuext_op(&[flush]) };
    }
}

/// Takes a page for a new table from the free pages.
fn new_table() -> Option<u64> {
    Some(memory::allocate_page()?.expose_provenance() as u64)
}
