//! A vCPU's FPU state and MSRs, for save and restore. The format is the machine's XSAVE area behind
//! two words: XCR0, and every component that was ever on (domctl.h).

use alloc::sync::Arc;

use guest_pv_abi::domctl::{Domctl, VcpuExtState, VcpuMsrs};
use guest_pv_abi::errno::{self, Errno};

use super::{Answer, Answered, not_itself};
use crate::domain::{Domain, Vcpu};
use crate::hypercall::{Ctx, get, put};
use crate::kit::{Vaddr, VcpuId};
use crate::life::pausing;
use crate::mm::guest_copy::{copy_from_guest, copy_to_guest};

/// Bytes of the two words in front.
const HEADER: u64 = 16;
/// Bytes of the FXSAVE image that an XSAVE area starts with.
const LEGACY_BYTES: usize = 512;
/// The components that the FXSAVE image holds: x87 and SSE.
const LEGACY: u64 = 3;

fn other<'a>(ctx: &Ctx<'_>, dom: &'a Domain, id: u32) -> Result<&'a Arc<Vcpu>, Errno> {
    let vcpu = dom.vcpu(VcpuId(id)).ok_or(errno::ESRCH)?;
    if Arc::ptr_eq(vcpu, ctx.vcpu) {
        Err(errno::EINVAL)
    } else {
        Ok(vcpu)
    }
}

/// XEN_DOMCTL_getvcpuextstate: with size 0, how large the state is.
pub(super) fn get_state(ctx: &Ctx<'_>, dom: &Arc<Domain>, op: &mut Domctl) -> Answered {
    let mut body = op.u.get::<VcpuExtState>();
    let vcpu = other(ctx, dom, body.vcpu)?;
    let needs = HEADER.saturating_add(LEGACY_BYTES as u64);
    if body.size == 0 && body.xfeature_mask == 0 {
        body.xfeature_mask = LEGACY;
        body.size = needs;
        op.u.set(&body);
        return Ok(Answer::Write);
    }
    if body.size < needs || body.xfeature_mask & LEGACY != LEGACY {
        return Err(errno::EINVAL);
    }
    let mut image = [0; LEGACY_BYTES];
    pausing::with_stopped(vcpu, |st| {
        for (to, from) in image.iter_mut().zip(st.fpu.legacy()) {
            *to = *from;
        }
    });
    put(body.buffer.0, &[LEGACY, LEGACY])?;
    let at = body.buffer.offset(HEADER).ok_or(errno::EFAULT)?;
    copy_to_guest(Vaddr(at.0), &image).map_err(|_| errno::EFAULT)?;
    body.size = needs;
    op.u.set(&body);
    Ok(Answer::Write)
}

/// XEN_DOMCTL_setvcpuextstate
pub(super) fn set_state(ctx: &Ctx<'_>, dom: &Arc<Domain>, op: &Domctl) -> Answered {
    not_itself(ctx, dom)?;
    let body = op.u.get::<VcpuExtState>();
    let vcpu = other(ctx, dom, body.vcpu)?;
    let [xcr0, ever] = get::<[u64; 2]>(body.buffer.0)?;
    if body.size < HEADER.saturating_add(LEGACY_BYTES as u64) || xcr0 & !ever != 0 {
        return Err(errno::EINVAL);
    }
    if ever & !LEGACY != 0 {
        return Err(errno::EOPNOTSUPP);
    }
    let mut image = [0; LEGACY_BYTES];
    let at = body.buffer.offset(HEADER).ok_or(errno::EFAULT)?;
    copy_from_guest(&mut image, Vaddr(at.0)).map_err(|_| errno::EFAULT)?;
    pausing::with_stopped(vcpu, |st| st.fpu.set_legacy(&image));
    Ok(Answer::Done)
}

/// XEN_DOMCTL_get_vcpu_msrs: there are none beyond the rest of a vCPU's state.
pub(super) fn get_msrs(dom: &Domain, op: &mut Domctl) -> Answered {
    let mut body = op.u.get::<VcpuMsrs>();
    dom.vcpu(VcpuId(body.vcpu)).ok_or(errno::EINVAL)?;
    body.msr_count = 0;
    op.u.set(&body);
    Ok(Answer::Write)
}

/// XEN_DOMCTL_set_vcpu_msrs
pub(super) fn set_msrs(dom: &Domain, op: &Domctl) -> Answered {
    let body = op.u.get::<VcpuMsrs>();
    dom.vcpu(VcpuId(body.vcpu)).ok_or(errno::EINVAL)?;
    if body.msr_count != 0 {
        return Err(errno::EINVAL);
    }
    Ok(Answer::Done)
}
