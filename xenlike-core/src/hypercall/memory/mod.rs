//! memory_op: gives a domain memory, takes it back, and answers questions about memory.
//!
//! The command's low six bits are the sub-call. In a continuation, the bits above hold the number of extents done.

mod exchange;
mod facts;
mod map;
mod reservation;
mod resource;

use guest_pv_abi::errno::{self, Errno};
use guest_pv_abi::memory::{
    AddToPhysmap, AddToPhysmapBatch, MemAccessOp, RemoveFromPhysmap, XENMEM_ACCESS_OP,
    XENMEM_ACQUIRE_RESOURCE, XENMEM_ADD_TO_PHYSMAP, XENMEM_ADD_TO_PHYSMAP_BATCH,
    XENMEM_CLAIM_PAGES, XENMEM_CURRENT_RESERVATION, XENMEM_DECREASE_RESERVATION, XENMEM_EXCHANGE,
    XENMEM_GET_POD_TARGET, XENMEM_GET_SHARING_FREED_PAGES, XENMEM_GET_SHARING_SHARED_PAGES,
    XENMEM_GET_VNUMAINFO, XENMEM_INCREASE_RESERVATION, XENMEM_MACHINE_MEMORY_MAP,
    XENMEM_MACHPHYS_COMPAT_MFN_LIST, XENMEM_MACHPHYS_MAPPING, XENMEM_MACHPHYS_MFN_LIST,
    XENMEM_MAXIMUM_GPFN, XENMEM_MAXIMUM_RAM_PAGE, XENMEM_MAXIMUM_RESERVATION, XENMEM_MEMORY_MAP,
    XENMEM_POPULATE_PHYSMAP, XENMEM_REMOVE_FROM_PHYSMAP, XENMEM_RESERVED_DEVICE_MEMORY_MAP,
    XENMEM_SET_MEMORY_MAP, XENMEM_SET_POD_TARGET,
};
use guest_pv_abi::{Form, Width};
use zerocopy::FromBytes;

use super::arguments::MemoryOp;
use super::{Ctx, Outcome};
use crate::kit::Vaddr;

/// The bits of the command that are the sub-call (MEMOP_CMD_MASK).
const SUB_CALL: usize = 0x3f;
/// Position of the number of extents done in the command (MEMOP_EXTENT_SHIFT).
const EXTENT_SHIFT: u32 = 6;
/// Maximum order of an extent: 2 MiB, Xen's limit for a DomU.
const MAX_ORDER: u32 = 9;

/// `memory_op(command, argument)`: dispatches the sub-call.
pub fn call(ctx: &mut Ctx<'_>, args: &mut MemoryOp) -> Outcome {
    let at = args.at;
    match (args.command & SUB_CALL) as u32 {
        XENMEM_INCREASE_RESERVATION => reservation::increase(ctx, args),
        XENMEM_DECREASE_RESERVATION => match ctx.st.kind.width() {
            Width::Wide => reservation::decrease::<u64>(ctx, args),
            Width::Narrow => reservation::decrease::<u32>(ctx, args),
        },
        XENMEM_POPULATE_PHYSMAP => match ctx.st.kind.width() {
            Width::Wide => reservation::populate::<u64>(ctx, args),
            Width::Narrow => reservation::populate::<u32>(ctx, args),
        },
        XENMEM_EXCHANGE => exchange::call(ctx, args),
        XENMEM_CLAIM_PAGES => reservation::claim(ctx, at).into(),
        XENMEM_MAXIMUM_RAM_PAGE => Outcome::Done(facts::maximum_ram_page()),
        XENMEM_CURRENT_RESERVATION => facts::current_reservation(ctx, at).into(),
        XENMEM_MAXIMUM_RESERVATION => facts::maximum_reservation(ctx, at).into(),
        XENMEM_MAXIMUM_GPFN => facts::maximum_gpfn(ctx, at).into(),
        XENMEM_MACHPHYS_MFN_LIST => facts::machphys_mfn_list(ctx, at).into(),
        XENMEM_MACHPHYS_COMPAT_MFN_LIST => facts::machphys_compat_mfn_list(ctx, at).into(),
        XENMEM_MACHPHYS_MAPPING => facts::machphys_mapping(ctx, at).into(),
        XENMEM_MEMORY_MAP => map::get_own(ctx, at).into(),
        XENMEM_SET_MEMORY_MAP => map::set(ctx, at).into(),
        XENMEM_MACHINE_MEMORY_MAP => map::get_machine(ctx, at).into(),
        XENMEM_RESERVED_DEVICE_MEMORY_MAP => map::reserved_for_devices(ctx, at).into(),
        XENMEM_ACQUIRE_RESOURCE => resource::acquire(ctx, args),
        // Memory sharing is not supported, so no page is shared and none was freed by it.
        XENMEM_GET_SHARING_FREED_PAGES | XENMEM_GET_SHARING_SHARED_PAGES => Outcome::Done(0),
        other => refuse(ctx, other, at).into(),
    }
}

/// Refuses the sub-calls that a PV domain can't use, with the errno that Xen returns for one.
fn refuse(ctx: &Ctx<'_>, sub_call: u32, at: Vaddr) -> Result<(), Errno> {
    match sub_call {
        // These need a translated address space, which a PV domain doesn't have.
        XENMEM_ADD_TO_PHYSMAP => about::<AddToPhysmap>(ctx, at, errno::EACCES),
        XENMEM_ADD_TO_PHYSMAP_BATCH => about::<AddToPhysmapBatch>(ctx, at, errno::EACCES),
        XENMEM_REMOVE_FROM_PHYSMAP => about::<RemoveFromPhysmap>(ctx, at, errno::EACCES),
        // Virtual NUMA is not supported.
        XENMEM_GET_VNUMAINFO => about::<u16>(ctx, at, errno::EOPNOTSUPP),
        XENMEM_SET_POD_TARGET | XENMEM_GET_POD_TARGET => {
            let target: guest_pv_abi::memory::PodTarget = ctx.guest().read(at)?;
            ctx.target(target.domid)?;
            Err(errno::EINVAL)
        }
        // Only HVM domains have access lists, and no domain may change its own.
        XENMEM_ACCESS_OP => {
            let named: MemAccessOp = ctx.guest().read(at)?;
            let dom = ctx.named(named.domid).ok_or(errno::ESRCH)?;
            Err(if dom.id() == ctx.dom.id() {
                errno::EPERM
            } else {
                errno::EINVAL
            })
        }
        // paging_op and sharing_op get ENOSYS, as from a Xen built without them.
        _ => Err(errno::ENOSYS),
    }
}

/// Reads a structure that begins with a domain's id, looks up the domain, and fails with `errno`.
fn about<T: Form>(ctx: &Ctx<'_>, at: Vaddr, errno: Errno) -> Result<(), Errno> {
    let body: T = ctx.guest().read(at)?;
    let domid = u16::read_from_prefix(body.as_bytes())
        .map_err(|_| errno::EFAULT)?
        .0;
    ctx.target(domid)?;
    Err(errno)
}

impl MemoryOp {
    /// Number of extents done before this continuation.
    const fn done(&self) -> u64 {
        (self.command >> EXTENT_SHIFT) as u64
    }

    /// Continues the call later, with `done` extents done.
    const fn again(&mut self, done: u64) -> Outcome {
        self.command = self.command & SUB_CALL | (done as usize) << EXTENT_SHIFT;
        Outcome::Again
    }
}
