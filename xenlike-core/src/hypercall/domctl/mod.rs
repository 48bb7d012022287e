//! domctl: the toolstack's operations on one domain (interface version 0x17). Version 0x15, of Xen 4.17, is accepted
//! too: it has another layout of createdomain, and its getdomaininfo returns the next existing domain.
//!
//! One match over the sub-operations. Each gets the target and a copy of the caller's structure and changes the
//! fields that the header marks as output; the copy is then written back. Domctls exclude each other. A CPU that
//! finds the lock taken returns for a continuation instead of waiting: the lock's holder may be waiting for this
//! CPU's vCPU to stop.

mod affinity;
mod build;
mod context;
mod extstate;
mod frames;
mod info;
mod msrs;
mod pausing;
mod permissions;
mod policy;
mod refused;
mod scheduler;
mod settings;
mod tsc;

use alloc::sync::Arc;

use guest_pv_abi::domctl::{self as abi, Domctl};
use guest_pv_abi::errno::{self, Errno};

pub use build::create_errno;
pub use context::set_errno as context_errno;
pub use info::info_of;
pub use policy::write_policy;

use super::arguments::Structure;
use super::{Ctx, Outcome};
use crate::domain::{self, Domain, Life, Rights};
use crate::kit::{DomId, Lock, Rank};

/// The outcome of a sub-operation.
pub(super) enum Answer {
    /// Done. The caller's structure is written back.
    Write,
    /// Done, with nothing to write back.
    Done,
    /// Not finished. The whole call is repeated.
    Again,
}

/// The result of a sub-operation.
pub(super) type Answered = Result<Answer, Errno>;

/// The interface version of a Xen 4.17 toolstack.
const VERSION_OF_4_17: u32 = 0x15;

/// Held by the CPU that performs a domctl.
pub(super) static ONE_AT_A_TIME: Lock<()> = Lock::new(Rank::Control, ());

/// `domctl(op)`: performs one operation on one domain. EACCES for an unknown interface version.
pub fn call(ctx: &mut Ctx<'_>, args: &Structure) -> Outcome {
    let at = args.at;
    let mut op = match ctx.guest().read::<Domctl>(at) {
        Ok(op) => op,
        Err(error) => return error.into(),
    };
    match answer(ctx, &mut op) {
        Ok(Answer::Write) => ctx.guest().write(at, &op).map_err(Errno::from).into(),
        Ok(Answer::Done) => Outcome::Done(0),
        Ok(Answer::Again) => Outcome::Again,
        Err(error) => error.into(),
    }
}

fn answer(ctx: &mut Ctx<'_>, op: &mut Domctl) -> Answered {
    let is_of_4_17 = match op.interface_version {
        abi::XEN_DOMCTL_INTERFACE_VERSION => false,
        VERSION_OF_4_17 => true,
        _ => return Err(errno::EACCES),
    };
    if op.cmd == abi::XEN_DOMCTL_CREATEDOMAIN {
        ctx.require_control()?;
        let Some(_alone) = ONE_AT_A_TIME.try_lock() else {
            return Ok(Answer::Again);
        };
        return build::create(op, is_of_4_17);
    }
    if is_of_4_17 && op.cmd == abi::XEN_DOMCTL_GETDOMAININFO {
        ctx.require_control()?;
        op.domain = info::next_from(op.domain);
    }
    let target = target(ctx, DomId(op.domain))?;
    ctx.require_control()?;
    let Some(_alone) = ONE_AT_A_TIME.try_lock() else {
        return Ok(Answer::Again);
    };
    if takes_references(op.cmd) && target.life() != Life::Alive {
        return Err(errno::EINVAL);
    }
    dispatch(ctx, &target, op)
}

/// Whether the command gives the domain resources that destruction has to release. Such commands are refused once the
/// domain is dying, because destruction may already have passed.
const fn takes_references(cmd: u32) -> bool {
    matches!(
        cmd,
        abi::XEN_DOMCTL_MAX_VCPUS
            | abi::XEN_DOMCTL_SETVCPUCONTEXT
            | abi::XEN_DOMCTL_SET_EXT_VCPUCONTEXT
            | abi::XEN_DOMCTL_SETVCPUEXTSTATE
            | abi::XEN_DOMCTL_SET_VCPU_MSRS
            | abi::XEN_DOMCTL_HYPERCALL_INIT
    )
}

/// Looks up the domain `id`. Only the boot domain itself can name the boot domain.
fn target(ctx: &Ctx<'_>, id: DomId) -> Result<Arc<Domain>, Errno> {
    if id == DomId::BOOT && ctx.dom.rights() != Rights::Boot {
        return Err(errno::ESRCH);
    }
    domain::lookup(id).ok_or(errno::ESRCH)
}

