//! Large heap blocks in frames beyond the memory that the domain started with. The frames are requested
//! from the hypervisor when a block is allocated and returned when it is freed. Off until a guest calls [`enable`].

#![expect(unsafe_code, reason = "changes what addresses map")]

use core::sync::atomic::{AtomicBool, Ordering};

use guest_pv_abi::memory::XENMEM_POPULATE_PHYSMAP;
use guest_pv_abi::{Errno, Long, errno};

use crate::arch::{LARGE_END, LARGE_START, from_long};
use crate::frames::{BATCH, PAGE_BYTES, give_back, reservation};
use crate::hyper;
use crate::info::start_info;
use crate::paging::{self, Access};
use crate::sync::Lock;
use crate::tables;

/// Blocks of at least this many bytes get frames of their own.
pub(crate) const THRESHOLD: usize = 1 << 20;
/// Granularity of the addresses of large blocks, in bytes.
const UNIT: usize = 1 << 20;
const UNITS: usize = (LARGE_END - LARGE_START) as usize / UNIT;

static ENABLED: AtomicBool = AtomicBool::new(false);

/// One bit for each unit, set while it is in use. The lowest free units are taken, to reuse page tables.
static USED: Lock<[u64; UNITS / 64]> = Lock::new([0; UNITS / 64]);

/// Allows large heap blocks to use memory beyond what the domain started with.
pub fn enable() {
    ENABLED.store(true, Ordering::Relaxed);
}

/// Whether the address is in the range of large blocks.
pub(crate) fn owns(block: *const u8) -> bool {
    (LARGE_START..LARGE_END).contains(&(block.addr() as u64))
}

fn take_units(count: usize) -> Option<usize> {
    let mut used = USED.lock();
    let mut run = 0;
    for unit in 0..UNITS {
        run = if used[unit / 64] >> (unit % 64) & 1 == 0 {
            run + 1
        } else {
            0
        };
        if run == count {
            let first = unit + 1 - count;
            for unit in first..=unit {
                used[unit / 64] |= 1 << (unit % 64);
            }
            return Some(first);
        }
    }
    None
}

fn give_units(first: usize, count: usize) {
    let mut used = USED.lock();
    for unit in first..first + count {
        used[unit / 64] &= !(1 << (unit % 64));
    }
}

/// Allocates at least `bytes` bytes; `None` if disabled, or if addresses or the hypervisor's memory run out.
pub(crate) fn allocate(bytes: usize) -> Option<*mut u8> {
    if !ENABLED.load(Ordering::Relaxed) {
        return None;
    }
    let units = bytes.div_ceil(UNIT);
    let first = take_units(units)?;
    let address = LARGE_START + (first * UNIT) as u64;
    let pages = bytes.div_ceil(PAGE_BYTES);
    if fill(address, pages).is_err() {
        empty(address, pages);
        give_units(first, units);
        return None;
    }
    Some(core::ptr::with_exposed_provenance_mut(address as usize))
}

/// Frees a block of `bytes` bytes.
///
/// # Safety
/// The block came from [`allocate`] with that size, and is no longer used.
pub(crate) unsafe fn free(block: *mut u8, bytes: usize) {
    let address = block.addr() as u64;
    empty(address, bytes.div_ceil(PAGE_BYTES));
    let first = (address - LARGE_START) as usize / UNIT;
    give_units(first, bytes.div_ceil(UNIT));
}

/// Requests frames and maps them from `address` on.
fn fill(address: u64, pages: usize) -> Result<(), Errno> {
    let mut frames = [0; BATCH];
    for done in (0..pages).step_by(BATCH) {
        let frames = &mut frames[..BATCH.min(pages - done)];
        let at = address + (done * PAGE_BYTES) as u64;
        // These pseudo-physical numbers are above all others of the domain; no code looks them up.
        let number = from_long(start_info().nr_pages) + (at - LARGE_START) / PAGE_BYTES as u64;
        for (offset, frame) in frames.iter_mut().enumerate() {
            *frame = (number + offset as u64) as Long;
        }
        let mut request = reservation(frames);
        let given = hyper::memory_op(XENMEM_POPULATE_PHYSMAP, &mut request)? as usize;
        // The hypervisor wrote the list, which the compiler doesn't know.
        let frames = core::hint::black_box(frames);
        if given < frames.len() {
            give_back(&mut frames[..given]);
            return Err(errno::ENOMEM);
        }
        // SAFETY: the addresses are free and belong to this block, and the frames are new.
        if let Err(error) = unsafe { paging::map_at(at, frames, Access::ReadWrite) } {
            tables::clear(at, frames.len() as u64);
            give_back(frames);
            return Err(error);
        }
    }
    Ok(())
}

/// Unmaps the pages of a block that are mapped and returns their frames.
fn empty(address: u64, pages: usize) {
    let mut frames = [0; BATCH];
    for done in (0..pages).step_by(BATCH) {
        let at = address + (done * PAGE_BYTES) as u64;
        let count = BATCH.min(pages - done);
        let mut found = 0;
        for page in 0..count {
            if let Some(entry) = tables::entry_of(at + (page * PAGE_BYTES) as u64) {
                frames[found] = ((entry & tables::FRAME_MASK) >> 12) as Long;
                found += 1;
            }
        }
        tables::clear(at, count as u64);
        give_back(&mut frames[..found]);
    }
}

const _: () = assert!(UNITS.is_multiple_of(64));
