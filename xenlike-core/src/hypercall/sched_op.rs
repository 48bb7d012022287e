//! sched_op: yielding the CPU, blocking, shutting down.

use crate::kit::atomic::Ordering;

use guest_pv_abi::errno::{self, Errno};
use guest_pv_abi::sched::{
    self as abi, SchedPinOverride, SchedPoll, SchedRemoteShutdown, SchedShutdown, SchedWatchdog,
};

use super::arguments::Command;
use super::{Ctx, Outcome, no_memory};
use crate::arch::{percpu, work};
use crate::console;
use crate::domain::notify::SCHED;
use crate::domain::vcpu::{MAX_POLL_PORTS, pause};
use crate::domain::{self, Rights, notify, shutdown, time, watchdog};
use crate::kit::{CpuId, CpuSet, DomId, Port, Vaddr};

/// `sched_op(cmd, arg)`: dispatches the command.
pub fn call(ctx: &mut Ctx<'_>, args: &Command) -> Outcome {
    let arg = args.arg;
    match args.cmd {
        abi::SCHEDOP_YIELD => yield_now(),
        abi::SCHEDOP_BLOCK => block(ctx),
        abi::SCHEDOP_SHUTDOWN => match ctx.guest().read::<SchedShutdown>(arg) {
            Ok(request) => shut_down(ctx, request.reason),
            Err(error) => error.into(),
        },
        abi::SCHEDOP_SHUTDOWN_CODE => shutdown_code(ctx, arg).into(),
        abi::SCHEDOP_POLL => poll(ctx, arg).into(),
        abi::SCHEDOP_REMOTE_SHUTDOWN => remote_shutdown(ctx, arg).into(),
        abi::SCHEDOP_WATCHDOG => watchdog_op(ctx, arg).into(),
        abi::SCHEDOP_PIN_OVERRIDE => pin_override(ctx, arg).into(),
        _ => errno::ENOSYS.into(),
    }
}

/// `sched_op_compat(cmd, arg)`: the older call, where the argument of a shutdown is the reason itself.
pub fn compat(ctx: &mut Ctx<'_>, args: &Command) -> Outcome {
    let arg = args.arg;
    match args.cmd {
        abi::SCHEDOP_YIELD => yield_now(),
        abi::SCHEDOP_BLOCK => block(ctx),
        abi::SCHEDOP_SHUTDOWN => shut_down(ctx, arg.0 as u32),
        _ => errno::ENOSYS.into(),
    }
}

fn yield_now() -> Outcome {
    let cpu = percpu::this_cpu();
    SCHED.yield_now(cpu);
    work::raise_here(work::SCHEDULE);
    Outcome::Done(0)
}

/// Unmasks event delivery and blocks until an event is pending. BLOCKED is set before the check for pending events:
/// an event that is sent after the check sees the flag and clears it, so no wakeup is lost.
fn block(ctx: &mut Ctx<'_>) -> Outcome {
    let vcpu = ctx.vcpu;
    vcpu.info.upcall_mask().store(0, Ordering::SeqCst);
    vcpu.gate.set(pause::BLOCKED);
    if vcpu.info.wants_upcall() || vcpu.nmi_due(ctx.st) {
        vcpu.gate.remove(pause::BLOCKED);
    } else {
        work::raise_here(work::SCHEDULE);
    }
    Outcome::Done(0)
}

fn shut_down(ctx: &Ctx<'_>, reason: u32) -> Outcome {
    let reason = known_part(reason);
    if reason == abi::SHUTDOWN_CRASH {
        let id = ctx.dom.id();
        console::note_of_guest(format_args!(
            "{id:?} says that it crashed; its console may tell why"
        ));
    }
    shutdown::shutdown(ctx.dom, reason);
    Outcome::Done(0)
}

/// The part of a shutdown reason that counts. As in Xen this is the low byte, even of an unknown reason, because
/// kernels pass a pointer to the old call and expect to shut down.
fn known_part(reason: u32) -> u32 {
    u32::from(reason as u8)
}

/// Records the reason that the toolstack will read, without shutting down.
fn shutdown_code(ctx: &Ctx<'_>, arg: Vaddr) -> Result<(), Errno> {
    let reason = ctx.guest().read::<SchedShutdown>(arg)?.reason;
    ctx.dom.shutdown.lock().code = Some(reason as u8);
    Ok(())
}

