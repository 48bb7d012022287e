//! Memory of domains: allocating frames, the memory map, pinning page tables, grant table frames (memory.h, xen.h).

use alloc::vec;
use alloc::vec::Vec;

use guest_pv_abi::Width;
use guest_pv_abi::hypercall;
use guest_pv_abi::memory as abi;
use guest_pv_abi::xen::{MMUEXT_PIN_L3_TABLE, MMUEXT_PIN_L4_TABLE, MmuextOp};
use zerocopy::FromBytes;

pub use guest_pv_abi::memory::E820Entry;

use super::{Args, CallError, DomId, Hypercalls, Mfn, Pfn};

/// Maximum number of frames that one call handles.
pub const MAX_BATCH: usize = 1024;
/// Maximum number of ranges in a memory map: enough for 1024 overlapping ranges and the interrupt controllers.
const MAX_RANGES: usize = 2304;

/// Where the frames of an allocation may lie in the machine's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// At any address.
    Anywhere,
    /// Below 4 GiB.
    Below4Gib,
}

/// Allocates `1 << order` pages for each of the page numbers in `first`. The answer has a frame number for each
/// extent that there was memory for.
///
/// # Errors
/// If the hypervisor refuses the whole call.
pub fn populate<H: Hypercalls + ?Sized>(
    h: &mut H,
    dom: DomId,
    first: &[Pfn],
    order: u32,
    place: Place,
) -> Result<Vec<Mfn>, CallError> {
    let what = CallError::of("give the domain memory");
    let mut args = Args::new(h);
    let pfns: Vec<u64> = first.iter().map(|pfn| pfn.0).collect();
    let extents = args.put(pfns.as_slice()).map_err(&what)?;
    let body = abi::MemoryReservation {
        extent_start: extents.handle,
        nr_extents: first.len() as u64,
        extent_order: order,
        mem_flags: match place {
            Place::Anywhere => 0,
            Place::Below4Gib => 32,
        },
        domid: dom.0,
        ..Default::default()
    };
    let body = args.put(&body).map_err(&what)?;
    let call = [
        u64::from(abi::XENMEM_POPULATE_PHYSMAP),
        body.handle.0,
        0,
        0,
        0,
    ];
    let done = args.call(hypercall::MEMORY_OP, call).map_err(&what)? as usize;
    let frames = args
        .bytes(extents)
        .as_chunks::<8>()
        .0
        .iter()
        .map(|&bytes| Mfn(u64::from_le_bytes(bytes)));
    Ok(frames.take(done).collect())
}

/// Sets a domain's memory map.
///
/// # Errors
/// If the hypervisor refuses the call.
pub fn set_memory_map<H: Hypercalls + ?Sized>(
    h: &mut H,
    dom: DomId,
    map: &[E820Entry],
) -> Result<(), CallError> {
    let what = CallError::of("set the domain's memory map");
    let mut args = Args::new(h);
    let buffer = args.put(map).map_err(&what)?.handle;
    let map = abi::MemoryMap {
        nr_entries: map.len() as u32,
        buffer,
        ..Default::default()
    };
    let body = abi::ForeignMemoryMap {
        domid: dom.0,
        map,
        ..Default::default()
    };
    let body = args.put(&body).map_err(&what)?;
    let call = [
        u64::from(abi::XENMEM_SET_MEMORY_MAP),
        body.handle.0,
        0,
        0,
        0,
    ];
    args.call(hypercall::MEMORY_OP, call)
        .map(drop)
        .map_err(what)
}

/// Reads the machine's memory map.
///
/// # Errors
/// If the hypervisor refuses the call.
pub fn machine_memory_map<H: Hypercalls + ?Sized>(h: &mut H) -> Result<Vec<E820Entry>, CallError> {
    let what = CallError::of("read the machine's memory map");
    let mut args = Args::new(h);
    let room = args
        .room(MAX_RANGES * size_of::<E820Entry>())
        .map_err(&what)?;
    let body = abi::MemoryMap {
        nr_entries: MAX_RANGES as u32,
        buffer: room.handle,
        ..Default::default()
    };
    let body = args.put(&body).map_err(&what)?;
    let call = [
        u64::from(abi::XENMEM_MACHINE_MEMORY_MAP),
        body.handle.0,
        0,
        0,
        0,
    ];
    args.call(hypercall::MEMORY_OP, call).map_err(&what)?;
    let count = args.get::<abi::MemoryMap>(body).nr_entries as usize;
    let (map, _) =
        <[E820Entry]>::ref_from_prefix_with_elems(args.bytes(room), count.min(MAX_RANGES))
            .map_err(|_| what(guest_pv_abi::errno::EINVAL))?;
    Ok(map.to_vec())
}

/// Pins a domain's page tables: the hypervisor validates them from the root down, and keeps their types.
///
/// # Errors
/// If the hypervisor refuses the call.
pub fn pin_root<H: Hypercalls + ?Sized>(
    h: &mut H,
    dom: DomId,
    width: Width,
    root: Mfn,
) -> Result<(), CallError> {
    let what = CallError::of("pin the domain's page tables");
    let mut args = Args::new(h);
    let op = MmuextOp {
        cmd: match width {
            Width::Wide => MMUEXT_PIN_L4_TABLE,
            Width::Narrow => MMUEXT_PIN_L3_TABLE,
        },
        arg1: root.0,
        ..Default::default()
    };
    let op = args.put(&op).map_err(&what)?;
    args.call(
        hypercall::MMUEXT_OP,
        [op.handle.0, 1, 0, u64::from(dom.0), 0],
    )
    .map(drop)
    .map_err(what)
}

/// The first `count` frames of a domain's grant table.
///
/// # Errors
/// If the hypervisor refuses the call.
pub fn grant_frames<H: Hypercalls + ?Sized>(
    h: &mut H,
    dom: DomId,
    count: usize,
) -> Result<Vec<Mfn>, CallError> {
    let what = CallError::of("reach the domain's grant table");
    let mut args = Args::new(h);
    let list = args.put(vec![0_u64; count].as_slice()).map_err(&what)?;
    let body = abi::MemAcquireResource {
        domid: dom.0,
        type_: abi::XENMEM_RESOURCE_GRANT_TABLE as u16,
        id: abi::XENMEM_RESOURCE_GRANT_TABLE_ID_SHARED,
        nr_frames: count as u32,
        frame_list: list.handle,
        ..Default::default()
    };
    let body = args.put(&body).map_err(&what)?;
    let call = [
        u64::from(abi::XENMEM_ACQUIRE_RESOURCE),
        body.handle.0,
        0,
        0,
        0,
    ];
    args.call(hypercall::MEMORY_OP, call).map_err(what)?;
    Ok(args
        .bytes(list)
        .as_chunks::<8>()
        .0
        .iter()
        .map(|&bytes| Mfn(u64::from_le_bytes(bytes)))
        .collect())
}
