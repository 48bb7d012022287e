//! Maps and unmaps granted frames.

use arrayvec::ArrayVec;
use guest_pv_abi::errno::{self, Errno};
use guest_pv_abi::grant_table as abi;

use super::{Ctx, List, Outcome, granter, mapper, status};
use crate::grant::{
    Access, Device, GrantError, HostAddr, Machine, MapRequest, Mapped, PteBits, Space, UnmapRequest,
};
use crate::kit::{Maddr, Vaddr};

/// Number of unmappings that share one TLB flush.
const BATCH: usize = 32;

/// Offset of the results in a mapping request: status, handle and device address. They are written back with the
/// granting domain's id, which is in the status's word.
const ANSWER: u64 = core::mem::offset_of!(abi::GnttabMapGrantRef, dom) as u64;

/// Maps the grant described at `at`.
pub fn map(ctx: &mut Ctx<'_>, at: Vaddr) -> Result<(), Errno> {
    let mut op = ctx.guest().read(at)?;
    map_one(ctx, &mut op);
    let [_, _, answer @ ..]: [u64; 4] = zerocopy::transmute!(op);
    Ok(ctx.guest().write(at.wrapping_add(ANSWER), &answer)?)
}

fn map_one(ctx: &mut Ctx<'_>, op: &mut abi::GnttabMapGrantRef) {
    // As in Xen, the request is checked before the domain is looked up.
    let mapped = request(ctx, op).and_then(|request| {
        let (caller, granter) = (ctx.dom, granter(ctx, op.dom)?);
        let (grants, mut mapper) = (&granter.grants, mapper(ctx));
        caller.grants.map(grants, &request, &mut mapper)
    });
    op.status = match mapped {
        Ok(Mapped { handle, mfn }) => {
            op.handle = handle;
            op.dev_bus_addr = mfn.maddr().0;
            abi::GNTST_OKAY
        }
        Err(error) => error.status(),
    };
}

/// Decodes a request. A domain without device rights gets no mapping for devices: such a mapping alone is refused,
/// because it would only use up handles. Together with a mapping for CPUs it is ignored, because Linux's gntdev
/// always asks for both.
fn request(ctx: &Ctx<'_>, op: &abi::GnttabMapGrantRef) -> Result<MapRequest, GrantError> {
    let has = |flag| op.flags & flag != 0;
    let may_use_devices = ctx.dom.pages.has_device_rights();
    match (has(abi::GNTMAP_HOST_MAP), has(abi::GNTMAP_DEVICE_MAP)) {
        (false, false) => return Err(GrantError::BadRef),
        (false, true) if !may_use_devices => return Err(GrantError::PermissionDenied),
        _ => {}
    }
    let host = if has(abi::GNTMAP_CONTAINS_PTE) {
        HostAddr::Pte(Maddr(op.host_addr))
    } else {
        HostAddr::Va(Vaddr(op.host_addr))
    };
    Ok(MapRequest {
        r: op.ref_,
        host: has(abi::GNTMAP_HOST_MAP).then_some(host),
        device: if has(abi::GNTMAP_DEVICE_MAP) && may_use_devices {
            Device::Used
        } else {
            Device::Unused
        },
        bits: PteBits {
            access: if has(abi::GNTMAP_READONLY) {
                Access::Read
            } else {
                Access::Write
            },
            space: if has(abi::GNTMAP_APPLICATION_MAP) {
                Space::User
            } else {
                Space::Kernel
            },
            avail: (op.flags >> abi::GNTMAP_GUEST_AVAIL_MASK.trailing_zeros()) as u8,
        },
    })
}

/// The two commands that unmap.
pub trait Form {
    /// The command's structure.
    type Op: guest_pv_abi::Form;
    /// Decodes the structure.
    fn request(op: &Self::Op) -> UnmapRequest;
    /// Offset of the status in the structure.
    const STATUS: usize;
}

/// The form of `GNTTABOP_unmap_grant_ref`.
pub struct Plain;
/// The form of `GNTTABOP_unmap_and_replace`.
pub struct Replacing;

impl Form for Plain {
    type Op = abi::GnttabUnmapGrantRef;
    fn request(op: &Self::Op) -> UnmapRequest {
        UnmapRequest {
            handle: op.handle,
            host_addr: op.host_addr,
            dev_bus_addr: op.dev_bus_addr,
            replace_by: None,
        }
    }
    const STATUS: usize = core::mem::offset_of!(Self::Op, status);
}

impl Form for Replacing {
    type Op = abi::GnttabUnmapAndReplace;
    fn request(op: &Self::Op) -> UnmapRequest {
        UnmapRequest {
            handle: op.handle,
            host_addr: op.host_addr,
            dev_bus_addr: 0,
            replace_by: (op.new_addr != 0).then_some(Vaddr(op.new_addr)),
        }
    }
    const STATUS: usize = core::mem::offset_of!(Self::Op, status);
}

/// Unmaps grants, in batches that share one flush each.
pub fn unmap<F: Form>(ctx: &mut Ctx<'_>, list: &mut List) -> Outcome {
    let mut done = 0;
    while done < list.count {
        if done != 0 && ctx.preempted() {
            return list.after::<F::Op>(ctx.guest(), done);
        }
        let size = list.count.saturating_sub(done).min(BATCH as u32);
        if let Err(error) = batch::<F>(ctx, list, done, size) {
            return error.into();
        }
        done = done.saturating_add(size);
    }
    Outcome::Done(0)
}

/// Unmaps one batch. The entries are removed first, then one flush covers them all, and only then do the handles put
/// their references and end the grants. Otherwise a CPU could still use the translation of a frame that its owner has
/// reclaimed. Unmappings that have begun are finished even after an error.
fn batch<F: Form>(ctx: &mut Ctx<'_>, list: &List, first: u32, size: u32) -> Result<(), Errno> {
    let grants = &ctx.dom.grants;
    let mut begun: ArrayVec<_, BATCH> = ArrayVec::new();
    let mut result = Ok(());
    let mut at = list.element::<F::Op>(ctx.guest(), first);
    for _ in 0..size {
        let Ok(op) = ctx.guest().read::<F::Op>(at) else {
            result = Err(errno::EFAULT);
            break;
        };
        let unmapped = grants.begin_unmap(&F::request(&op), &mut mapper(ctx));
        let status = status(unmapped.map(|unmapping| begun.push(unmapping)));
        let answer = at.wrapping_add(F::STATUS as u64);
        if ctx.guest().write(answer, &(status as u16)).is_err() {
            result = Err(errno::EFAULT);
            break;
        }
        at = at.wrapping_add(ctx.guest().size::<F::Op>());
    }
    let mut machine = mapper(ctx);
    if !begun.is_empty() {
        machine.flush();
    }
    for unmapping in begun.drain(..) {
        grants.finish_unmap(unmapping, &mut machine);
    }
    result
}
