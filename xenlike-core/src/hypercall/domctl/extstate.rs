//! A vCPU's FPU state, for save and restore. The buffer starts with two words, XCR0 and the mask of components that
//! were ever enabled, followed by an XSAVE area in the standard format with those components (domctl.h).

use alloc::sync::Arc;
use alloc::vec::Vec;

use guest_pv_abi::domctl::{Domctl, VcpuExtState};
use guest_pv_abi::errno::{self, Errno};

use super::{Answer, Answered, not_itself};
use crate::arch::fpu;
use crate::arch::xstate::{BadArea, Shape};
use crate::domain::{Domain, Vcpu};
use crate::hypercall::{Ctx, with_stopped};
use crate::kit::{Vaddr, VcpuId};

/// Size in bytes of the two leading words.
const HEADER: u64 = 16;

/// Looks up the target vCPU. EINVAL for the caller, which can't stop itself.
pub(super) fn other<'a>(ctx: &Ctx<'_>, dom: &'a Domain, id: u32) -> Result<&'a Arc<Vcpu>, Errno> {
    let vcpu = dom.vcpu(VcpuId(id)).ok_or(errno::ESRCH)?;
    if Arc::ptr_eq(vcpu, ctx.vcpu) {
        Err(errno::EINVAL)
    } else {
        Ok(vcpu)
    }
}

/// The size of a buffer whose XSAVE area has `bytes` bytes.
fn with_header(bytes: usize) -> u64 {
    HEADER.saturating_add(bytes as u64)
}

fn zeroed(bytes: usize) -> Result<Vec<u8>, Errno> {
    let mut area = Vec::new();
    area.try_reserve_exact(bytes).map_err(|_| errno::ENOMEM)?;
    area.resize(bytes, 0);
    Ok(area)
}

/// XEN_DOMCTL_getvcpuextstate: returns the state. Without a buffer, returns its maximum size.
pub(super) fn get_state(ctx: &Ctx<'_>, dom: &Arc<Domain>, op: &mut Domctl) -> Answered {
    let mut body = op.u.get::<VcpuExtState>();
    let vcpu = other(ctx, dom, body.vcpu)?;
    let shape = fpu::shape();
    let most = shape.bytes(shape.components);
    if body.buffer.0 == 0 || (body.size == 0 && body.xfeature_mask == 0) {
        body.xfeature_mask = shape.components;
        body.size = with_header(most);
        op.u.set(&body);
        return Ok(Answer::Write);
    }
    if body.xfeature_mask != shape.components {
        return Err(errno::EINVAL);
    }
    let mut area = zeroed(most)?;
    let (xcr0, ever) = with_stopped(ctx, vcpu, |st| {
        // The state of a guest that has not enabled XCR0 is in its vCPU context.
        let ever = match st.xcr0 {
            0 => 0,
            xcr0 => Shape::ever(xcr0, st.fpu.told()) & shape.components,
        };
        area.truncate(shape.bytes(ever));
        st.fpu.tell(&mut area);
        (st.xcr0 & shape.components, ever)
    })?;
    let needs = with_header(area.len());
    if body.size < needs {
        return Err(errno::EINVAL);
    }
    ctx.guest().write(Vaddr(body.buffer.0), &[xcr0, ever])?;
    let at = body.buffer.offset(HEADER).ok_or(errno::EFAULT)?;
    ctx.guest().write_bytes(Vaddr(at.0), &area)?;
    body.size = needs;
    op.u.set(&body);
    Ok(Answer::Write)
}

/// XEN_DOMCTL_setvcpuextstate: sets the state. EINVAL for components that the domain's CPUID policy doesn't allow.
pub(super) fn set_state(ctx: &Ctx<'_>, dom: &Arc<Domain>, op: &Domctl) -> Answered {
    not_itself(ctx, dom)?;
    let body = op.u.get::<VcpuExtState>();
    let vcpu = other(ctx, dom, body.vcpu)?;
    let shape = fpu::shape();
    if body.size < HEADER || body.size > with_header(shape.bytes(shape.components)) {
        return Err(errno::EINVAL);
    }
    let [xcr0, ever] = ctx.guest().read::<[u64; 2]>(Vaddr(body.buffer.0))?;
    let mut area = zeroed(body.size.saturating_sub(HEADER) as usize)?;
    let at = body.buffer.offset(HEADER).ok_or(errno::EFAULT)?;
    ctx.guest().read_bytes(&mut area, Vaddr(at.0))?;
    if area.is_empty() && (xcr0, ever) == (0, 0) {
        return Ok(Answer::Done);
    }
    let allowed = dom.cpuid.lock().xcr0_mask();
    match shape.check(&area, xcr0, ever, allowed) {
        Ok(()) => {}
        Err(BadArea::Invalid) => return Err(errno::EINVAL),
        Err(BadArea::Format) => return Err(errno::EOPNOTSUPP),
    }
    with_stopped(ctx, vcpu, |st| {
        st.xcr0 = xcr0;
        st.fpu.load_checked(&area);
    })?;
    Ok(Answer::Done)
}