/// EINVAL if the caller names itself in an operation that would wait for its own vCPU.
pub(super) fn not_itself(ctx: &Ctx<'_>, dom: &Arc<Domain>) -> Result<(), Errno> {
    if Arc::ptr_eq(ctx.dom, dom) {
        Err(errno::EINVAL)
    } else {
        Ok(())
    }
}

fn dispatch(ctx: &mut Ctx<'_>, dom: &Arc<Domain>, op: &mut Domctl) -> Answered {
    match op.cmd {
        abi::XEN_DOMCTL_DESTROYDOMAIN => build::destroy(ctx, dom),
        abi::XEN_DOMCTL_MAX_VCPUS => build::max_vcpus(ctx, dom, op),
        abi::XEN_DOMCTL_MAX_MEM => build::max_mem(dom, op),
        abi::XEN_DOMCTL_HYPERCALL_INIT => build::hypercall_init(dom, op),
        abi::XEN_DOMCTL_SET_ADDRESS_SIZE => build::set_address_size(dom, op),
        abi::XEN_DOMCTL_GET_ADDRESS_SIZE => build::get_address_size(dom, op),
        abi::XEN_DOMCTL_PAUSEDOMAIN => pausing::pause(ctx, dom),
        abi::XEN_DOMCTL_UNPAUSEDOMAIN => pausing::unpause(dom),
        abi::XEN_DOMCTL_RESUMEDOMAIN => pausing::resume(ctx, dom),
        abi::XEN_DOMCTL_SENDTRIGGER => pausing::send_trigger(dom, op),
        abi::XEN_DOMCTL_GETDOMAININFO => info::getdomaininfo(dom, op),
        abi::XEN_DOMCTL_GETVCPUINFO => info::getvcpuinfo(dom, op),
        abi::XEN_DOMCTL_GETPAGEFRAMEINFO3 => frames::getpageframeinfo3(ctx.guest(), dom, op),
        abi::XEN_DOMCTL_SETVCPUCONTEXT => context::set(ctx, dom, op),
        abi::XEN_DOMCTL_GETVCPUCONTEXT => context::get(ctx, dom, op),
        abi::XEN_DOMCTL_SET_EXT_VCPUCONTEXT => context::set_extended(ctx, dom, op),
        abi::XEN_DOMCTL_GET_EXT_VCPUCONTEXT => context::get_extended(ctx, dom, op),
        abi::XEN_DOMCTL_SETVCPUEXTSTATE => extstate::set_state(ctx, dom, op),
        abi::XEN_DOMCTL_GETVCPUEXTSTATE => extstate::get_state(ctx, dom, op),
        abi::XEN_DOMCTL_GET_VCPU_MSRS => msrs::get_msrs(ctx, dom, op),
        abi::XEN_DOMCTL_SET_VCPU_MSRS => msrs::set_msrs(ctx, dom, op),
        abi::XEN_DOMCTL_SETVCPUAFFINITY => affinity::set(ctx.guest(), dom, op),
        abi::XEN_DOMCTL_GETVCPUAFFINITY => affinity::get(ctx.guest(), dom, op),
        abi::XEN_DOMCTL_SETNODEAFFINITY => affinity::set_nodes(ctx.guest(), op),
        abi::XEN_DOMCTL_GETNODEAFFINITY => affinity::get_nodes(ctx.guest(), op),
        abi::XEN_DOMCTL_SCHEDULER_OP => scheduler::call(dom, op),
        abi::XEN_DOMCTL_SETDOMAINHANDLE => settings::handle(dom, op),
        abi::XEN_DOMCTL_SETDEBUGGING => settings::debugging(ctx, dom, op),
        abi::XEN_DOMCTL_SETTIMEOFFSET => settings::time_offset(dom, op),
        abi::XEN_DOMCTL_SET_VIRQ_HANDLER => settings::virq_handler(dom, op),
        abi::XEN_DOMCTL_IRQ_PERMISSION => permissions::irq(ctx, dom, op),
        abi::XEN_DOMCTL_GSI_PERMISSION => permissions::gsi(ctx, dom, op),
        abi::XEN_DOMCTL_IOMEM_PERMISSION => permissions::iomem(ctx, dom, op),
        abi::XEN_DOMCTL_IOPORT_PERMISSION => permissions::ioport(ctx, dom, op),
        abi::XEN_DOMCTL_MEMORY_MAPPING => permissions::memory_mapping(ctx, dom, op),
        abi::XEN_DOMCTL_SUBSCRIBE => settings::subscribe(dom, op),
        abi::XEN_DOMCTL_SETTSCINFO => tsc::set(ctx, dom, op),
        abi::XEN_DOMCTL_GETTSCINFO => tsc::get(ctx, dom, op),
        abi::XEN_DOMCTL_GET_CPU_POLICY => policy::get(ctx.guest(), dom, op),
        abi::XEN_DOMCTL_SET_CPU_POLICY => policy::set(ctx, dom, op),
        _ => Err(refused::errno(ctx, dom, op)),
    }
}
