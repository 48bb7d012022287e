//! The real address space: the master tables with the image, the direct map, the frame table and the
//! machine-to-physical table. The rest of RAM goes to the frame allocator.
#![expect(unsafe_code, reason = "builds and loads page tables")]

use log::info;

use super::early_memory::Ranges;
use super::info::{BootInfo, LOW_MEMORY, Range, ScreenInfo};
use super::start::machine_of;
use super::{screen, serial, stack};
use crate::arch::cpu;
use crate::arch::cr3::{self, RunRoot};
use crate::arch::paging::{self, MapError, PageSizes, Table, TableMemory};
use crate::kit::{Lock, Maddr, Mfn, Once, PAGE_SIZE, Rank, Vaddr};
use crate::mm::alloc::{Where, add_free, add_used, alloc_frame};
use crate::mm::frame::{CHUNK_FRAMES, chunk_address, frames};
use crate::mm::layout::DIRECT_MAP;
use crate::mm::{directmap, layout, m2p, memory_map};
use crate::pagetype::machine;

const LARGE: u64 = 2 << 20;
/// The end of the machine memory that the boot tables map.
pub const BOOT_LIMIT: u64 = 1 << 32;
/// The least RAM with which the hypervisor starts, in bytes.
const MIN_MEMORY: u64 = 48 << 20;

/// The end of the RAM that real mode reaches.
const REAL_MODE_LIMIT: u64 = 0xa_0000;
static LOW_PAGE: Once<Maddr> = Once::new();

/// The page below 640 KiB in which other CPUs start.
pub fn low_page() -> Option<Maddr> {
    LOW_PAGE.get().copied()
}

unsafe extern "C" {
    static __text_start: u8;
    static __rodata_start: u8;
    static __data_start: u8;
    static __image_end: u8;
}

/// The address of a linker symbol.
fn address(symbol: *const u8) -> u64 {
    symbol as u64
}

/// The addresses of the image's code.
pub fn text() -> core::ops::Range<u64> {
    address(&raw const __text_start)..address(&raw const __rodata_start)
}

/// The machine memory of the image.
pub fn image() -> Range {
    Range {
        start: machine_of(address(&raw const __text_start)).0,
        end: machine_of(address(&raw const __image_end)).0,
    }
}

fn largest_page() -> PageSizes {
    if cpu::features().page1gb {
        PageSizes::Huge
    } else {
        PageSizes::Large
    }
}

fn table_at(at: Maddr) -> &'static Table {
    // SAFETY: tables are RAM in the direct map that is never used otherwise, and consist of atomics.
    unsafe { &*((layout::DIRECT_MAP + at.0) as *const Table) }
}

fn fill(at: Maddr, bytes: u64, value: u8) {
    // SAFETY: the caller has just taken this memory from the free ranges, and the direct map contains it.
    unsafe {
        core::ptr::write_bytes(
            (layout::DIRECT_MAP + at.0) as *mut u8,
            value,
            bytes as usize,
        )
    };
}

/// Allocates tables from the free ranges, before the frame allocator exists.
struct Early {
    free: Ranges,
    limit: u64,
}

impl TableMemory for Early {
    fn new_table(&mut self) -> Option<Maddr> {
        let at = self
            .free
            .take(PAGE_SIZE as u64, PAGE_SIZE as u64, self.limit)?;
        fill(at, PAGE_SIZE as u64, 0);
        Some(at)
    }
    fn table(&self, at: Maddr) -> &Table {
        table_at(at)
    }
    fn largest_page(&self) -> PageSizes {
        largest_page()
    }
}

/// Allocates tables from the frame allocator.
struct Late;

impl TableMemory for Late {
    fn new_table(&mut self) -> Option<Maddr> {
        alloc_frame(Where::ANY).map(Mfn::maddr)
    }
    fn table(&self, at: Maddr) -> &Table {
        table_at(at)
    }
    fn largest_page(&self) -> PageSizes {
        largest_page()
    }
}

/// The size in bytes of the heap's first memory, which must fit the memory map's lists and the ranges of free memory.
const EARLY_HEAP_BYTES: usize = 512 << 10;