/// Blocks until one of the given ports is pending or the timeout expires. POLLING is set before the ports are
/// checked, so that an event sent after the check ends the poll.
fn poll(ctx: &mut Ctx<'_>, arg: Vaddr) -> Result<(), Errno> {
    let request = ctx.guest().read::<SchedPoll>(arg)?;
    if request.nr_ports as usize > MAX_POLL_PORTS {
        return Err(errno::EINVAL);
    }
    let mut ports = arrayvec::ArrayVec::<_, MAX_POLL_PORTS>::new();
    for n in 0..u64::from(request.nr_ports) {
        let at = Vaddr(request.ports.0.wrapping_add(n.wrapping_mul(4)));
        let port = ctx.guest().read::<u32>(at)?;
        let _ = ports.try_push(Port(port));
    }
    let vcpu = ctx.vcpu;
    let single = if let [port] = ports[..] {
        Some(port)
    } else {
        None
    };
    vcpu.gate.set(pause::POLLING);
    ctx.dom.events.begin_poll(vcpu.id, single);
    let sleeps = || {
        let mut due = vcpu.info.wants_upcall() || vcpu.nmi_due(ctx.st);
        for &port in &ports {
            due |= ctx.dom.events.is_pending(port).map_err(|_| errno::EINVAL)?;
        }
        if !due && request.timeout != 0 {
            time::set_timer(&vcpu.timers.poll, request.timeout).map_err(no_memory)?;
        }
        Ok(!due)
    };
    let sleeps = sleeps();
    if sleeps == Ok(true) {
        work::raise_here(work::SCHEDULE);
    } else {
        notify::end_poll(ctx.dom, vcpu);
    }
    sleeps.map(drop)
}

/// Shuts down the named domain. Only for control domains, which may name themselves.
fn remote_shutdown(ctx: &Ctx<'_>, arg: Vaddr) -> Result<(), Errno> {
    let request = ctx.guest().read::<SchedRemoteShutdown>(arg)?;
    let target = domain::lookup(DomId(request.domain_id)).ok_or(errno::ESRCH)?;
    ctx.require_control()?;
    shutdown::shutdown(&target, known_part(request.reason));
    Ok(())
}

/// Pins the caller to one CPU, or undoes that if the CPU is negative. The hardware domain needs this for firmware
/// calls that must run on a certain CPU.
fn pin_override(ctx: &Ctx<'_>, arg: Vaddr) -> Result<(), Errno> {
    if ctx.dom.rights() != Rights::Control {
        return Err(errno::EPERM);
    }
    let wanted = ctx.guest().read::<SchedPinOverride>(arg)?.pcpu;
    let vcpu = ctx.vcpu;
    let mut before = vcpu.pinned.lock();
    let (hard, soft) = SCHED.affinity(vcpu.unit).ok_or(errno::ESRCH)?;
    let hard = match (u32::try_from(wanted), *before) {
        (Err(_), Some(kept)) => {
            *before = None;
            kept
        }
        (Err(_), None) => return Err(errno::EINVAL),
        (Ok(cpu), _) if !is_online(cpu) => return Err(errno::EINVAL),
        (Ok(_), Some(_)) => return Err(errno::EBUSY),
        (Ok(cpu), None) => {
            *before = Some(hard);
            CpuSet::one(CpuId(cpu))
        }
    };
    if let Some(cpu) = SCHED.set_affinity(vcpu.unit, hard, soft, crate::arch::time::now_ns()) {
        work::raise(cpu, work::SCHEDULE);
    }
    Ok(())
}

fn is_online(cpu: u32) -> bool {
    SCHED.online().find(cpu).is_some()
}

/// Sets, renews or removes one of the domain's watchdogs. The result is the number of a new one.
fn watchdog_op(ctx: &Ctx<'_>, arg: Vaddr) -> Result<i64, Errno> {
    let request = ctx.guest().read::<SchedWatchdog>(arg)?;
    watchdog::set(ctx.dom, request.id, request.timeout)
        .map(i64::from)
        .map_err(|e| match e {
            watchdog::Refused::NoSuch => errno::EINVAL,
            watchdog::Refused::AllTaken => errno::ENOSPC,
            watchdog::Refused::NoMemory => errno::ENOMEM,
        })
}
