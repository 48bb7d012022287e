//! Page tables of the running address space.
//!
//! Tables are read where the direct mapping shows them, read-only, and changed through the hypervisor,
//! which validates each entry. Entries name machine frames.

#![expect(unsafe_code, reason = "reads and changes page tables")]

use guest_pv_abi::xen::{
    DOMID_SELF, MMU_NORMAL_PT_UPDATE, MMUEXT_TLB_FLUSH_ALL, MmuUpdate, MmuextOp, UVMF_INVLPG,
};
use guest_pv_abi::{Errno, errno};

use crate::memory::{self, PAGE_BYTES, direct, mfn_of, pfn_of, pfn_of_mfn};
use crate::start::start_info;
use crate::sync::Lock;

/// Entry bit: present.
pub const PRESENT: u64 = 1 << 0;
/// Entry bit: writable.
pub const WRITABLE: u64 = 1 << 1;
/// Entry bit: user (which the hypervisor sets in a 64-bit domain's kernel entries too).
pub const USER: u64 = 1 << 2;
/// Entry bit: accessed.
pub const ACCESSED: u64 = 1 << 5;
/// Entry bit: dirty.
pub const DIRTY: u64 = 1 << 6;
/// Entry bit: large page, which PV page tables may not use.
pub const LARGE: u64 = 1 << 7;
/// Entry bit: no execution.
pub const NO_EXECUTE: u64 = 1 << 63;
/// The frame part of an entry.
pub const FRAME_MASK: u64 = 0x000f_ffff_ffff_f000;

/// What the builder's entries for ordinary memory have.
pub const RAM_FLAGS: u64 = PRESENT | WRITABLE | USER | ACCESSED | DIRTY;
/// What entries of read-only memory have, page tables among it.
pub const READ_ONLY_FLAGS: u64 = PRESENT | USER | ACCESSED;
/// What entries that point to tables have.
pub const TABLE_FLAGS: u64 = PRESENT | WRITABLE | USER | ACCESSED | DIRTY;

/// Entries set by one hypercall.
const BATCH: usize = 64;

/// Where [`Window`]s are: L4 slot 273, which kernels on Xen have for themselves.
const WINDOWS_START: u64 = 0xffff_8880_0000_0000;
const WINDOWS_END: u64 = 0xffff_8900_0000_0000;
/// Where the heap's large blocks are: the beginning of L4 slot 274.
pub(crate) const LARGE_START: u64 = 0xffff_8900_0000_0000;
pub(crate) const LARGE_END: u64 = LARGE_START + (16 << 30);

/// Whether a mapping can be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Reads only.
    ReadOnly,
    /// Reads and writes.
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

/// Index of `address` in its table of `level` (1–4).
const fn index(address: u64, level: u32) -> usize {
    (address >> (12 + 9 * (level - 1))) as usize & 511
}

/// An entry of the table at `table` (direct mapping).
fn read(table: u64, index: usize) -> u64 {
    let table = core::ptr::with_exposed_provenance::<u64>(table as usize);
    // SAFETY: callers pass tables found by walking, which the direct mapping shows.
    unsafe { table.add(index).read_volatile() }
}

/// The address in the direct mapping of the table that `entry` points to.
fn table_of(entry: u64) -> u64 {
    direct(pfn_of_mfn((entry & FRAME_MASK) >> 12))
}

/// The deepest table on the way to `address` and its level; 1 when the L1 table is there.
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

/// The present L1 entry of an address in the builder's address space.
#[must_use]
pub fn entry_of(address: u64) -> Option<u64> {
    let (table, level) = walk(start_info().pt_base, address);
    let entry = read(table, index(address, 1));
    (level == 1 && entry & PRESENT != 0).then_some(entry)
}

/// The machine address of the L1 entry of `address`, when its tables exist.
#[must_use]
pub fn entry_machine_address(address: u64) -> Option<u64> {
    let (table, level) = walk(start_info().pt_base, address);
    (level == 1).then(|| machine_address(table, index(address, 1)))?
}

/// The machine address of an entry of the table at `table` (direct mapping).
fn machine_address(table: u64, index: usize) -> Option<u64> {
    Some((mfn_of(pfn_of(table))? << 12) | (index as u64 * 8))
}

/// Makes the page at `page` (direct mapping) read-only, as a page that becomes a table must be.
///
/// # Errors
/// What the hypervisor answers.
///
/// # Safety
/// Nobody writes to the page through a reference any more.
pub unsafe fn make_read_only(page: u64) -> Result<(), Errno> {
    let mfn = mfn_of(pfn_of(page)).ok_or(errno::EINVAL)?;
    // SAFETY: the caller's promise; the page stays mapped to its frame.
    unsafe { crate::hyper::update_va_mapping(page, (mfn << 12) | READ_ONLY_FLAGS, UVMF_INVLPG) }?;
    Ok(())
}

/// Makes the page at `page` (direct mapping) writable again.
///
/// # Errors
/// What the hypervisor answers: EINVAL or EBUSY while it is a page table.
pub fn make_writable(page: u64) -> Result<(), Errno> {
    let mfn = mfn_of(pfn_of(page)).ok_or(errno::EINVAL)?;
    // SAFETY: the page keeps its frame and gains writability, which the hypervisor grants only to
    // frames that are no tables.
    unsafe { crate::hyper::update_va_mapping(page, (mfn << 12) | RAM_FLAGS, UVMF_INVLPG) }?;
    Ok(())
}

/// Held while a table is put in place: another vCPU may be about to put one there, too.
static LINKING: Lock<()> = Lock::new(());