#[repr(C, align(4096))]
struct EarlyHeap(core::cell::UnsafeCell<[u8; EARLY_HEAP_BYTES]>);
// SAFETY: only the heap uses this memory.
unsafe impl Sync for EarlyHeap {}

/// Gives the heap its first memory, so that boot can allocate before there are frames.
pub fn start_heap() {
    static EARLY: EarlyHeap = EarlyHeap(core::cell::UnsafeCell::new([0; EARLY_HEAP_BYTES]));
    let at = DIRECT_MAP + machine_of(EARLY.0.get() as u64).0;
    // SAFETY: in the direct map of both the boot tables and the real ones; nothing else uses it.
    unsafe { crate::mm::heap::start(at as *mut u8, EARLY_HEAP_BYTES) };
}

/// Builds and loads the address space, and starts the frame allocator and the heap. The screen moves with the tables,
/// so that errors before and after the load are visible.
///
/// # Errors
/// A sentence that says what this machine lacks.
pub fn init(info: &BootInfo, screen: Option<&ScreenInfo>) -> Result<(), &'static str> {
    let ram = Ranges::ram(&info.map);
    if ram.bytes() < MIN_MEMORY {
        return Err("this machine has too little memory: at least 48 MiB are needed");
    }
    let mut free = ram.clone();
    free.remove(Range {
        start: 0,
        end: PAGE_SIZE as u64,
    });
    free.remove(image());
    info.modules.iter().for_each(|m| free.remove(m.range));
    info.occupied.iter().for_each(|r| free.remove(*r));
    if let Some(page) = free.take(PAGE_SIZE as u64, PAGE_SIZE as u64, REAL_MODE_LIMIT) {
        LOW_PAGE.call_once(|| page);
    }
    free.remove(Range {
        start: 0,
        end: LOW_MEMORY,
    });

    let mut early = Early {
        free,
        limit: BOOT_LIMIT,
    };
    let no_memory = "there is too little free memory below 4 GiB";
    let l4 = early.new_table().ok_or(no_memory)?;
    map_image(&mut early, l4).map_err(|_| no_memory)?;
    for range in ram.iter() {
        let (at, bytes) = (
            Vaddr(layout::DIRECT_MAP + range.start),
            range.end - range.start,
        );
        paging::map(
            &mut early,
            l4,
            at,
            Maddr(range.start),
            bytes,
            paging::DATA,
            PageSizes::Huge,
        )
        .map_err(|_| no_memory)?;
    }
    layout::MASTER.call_once(|| l4.mfn());
    // The L4 entry of the devices must exist before L4s are copied from the master.
    map_first_device_table(&mut early, l4).ok_or(no_memory)?;
    let screen = screen.map(|s| {
        let at = map_device_by(&mut early, s.at, s.bytes, paging::FRAMEBUFFER);
        (s, at)
    });
    let port =
        serial::in_memory().map(|at| map_device_by(&mut early, at, serial::BYTES, paging::DEVICE));
    // SAFETY: the image, with this code and its stack, and all RAM are mapped where they were.
    cr3::load(unsafe { RunRoot::new(l4) });
    if let Some(at) = port {
        serial::moved(at);
    }
    if let Some((found, at)) = screen {
        screen::moved(found, at);
    }

    early.limit = u64::MAX;
    map_frame_table(&mut early, l4, &ram).map_err(|_| no_memory)?;
    map_m2p(&mut early, l4, &ram).map_err(|_| no_memory)?;
    map_narrow_m2p(&mut early, l4, &ram).map_err(|_| no_memory)?;
    let free = early.free;
    for range in free.missing_from(&ram).iter() {
        add_used(Maddr(range.start).mfn(), Maddr(range.end).mfn());
    }
    for range in free.iter() {
        add_free(Maddr(range.start).mfn(), Maddr(range.end).mfn());
    }
    set_m2p_extents(l4);
    tell_others(info);
    info!(
        "memory: {} MiB, {} MiB free",
        ram.bytes() >> 20,
        crate::mm::alloc::free_frames() >> 8
    );
    Ok(())
}

