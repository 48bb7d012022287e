//! Reads and writes a vCPU's registers and tables, for builders and for save and restore.

use alloc::sync::Arc;

use guest_pv_abi::Width;
use guest_pv_abi::domctl::{Domctl, ExtVcpuContext, VcpuContext};
use guest_pv_abi::errno::{self, Errno};

use zerocopy::IntoBytes;

use super::{Answer, Answered, not_itself};
use crate::domain::{Domain, Vcpu};
use crate::hypercall::{Ctx, get_context, with_stopped};
use crate::kit::{Vaddr, VcpuId};
use crate::pv::narrow;
use crate::pv::state::{Callback, outside_ring0};
use crate::pv::vcpu_context;

/// XEN_DOMCTL_setvcpucontext: sets a vCPU's context. A null pointer resets the vCPU.
pub fn set(ctx: &Ctx<'_>, dom: &Arc<Domain>, op: &Domctl) -> Answered {
    not_itself(ctx, dom)?;
    let body = op.u.get::<VcpuContext>();
    let vcpu = dom.vcpu(VcpuId(body.vcpu)).ok_or(errno::EINVAL)?;
    if body.ctxt.is_null() {
        with_stopped(ctx, vcpu, |st| vcpu_context::reset(dom, vcpu, st))?;
        return Ok(Answer::Done);
    }
    let context = get_context(ctx.guest(), dom, Vaddr(body.ctxt.0))?;
    with_stopped(ctx, vcpu, |st| vcpu_context::set(dom, vcpu, st, &context))?.map_err(set_errno)?;
    Ok(Answer::Done)
}

/// Maps the reason of a refused context to an errno.
pub fn set_errno(refused: vcpu_context::Refused) -> Errno {
    match refused {
        vcpu_context::Refused::Invalid => errno::EINVAL,
        vcpu_context::Refused::NoMemory => errno::ENOMEM,
        vcpu_context::Refused::Again => errno::ERESTART,
    }
}

/// Looks up the target vCPU. EINVAL for the caller, which can't stop itself.
fn other<'a>(ctx: &Ctx<'_>, dom: &'a Domain, id: u32) -> Result<&'a Arc<Vcpu>, Errno> {
    let vcpu = dom.vcpu(VcpuId(id)).ok_or(errno::EINVAL)?;
    if Arc::ptr_eq(vcpu, ctx.vcpu) {
        Err(errno::EINVAL)
    } else {
        Ok(vcpu)
    }
}

/// XEN_DOMCTL_getvcpucontext: returns a vCPU's context. ENODATA if it has no registers yet.
pub fn get(ctx: &Ctx<'_>, dom: &Arc<Domain>, op: &Domctl) -> Answered {
    let body = op.u.get::<VcpuContext>();
    if body.ctxt.is_null() {
        return Err(errno::EINVAL);
    }
    let vcpu = other(ctx, dom, body.vcpu)?;
    let context =
        with_stopped(ctx, vcpu, |st| vcpu_context::get(dom, vcpu, st))?.map_err(|refused| {
            match refused {
                vcpu_context::NotShown::NoRegisters => errno::ENODATA,
                vcpu_context::NotShown::NoMemory => errno::ENOMEM,
            }
        })?;
    let at = Vaddr(body.ctxt.0);
    match dom.pages.width() {
        Width::Wide => ctx.guest().write_bytes(at, context.as_bytes())?,
        Width::Narrow => {
            let context = narrow::context::narrowed(&context).ok_or(errno::ENOMEM)?;
            ctx.guest().write_bytes(at, context.as_bytes())?;
        }
    }
    Ok(Answer::Write)
}

/// Size in bytes of the structure's part before the machine-check words, which older toolstacks omit.
const SMALLEST: u32 = core::mem::offset_of!(ExtVcpuContext, vmce_caps) as u32;

/// XEN_DOMCTL_get_ext_vcpucontext: returns a vCPU's SYSENTER and 32-bit SYSCALL callbacks; all other fields are 0.
pub fn get_extended(ctx: &Ctx<'_>, dom: &Arc<Domain>, op: &mut Domctl) -> Answered {
    let mut body = op.u.get::<ExtVcpuContext>();
    let vcpu = other(ctx, dom, body.vcpu).map_err(|_| errno::ESRCH)?;
    let callbacks = with_stopped(ctx, vcpu, |st| *st.pv().entries().1)?;
    body.size = size_of::<ExtVcpuContext>() as u32;
    body.sysenter_callback_cs = callbacks.sysenter.cs;
    body.syscall32_callback_cs = callbacks.syscall32.cs;
    body.sysenter_callback_eip = callbacks.sysenter.entry;
    body.sysenter_disables_events = callbacks.sysenter.masks_events;
    body.syscall32_callback_eip = callbacks.syscall32.entry;
    body.syscall32_disables_events = callbacks.syscall32.masks_events;
    (
        body.vmce_caps,
        body.mci_ctl2_bank0,
        body.mci_ctl2_bank1,
        body.mcg_ext_ctl,
    ) = (0, 0, 0, 0);
    op.u.set(&body);
    Ok(Answer::Write)
}

/// XEN_DOMCTL_set_ext_vcpucontext: sets a vCPU's SYSENTER and 32-bit SYSCALL callbacks.
pub fn set_extended(ctx: &Ctx<'_>, dom: &Arc<Domain>, op: &Domctl) -> Answered {
    not_itself(ctx, dom).map_err(|_| errno::ESRCH)?;
    let body = op.u.get::<ExtVcpuContext>();
    let vcpu = dom.vcpu(VcpuId(body.vcpu)).ok_or(errno::ESRCH)?;
    let entries = [body.sysenter_callback_eip, body.syscall32_callback_eip];
    let canonical = entries.iter().all(|&at| Vaddr(at).is_canonical());
    if body.size < SMALLEST || !canonical {
        return Err(errno::EINVAL);
    }
    let width = dom.pages.width();
    with_stopped(ctx, vcpu, |st| {
        let (_, callbacks) = st.pv_mut().entries_mut();
        callbacks.sysenter = Callback {
            entry: body.sysenter_callback_eip,
            cs: outside_ring0(width, body.sysenter_callback_cs),
            masks_events: u8::from(body.sysenter_disables_events != 0),
        };
        callbacks.syscall32 = Callback {
            entry: body.syscall32_callback_eip,
            cs: outside_ring0(width, body.syscall32_callback_cs),
            masks_events: u8::from(body.syscall32_disables_events != 0),
        };
    })?;
    Ok(Answer::Done)
}