/// The L1 table of `address` under `root`, made with its parents where missing from pages of `page`.
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
        // Before the lock is taken: finding a page may itself make tables.
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
        // SAFETY: the page came from the free pages: only windows, whose tables do, have neighbours
        // that another vCPU makes.
        unsafe { memory::free_page(core::ptr::with_exposed_provenance_mut(page as usize)) };
    }
    Ok(table)
}

/// Makes the page `new` a table, empty, and entry `index` of `table` name it.
fn link(table: u64, index: usize, new: u64) -> Result<(), Errno> {
    let mfn = mfn_of(pfn_of(new)).ok_or(errno::EINVAL)?;
    let slot = machine_address(table, index).ok_or(errno::EINVAL)?;
    let entry = MmuUpdate {
        ptr: slot,
        val: (mfn << 12) | TABLE_FLAGS,
    };
    // SAFETY: the page is zeroed, ours alone, and from now on only read.
    unsafe {
        make_read_only(new)?;
        set_entries(&[entry], DOMID_SELF)
    }
}

/// Sets entries by machine address. `owner` owns the frames that they name.
///
/// # Errors
/// What the hypervisor answers.
///
/// # Safety
/// The caller answers for what the page tables map afterwards.
pub unsafe fn set_entries(updates: &[MmuUpdate], owner: u16) -> Result<(), Errno> {
    // SAFETY: the caller's promise.
    unsafe { crate::hyper::mmu_update(updates, owner) }?;
    Ok(())
}

/// Sets the L1 entries of `count` pages from `address` on, under the table at `root`, making tables
/// where they are missing.
///
/// # Safety
/// The caller answers for what the addresses map afterwards.
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

/// Maps frames `first..last` of the domain at their place in the direct mapping.
pub(crate) fn map_direct(
    first: u64,
    last: u64,
    mut page: impl FnMut() -> Option<u64>,
) -> Option<()> {
    let entry = |n: u64| Some((mfn_of(first + n)? << 12) | RAM_FLAGS);
    let root = start_info().pt_base;
    // SAFETY: the frames are the domain's, free, and not mapped anywhere.
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

/// Machine frames mapped for as long as this lives, at an address of the runtime's choice.
#[derive(Debug)]
pub struct Window {
    address: u64,
    pages: u64,
}

/// First window address never used. Address space is plentiful: 512 GiB, and small sizes are reused.
static NEXT_WINDOW: Lock<u64> = Lock::new(WINDOWS_START);
/// Single-page windows that were given back.
static RETURNED: Lock<alloc::vec::Vec<u64>> = Lock::new(alloc::vec::Vec::new());

impl Window {
    /// Reserves addresses without mapping anything.
    ///
    /// # Errors
    /// ENOMEM when the addresses are used up.
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

    /// Maps machine frames that `owner` owns (`DOMID_SELF`; another domain's with the right to;
    /// `DOMID_IO` for devices; `DOMID_XEN`).
    ///
    /// # Errors
    /// What the hypervisor answers; ENOMEM.
    pub fn map(frames: &[u64], owner: u16, access: Access) -> Result<Self, Errno> {
        let window = Self::reserve(frames.len() as u64)?;
        window.map_in(frames, owner, access)?;
        Ok(window)
    }

    /// Maps machine frames into a window, from its start.
    ///
    /// # Errors
    /// What the hypervisor answers; EINVAL for more frames than the window has pages.
    pub fn map_in(&self, frames: &[u64], owner: u16, access: Access) -> Result<(), Errno> {
        let count = frames.len() as u64;
        if count > self.pages {
            return Err(errno::EINVAL);
        }
        let entry = |n: u64| Some((frames.get(n as usize)? << 12) | access.flags());
        let root = start_info().pt_base;
        // SAFETY: the addresses are this window's alone.
        unsafe { set_range(root, self.address, count, owner, &entry, &mut new_table) }
    }

    /// Makes the page tables of the window's addresses, for a call that writes the entries itself (a
    /// grant mapping).
    ///
    /// # Errors
    /// ENOMEM, or what the hypervisor answers.
    pub fn prepare(&self) -> Result<(), Errno> {
        let root = start_info().pt_base;
        for n in 0..self.pages {
            ensure_table(root, self.address + n * PAGE_BYTES as u64, &mut new_table)?;
        }
        Ok(())
    }

    /// The first byte.
    #[must_use]
    pub fn as_ptr(&self) -> *mut u8 {
        core::ptr::with_exposed_provenance_mut(self.address as usize)
    }

    /// The first byte's address.
    #[must_use]
    pub const fn address(&self) -> u64 {
        self.address
    }

    /// Its length in bytes.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.pages as usize * PAGE_BYTES
    }
}

impl Window {
    /// Unmaps its first pages; the addresses stay reserved.
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
/// The caller answers for what the addresses map afterwards.
pub(crate) unsafe fn map_at(address: u64, frames: &[u64], access: Access) -> Result<(), Errno> {
    let entry = |n: u64| Some((frames.get(n as usize)? << 12) | access.flags());
    let (root, count) = (start_info().pt_base, frames.len() as u64);
    // SAFETY: the caller's promise.
    unsafe { set_range(root, address, count, DOMID_SELF, &entry, &mut new_table) }
}

/// Unmaps what is mapped of `count` pages from `address` on, on all vCPUs.
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
            // SAFETY: callers own the addresses, and nobody uses what they mapped any more.
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

/// A page for a table, from the free pages.
fn new_table() -> Option<u64> {
    Some(memory::allocate_page()?.expose_provenance() as u64)
}
