//! The page tables of the running address space.
//!
//! Tables are read through the direct mapping, which maps them read-only. They are changed through the
//! hypervisor, which validates each entry. Entries name machine frames.

#![expect(unsafe_code, reason = "reads and changes page tables")]

use guest_pv_abi::xen::{
    DOMID_SELF, MMU_NORMAL_PT_UPDATE, MMUEXT_TLB_FLUSH_ALL, MmuUpdate, MmuextOp, UVMF_INVLPG,
};
use guest_pv_abi::{Errno, errno};

use crate::arch::user::kernel_entry_added;
use crate::arch::{KERNEL_USER, ROOT_LEVEL, from_long, table_flags};
use crate::frames::{PAGE_BYTES, direct, mfn_of, pfn_of, pfn_of_mfn};
use crate::info::start_info;
use crate::sync::Lock;

/// Entry bit 0: the entry is present.
pub const PRESENT: u64 = 1 << 0;
/// Entry bit 1: the mapping is writable.
pub const WRITABLE: u64 = 1 << 1;
/// Entry bit 2: accessible in ring 3. The hypervisor also sets it in a 64-bit domain's kernel entries; in a 32-bit
/// domain it separates user mode from the kernel.
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
pub const RAM_FLAGS: u64 = PRESENT | WRITABLE | KERNEL_USER | ACCESSED | DIRTY;
/// Flags of entries for read-only memory, which includes page tables.
pub const READ_ONLY_FLAGS: u64 = PRESENT | KERNEL_USER | ACCESSED;
/// Flags of entries that name a lower table.
pub const TABLE_FLAGS: u64 = PRESENT | WRITABLE | USER | ACCESSED | DIRTY;

/// Entries that one hypercall sets.
const BATCH: usize = 64;

/// The rights of a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// The mapping can only be read.
    ReadOnly,
    /// The mapping can be read and written.
    ReadWrite,
}

impl Access {
    pub(crate) const fn flags(self) -> u64 {
        match self {
            Self::ReadOnly => READ_ONLY_FLAGS | NO_EXECUTE,
            Self::ReadWrite => RAM_FLAGS | NO_EXECUTE,
        }
    }
}

/// Index of the entry for `address` in a table of `level` (1 to `ROOT_LEVEL`).
const fn index(address: u64, level: u32) -> usize {
    (address >> (12 + 9 * (level - 1))) as usize & 511
}

/// Reads an entry of the table at `table` (an address in the direct mapping).
pub(crate) fn read(table: u64, index: usize) -> u64 {
    let table = core::ptr::with_exposed_provenance::<u64>(table as usize);
    // SAFETY: callers pass tables found by walking, which the direct mapping maps.
    unsafe { table.add(index).read_volatile() }
}

/// The address in the direct mapping of the table that `entry` names.
pub(crate) fn table_of(entry: u64) -> u64 {
    direct(pfn_of_mfn((entry & FRAME_MASK) >> 12))
}

/// The builder's root table, under which the kernel runs.
pub(crate) fn kernel_root() -> u64 {
    from_long(start_info().pt_base)
}

/// Walks towards `address`. Returns the deepest table that exists and its level; 1 if that is the L1 table.
fn walk(root: u64, address: u64) -> (u64, u32) {
    let mut table = root;
    for level in (2..=ROOT_LEVEL).rev() {
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
    let (table, level) = walk(kernel_root(), address);
    let entry = read(table, index(address, 1));
    (level == 1 && entry & PRESENT != 0).then_some(entry)
}

/// The machine address of the L1 entry of `address`, if its L1 table exists.
#[must_use]
pub fn entry_machine_address(address: u64) -> Option<u64> {
    let (table, level) = walk(kernel_root(), address);
    (level == 1).then(|| machine_address(table, index(address, 1)))?
}

/// The machine address of an entry of the table at `table` (an address in the direct mapping).
pub(crate) fn machine_address(table: u64, index: usize) -> Option<u64> {
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

/// Where pages for new tables come from.
pub(crate) trait Source {
    /// Takes a zeroed page; `None` if there is none.
    fn take(&mut self) -> Option<u64>;
    /// Takes back a page for which no table was missing any more, since another vCPU had linked one first.
    fn put_back(&mut self, page: u64);
}

/// The L1 table of `address` under `root`. Missing tables are made from pages of `source`.
pub(crate) fn ensure_table(root: u64, address: u64, source: &mut dyn Source) -> Result<u64, Errno> {
    let mut spare = None;
    let table = loop {
        let (table, level) = walk(root, address);
        if level == 1 {
            break table;
        }
        // The page is allocated before the lock is taken, since allocating may itself link tables.
        let new = spare
            .take()
            .or_else(|| source.take())
            .ok_or(errno::ENOMEM)?;
        let linking = LINKING.lock();
        if walk(root, address) == (table, level) {
            link(table, level, index(address, level), new)?;
        } else {
            spare = Some(new);
        }
        drop(linking);
    };
    if let Some(page) = spare {
        source.put_back(page);
    }
    Ok(table)
}

/// Makes the zeroed page `new` a table and entry `index` of `table`, of that level, name it.
fn link(table: u64, level: u32, index: usize, new: u64) -> Result<(), Errno> {
    let mfn = mfn_of(pfn_of(new)).ok_or(errno::EINVAL)?;
    let slot = machine_address(table, index).ok_or(errno::EINVAL)?;
    let entry = MmuUpdate {
        ptr: slot,
        val: (mfn << 12) | table_flags(level),
    };
    // SAFETY: the page is zeroed, has no other user, and is only read from now on.
    unsafe {
        make_read_only(new)?;
        set_entries(&[entry], DOMID_SELF)?;
    }
    kernel_entry_added(table, index, entry.val);
    Ok(())
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
/// from pages of `source`.
///
/// # Safety
/// The caller is responsible for what the addresses map afterwards.
pub(crate) unsafe fn set_range(
    root: u64,
    address: u64,
    count: u64,
    owner: u16,
    entry: &dyn Fn(u64) -> Option<u64>,
    source: &mut dyn Source,
) -> Result<(), Errno> {
    let mut batch = [MmuUpdate::default(); BATCH];
    let mut filled = 0;
    for n in 0..count {
        let at = address + n * PAGE_BYTES as u64;
        let table = ensure_table(root, at, source)?;
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
pub(crate) fn map_direct(first: u64, last: u64, source: &mut dyn Source) -> Option<()> {
    let entry = |n: u64| Some((mfn_of(first + n)? << 12) | RAM_FLAGS);
    let root = kernel_root();
    // SAFETY: the frames belong to the domain, are free, and are not mapped anywhere.
    unsafe {
        set_range(
            root,
            direct(first),
            last - first,
            DOMID_SELF,
            &entry,
            source,
        )
    }
    .ok()
}

/// Unmaps those of `count` pages from `address` on that are mapped, and flushes all vCPUs.
pub(crate) fn clear(address: u64, count: u64) {
    let root = kernel_root();
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