/// Publishes what domains may know of memory: the firmware's map, and the machine-to-physical tables, read-only.
fn tell_others(info: &BootInfo) {
    let region = |r: &super::info::Region| memory_map::Region {
        start: r.range.start,
        bytes: r.range.end - r.range.start,
        kind: r.kind,
    };
    memory_map::set(info.map.iter().map(region).collect());
    let extents = m2p::extents().iter().chain(m2p::narrow_extents());
    for extent in extents.filter(|extent| extent.0 != 0) {
        (0..LARGE / PAGE_SIZE as u64).for_each(|n| machine().share_read_only(extent.add(n)));
    }
}

/// Maps the image, except the guard pages of the boot stacks.
fn map_image(early: &mut Early, l4: Maddr) -> Result<(), MapError> {
    let parts = [
        (address(&raw const __text_start), paging::TEXT),
        (address(&raw const __rodata_start), paging::RODATA),
        (address(&raw const __data_start), paging::DATA),
    ];
    let guards = stack::guards().map(|page| page.0);
    let behind_guards = guards.map(|page| (page + PAGE_SIZE as u64, paging::DATA));
    let starts = parts.into_iter().chain(behind_guards);
    let ends = parts.map(|part| part.0).into_iter().chain(guards);
    for (start, flags) in starts {
        let behind = ends.clone().filter(|end| *end > start).min();
        let end = behind.unwrap_or(address(&raw const __image_end));
        paging::map(
            early,
            l4,
            Vaddr(start),
            machine_of(start),
            end - start,
            flags,
            PageSizes::Large,
        )?;
    }
    Ok(())
}

/// The numbers of those pieces of `piece` frames each that contain some RAM.
fn pieces(ram: &Ranges, piece: u64) -> impl Iterator<Item = u64> {
    let bytes = piece * PAGE_SIZE as u64;
    let end = ram.iter().last().map_or(0, |r| r.end).div_ceil(bytes);
    (0..end).filter(move |n| {
        ram.iter()
            .any(|r| r.start < (n + 1) * bytes && r.end > n * bytes)
    })
}

/// Takes a 2 MiB page from the free ranges, fills it with `value`, and maps it at `at`.
fn map_large(
    early: &mut Early,
    l4: Maddr,
    at: Vaddr,
    value: u8,
    flags: u64,
) -> Result<Maddr, MapError> {
    let memory = early
        .free
        .take(LARGE, LARGE, u64::MAX)
        .ok_or(MapError::NoMemory)?;
    fill(memory, LARGE, value);
    paging::map(early, l4, at, memory, LARGE, flags, PageSizes::Large)?;
    Ok(memory)
}

/// Maps the frame table up to the last frame of RAM. All chunks that describe no RAM share a single 2 MiB
/// page of zeros, mapped read-only.
fn map_frame_table(early: &mut Early, l4: Maddr, ram: &Ranges) -> Result<(), MapError> {
    let (mut end, mut nothing) = (0, None);
    for chunk in pieces(ram, CHUNK_FRAMES) {
        for gap in end..chunk {
            let at = Vaddr(chunk_address(gap));
            match nothing {
                None => nothing = Some(map_large(early, l4, at, 0, paging::RODATA)?),
                Some(page) => {
                    paging::map(early, l4, at, page, LARGE, paging::RODATA, PageSizes::Large)?;
                }
            }
        }
        map_large(early, l4, Vaddr(chunk_address(chunk)), 0, paging::DATA)?;
        end = chunk + 1;
    }
    // SAFETY: mapped and zeroed in the lines above, for good.
    unsafe { frames().set_end(Mfn(end * CHUNK_FRAMES)) };
    Ok(())
}

/// Maps the machine-to-physical table of wide guests, for them and for the hypervisor itself.
fn map_m2p(early: &mut Early, l4: Maddr, ram: &Ranges) -> Result<(), MapError> {
    for extent in pieces(ram, m2p::EXTENT_FRAMES) {
        let own = Vaddr(layout::M2P_OWN + extent * LARGE);
        let to = map_large(early, l4, own, 0xff, paging::DATA)?;
        let at = Vaddr(layout::M2P + extent * LARGE);
        let flags = paging::GUEST_RODATA;
        paging::map(early, l4, at, to, LARGE, flags, PageSizes::Large)?;
    }
    Ok(())
}

