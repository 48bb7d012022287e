//! vcpu_op: brings vCPUs up and down, and registers their shared areas and timers (vcpu.h).

use crate::kit::atomic::Ordering;
use alloc::sync::Arc;

use guest_pv_abi::errno::{self, Errno};
use guest_pv_abi::vcpu as abi;

use super::arguments::VcpuOp;
use super::{Ctx, no_memory, with_stopped};
use crate::arch::percpu;
use crate::domain::vcpu::pause;
use crate::domain::{self, Domain, Vcpu, VcpuState, notify, time};
use crate::kit::{Gfn, Vaddr, VcpuId};
use crate::mm::layout;
use crate::pv::vcpu_context;

/// Minimum period of a periodic timer: 1 ms, as in Xen.
const MIN_PERIOD_NS: u64 = 1_000_000;
/// Maximum period, so that the sum of a period and a time can't overflow.
const MAX_PERIOD_NS: u64 = i64::MAX as u64 / 2;

/// `vcpu_op(cmd, vcpu, arg)`: applies the command to one of the caller's vCPUs. ENOENT if there is no such vCPU.
pub fn call(ctx: &mut Ctx<'_>, args: &VcpuOp) -> Result<i64, Errno> {
    let VcpuOp { cmd, vcpu, arg } = *args;
    let target = ctx.dom.vcpu(VcpuId(vcpu)).cloned().ok_or(errno::ENOENT)?;
    match cmd {
        abi::VCPUOP_INITIALISE => initialise(ctx, &target, arg),
        abi::VCPUOP_UP => up(ctx, &target),
        abi::VCPUOP_DOWN => down(&target),
        abi::VCPUOP_IS_UP => return Ok(i64::from(target.is_up())),
        abi::VCPUOP_GET_RUNSTATE_INFO => {
            ctx.guest().write(arg, &time::runstate_of(&target)?)?;
            Ok(())
        }
        abi::VCPUOP_REGISTER_RUNSTATE_MEMORY_AREA => register_runstate(ctx, &target, arg),
        abi::VCPUOP_SET_PERIODIC_TIMER => set_periodic(ctx, &target, arg),
        abi::VCPUOP_STOP_PERIODIC_TIMER => {
            time::stop_ticks(&target);
            Ok(())
        }
        abi::VCPUOP_SET_SINGLESHOT_TIMER => set_singleshot(ctx, &target, arg),
        abi::VCPUOP_STOP_SINGLESHOT_TIMER => stop_singleshot(ctx, &target),
        abi::VCPUOP_REGISTER_VCPU_INFO => register_info(ctx, &target, arg),
        abi::VCPUOP_SEND_NMI if !arg.is_null() => Err(errno::EINVAL),
        abi::VCPUOP_SEND_NMI => {
            notify::nmi(ctx.dom, &target);
            Ok(())
        }
        abi::VCPUOP_GET_PHYSID => Err(errno::EINVAL),
        abi::VCPUOP_REGISTER_VCPU_TIME_MEMORY_AREA => register_time(ctx, &target, arg),
        _ => Err(errno::ENOSYS),
    }
    .map(|()| 0)
}

/// Sets the initial registers of a vCPU that was never up.
fn initialise(ctx: &Ctx<'_>, target: &Arc<Vcpu>, arg: Vaddr) -> Result<(), Errno> {
    let context = super::get_context(ctx.guest(), ctx.dom, arg)?;
    if target.id == ctx.vcpu.id || target.is_up() {
        return Err(errno::EEXIST);
    }
    with_stopped(ctx, target, |st| {
        if st.initialised {
            return Err(errno::EEXIST);
        }
        vcpu_context::set(ctx.dom, target, st, &context).map_err(super::domctl::context_errno)
    })?
}

/// Brings an initialised vCPU up. Both steps need exclusive access to the vCPU's state, so that it can't start
/// without registers.
fn up(ctx: &mut Ctx<'_>, target: &Arc<Vcpu>) -> Result<(), Errno> {
    if target.is_up() {
        return Ok(());
    }
    with_state(ctx, target, |_, st| {
        if !st.initialised {
            return Err(errno::EINVAL);
        }
        notify::release(target, pause::DOWN);
        Ok(())
    })?
}

fn down(target: &Arc<Vcpu>) -> Result<(), Errno> {
    notify::hold(target, pause::DOWN);
    Ok(())
}