/// Maps the machine-to-physical table of narrow guests for the hypervisor itself. Narrow guests get mappings of their own
/// ([`m2p::narrow_entry`]).
fn map_narrow_m2p(early: &mut Early, l4: Maddr, ram: &Ranges) -> Result<(), MapError> {
    let reach = layout::NARROW_M2P_FRAMES / m2p::NARROW_EXTENT_FRAMES;
    for extent in pieces(ram, m2p::NARROW_EXTENT_FRAMES).take_while(|n| *n < reach) {
        let own = Vaddr(layout::NARROW_M2P_OWN + extent * LARGE);
        map_large(early, l4, own, 0xff, paging::DATA)?;
    }
    Ok(())
}

/// Tells `mm` where the two tables are.
fn set_m2p_extents(l4: Maddr) {
    let end = crate::mm::alloc::end_of_ram();
    let narrow_end = end.0.min(layout::NARROW_M2P_FRAMES);
    let count = end.0.div_ceil(m2p::EXTENT_FRAMES);
    let narrow_count = narrow_end.div_ceil(m2p::NARROW_EXTENT_FRAMES);
    m2p::set_extents(
        extents(l4, layout::M2P_OWN, count).collect(),
        extents(l4, layout::NARROW_M2P_OWN, narrow_count).collect(),
        end,
    );
}

/// The first frame of each of `count` times 2 MiB that are mapped from `at` on; frame 0 for a gap.
fn extents(l4: Maddr, at: u64, count: u64) -> impl Iterator<Item = Mfn> {
    (0..count).map(move |n| {
        let extent = paging::translate(&Late, l4, Vaddr(at + n * LARGE));
        extent.unwrap_or_default().mfn()
    })
}

fn map_first_device_table(early: &mut Early, l4: Maddr) -> Option<()> {
    let link = early.new_table()?.0 | paging::TABLE_LINK;
    let slot = &table_at(l4)[Vaddr(layout::DEVICES).index(4)];
    slot.store(link, crate::kit::atomic::Ordering::Release);
    Some(())
}

/// The address at which the next device is mapped. The first GiB of the slot is for the CPUs' blocks.
static NEXT_DEVICE: Lock<u64> = Lock::new(Rank::DeviceAddresses, layout::DEVICES + (1 << 30));

/// Maps machine memory that the allocator doesn't manage (registers, tables), for good. A guard page follows.
pub fn map_device(at: Maddr, bytes: u64, flags: u64) -> Option<Vaddr> {
    map_device_by(&mut Late, at, bytes, flags)
}

fn map_device_by(
    tables: &mut impl TableMemory,
    at: Maddr,
    bytes: u64,
    flags: u64,
) -> Option<Vaddr> {
    let page = PAGE_SIZE as u64;
    let first = Maddr(at.0 / page * page);
    let bytes = (at.0.checked_add(bytes)? - first.0).next_multiple_of(page);
    let mut next = NEXT_DEVICE.lock();
    let va = Vaddr(*next);
    let l4 = layout::MASTER.get()?.maddr();
    paging::map(tables, l4, va, first, bytes, flags, PageSizes::Small).ok()?;
    *next += bytes + page;
    Some(Vaddr(va.0 + at.offset() as u64))
}

/// Maps pages in the core's part of the address space, for good.
pub fn map_own(at: Vaddr, to: Maddr, bytes: u64, flags: u64) -> Option<()> {
    let l4 = layout::MASTER.get()?.maddr();
    paging::map(&mut Late, l4, at, to, bytes, flags, PageSizes::Small).ok()
}

/// Allocates a zeroed frame that is never freed; returns it and its address in the direct map.
pub fn own_frame() -> Option<(Mfn, *mut u8)> {
    let frame = alloc_frame(Where::ANY)?;
    Some((frame, directmap::ptr(frame)))
}