fn register_runstate(ctx: &mut Ctx<'_>, target: &Arc<Vcpu>, arg: Vaddr) -> Result<(), Errno> {
    let at = ctx
        .guest()
        .read::<abi::VcpuRegisterRunstateMemoryArea>(arg)?
        .addr;
    let bytes = ctx.guest().size::<abi::VcpuRunstateInfo>();
    if !layout::guest_range(Vaddr(at), bytes) {
        return Err(errno::EFAULT);
    }
    with_state(ctx, target, |_, st| st.runstate_area = at)?;
    if target.id == ctx.vcpu.id {
        time::publish_runstate(ctx.dom, ctx.vcpu, ctx.st);
    }
    Ok(())
}

fn register_time(ctx: &mut Ctx<'_>, target: &Arc<Vcpu>, arg: Vaddr) -> Result<(), Errno> {
    let at = ctx
        .guest()
        .read::<abi::VcpuRegisterTimeMemoryArea>(arg)?
        .addr;
    if !layout::guest_range(Vaddr(at), 32) {
        return Err(errno::EFAULT);
    }
    with_state(ctx, target, |_, st| st.time_area = at)?;
    if target.id == ctx.vcpu.id {
        time::publish(ctx.vcpu, ctx.st);
    }
    Ok(())
}

/// Calls `change` with the domain and the state of the caller, or of another vCPU, which is stopped meanwhile.
fn with_state<R>(
    ctx: &mut Ctx<'_>,
    target: &Arc<Vcpu>,
    change: impl FnOnce(&Arc<Domain>, &mut VcpuState) -> R,
) -> Result<R, Errno> {
    let dom = ctx.dom;
    if target.id == ctx.vcpu.id {
        return Ok(change(dom, ctx.st));
    }
    with_stopped(ctx, target, |st| change(dom, st))
}

fn set_periodic(ctx: &Ctx<'_>, target: &Arc<Vcpu>, arg: Vaddr) -> Result<(), Errno> {
    let period_ns = ctx
        .guest()
        .read::<abi::VcpuSetPeriodicTimer>(arg)?
        .period_ns;
    if !(MIN_PERIOD_NS..=MAX_PERIOD_NS).contains(&period_ns) {
        return Err(errno::EINVAL);
    }
    target.periodic_ns.store(period_ns, Ordering::Release);
    let first_ns = crate::arch::time::now_ns().saturating_add(period_ns);
    time::set_timer(&target.timers.periodic, first_ns).map_err(no_memory)
}

fn set_singleshot(ctx: &Ctx<'_>, target: &Arc<Vcpu>, arg: Vaddr) -> Result<(), Errno> {
    if target.id != ctx.vcpu.id {
        return Err(errno::EINVAL);
    }
    let request = ctx.guest().read::<abi::VcpuSetSingleshotTimer>(arg)?;
    let passed = request.timeout_abs_ns < crate::arch::time::now_ns();
    if request.flags & abi::VCPU_SSHOTTMR_FUTURE != 0 && passed {
        return Err(errno::ETIME);
    }
    // A stored 0 means that the timer is stopped. A deadline of 0 is as far in the past as one of 1.
    let deadline_ns = request.timeout_abs_ns.max(1);
    target.singleshot_ns.store(deadline_ns, Ordering::Release);
    time::set_timer(&target.timers.singleshot, deadline_ns).map_err(no_memory)
}

fn stop_singleshot(ctx: &Ctx<'_>, target: &Arc<Vcpu>) -> Result<(), Errno> {
    if target.id != ctx.vcpu.id {
        return Err(errno::EINVAL);
    }
    target.singleshot_ns.store(0, Ordering::Release);
    time::TIMERS.cancel(&target.timers.singleshot);
    Ok(())
}

fn register_info(ctx: &mut Ctx<'_>, target: &Arc<Vcpu>, arg: Vaddr) -> Result<(), Errno> {
    let request = ctx.guest().read::<abi::VcpuRegisterVcpuInfo>(arg)?;
    if target.id != ctx.vcpu.id && target.is_up() {
        return Err(errno::EBUSY);
    }
    let (gfn, offset) = (Gfn(request.mfn), request.offset as usize);
    // The vCPU is stopped, because a CPU that runs it caches the address of its `vcpu_info`.
    with_state(ctx, target, |dom, _| {
        domain::register_info(dom, target, gfn, offset)
    })?
    .map_err(|e| match e {
        domain::RegisterError::BadFrame => errno::EINVAL,
        domain::RegisterError::BadOffset => errno::ENXIO,
        domain::RegisterError::Registered => errno::EINVAL,
    })?;
    if target.id == ctx.vcpu.id {
        percpu::info()
            .vcpu_info
            .store(target.info.address(), Ordering::Relaxed);
    }
    Ok(())
}
