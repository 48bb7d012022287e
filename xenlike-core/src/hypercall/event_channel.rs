//! event_channel_op: events between domains, from virtual and physical interrupts, and among vCPUs.

use crate::kit::atomic::Ordering;

use guest_pv_abi::Form;
use guest_pv_abi::errno::{self, Errno};
use guest_pv_abi::event_channel as abi;

use super::arguments::{Command, Structure};
use super::{Ctx, Outcome};
use crate::domain::page::HeldPage;
use crate::domain::{Domain, notify, pirq};
use crate::event::{Closed, EventError, FIFO_LINK_BITS, StatusKind, Sweep};
use crate::irq::Book;
use crate::kit::{DomId, Gfn, Port, Vaddr, VcpuId};
use crate::mm::guest::Guest;

/// EVTCHNOP_reset_cont, which the public header defines for Xen's own use only.
const RESET_CONT: u32 = 14;

/// `event_channel_op(cmd, arg)`: dispatches the command. Send and unmask are the hot ones.
#[inline(always)] // sending an event never needs a `Ctx`
pub fn call(ctx: &mut Ctx<'_>, args: &Command) -> Outcome {
    let arg = args.arg;
    match args.cmd {
        abi::EVTCHNOP_SEND => send(ctx.guest(), ctx.dom, arg),
        abi::EVTCHNOP_UNMASK => unmask(ctx.guest(), ctx.dom, arg),
        cmd => seldom(ctx.reborrow(), cmd, arg),
    }
}

/// Dispatches the cold commands.
#[inline(never)] // cold: keeps its stack frame off the send path
fn seldom(mut ctx: Ctx<'_>, cmd: u32, arg: Vaddr) -> Outcome {
    let ctx = &mut ctx;
    match cmd {
        abi::EVTCHNOP_ALLOC_UNBOUND => alloc_unbound(ctx, arg).into(),
        abi::EVTCHNOP_BIND_INTERDOMAIN => bind_interdomain(ctx, arg).into(),
        abi::EVTCHNOP_BIND_VIRQ => bind_virq(ctx, arg).into(),
        abi::EVTCHNOP_BIND_IPI => bind_ipi(ctx, arg).into(),
        abi::EVTCHNOP_BIND_PIRQ => bind_pirq(ctx, arg).into(),
        abi::EVTCHNOP_BIND_VCPU => bind_vcpu(ctx, arg).into(),
        abi::EVTCHNOP_CLOSE => close(ctx, arg).into(),
        abi::EVTCHNOP_STATUS => status(ctx, arg).into(),
        abi::EVTCHNOP_RESET => reset(ctx, arg),
        abi::EVTCHNOP_INIT_CONTROL => init_control(ctx, arg).into(),
        abi::EVTCHNOP_EXPAND_ARRAY => expand_array(ctx, arg).into(),
        abi::EVTCHNOP_SET_PRIORITY => set_priority(ctx, arg).into(),
        RESET_CONT => reset_continued(ctx, arg).into(),
        _ => errno::ENOSYS.into(),
    }
}

/// `event_channel_op_compat(op)`: the older call, with the command inside the structure. It knows only the commands
/// up to EVTCHNOP_unmask.
pub fn compat(ctx: &mut Ctx<'_>, args: &Structure) -> Outcome {
    let op = args.at;
    let cmd = match ctx.guest().read::<u32>(op) {
        Ok(cmd) if cmd <= abi::EVTCHNOP_UNMASK => cmd,
        Ok(_) => return errno::ENOSYS.into(),
        Err(error) => return error.into(),
    };
    let at = core::mem::offset_of!(abi::EvtchnOp, u) as u64;
    let arg = op.wrapping_add(at);
    call(ctx, &Command { cmd, arg })
}

#[inline(never)] // a single instance for `syscall` and multicall
fn send(guest: Guest<'_>, dom: &Domain, arg: Vaddr) -> Outcome {
    let sent = port_at(guest, arg).and_then(|port| dom.events.send(port).map_err(to_errno));
    match sent {
        // The common case: the port was masked or already pending, so there is no vCPU to notify.
        Ok(notice) if notice.is_nobody() => {}
        Ok(notice) if notice.dom == dom.id() => notify::act_in(dom, notice),
        Ok(notice) => notify::act(notice),
        Err(error) => return error.into(),
    }
    Outcome::Done(0)
}

#[inline(never)] // a single instance for `syscall` and multicall
fn unmask(guest: Guest<'_>, dom: &Domain, arg: Vaddr) -> Outcome {
    let unmasked = port_at(guest, arg).and_then(|port| dom.events.unmask(port).map_err(to_errno));
    match unmasked {
        Ok(notice) => notify::act_in(dom, notice),
        Err(error) => return error.into(),
    }
    Outcome::Done(0)
}

/// Reads the structure of send or unmask, which holds only a port.
#[inline]
fn port_at(guest: Guest<'_>, arg: Vaddr) -> Result<Port, Errno> {
    let port = guest.read::<u32>(arg)?;
    Ok(Port(port))
}

fn alloc_unbound(ctx: &Ctx<'_>, arg: Vaddr) -> Result<(), Errno> {
    let mut op = ctx.guest().read::<abi::EvtchnAllocUnbound>(arg)?;
    let dom = ctx.target(op.dom)?;
    let remote = if op.remote_dom == DomId::SELF.0 {
        ctx.dom.id()
    } else {
        DomId(op.remote_dom)
    };
    let port = dom.events.alloc_unbound(remote).map_err(to_errno)?;
    op.port = port.0;
    tell_port((ctx, &dom), port, arg, &op)
}

fn bind_interdomain(ctx: &Ctx<'_>, arg: Vaddr) -> Result<(), Errno> {
    let mut op = ctx.guest().read::<abi::EvtchnBindInterdomain>(arg)?;
    let remote = ctx.named(op.remote_dom).ok_or(errno::ESRCH)?;
    let bound = ctx
        .dom
        .events
        .bind_interdomain(&remote.events, Port(op.remote_port));
    let (port, notice) = bound.map_err(to_errno)?;
    notify::act_in(ctx.dom, notice);
    op.local_port = port.0;
    tell_port((ctx, ctx.dom), port, arg, &op)
}

fn bind_virq(ctx: &Ctx<'_>, arg: Vaddr) -> Result<(), Errno> {
    let mut op = ctx.guest().read::<abi::EvtchnBindVirq>(arg)?;
    let port = ctx
        .dom
        .events
        .bind_virq(op.virq, VcpuId(op.vcpu))
        .map_err(to_errno)?;
    op.port = port.0;
    tell_port((ctx, ctx.dom), port, arg, &op)
}

fn bind_ipi(ctx: &Ctx<'_>, arg: Vaddr) -> Result<(), Errno> {
    let mut op = ctx.guest().read::<abi::EvtchnBindIpi>(arg)?;
    let port = ctx.dom.events.bind_ipi(VcpuId(op.vcpu)).map_err(to_errno)?;
    op.port = port.0;
    tell_port((ctx, ctx.dom), port, arg, &op)
}

/// Binds a physical IRQ. EPERM unless the IRQ is mapped to the caller.
fn bind_pirq(ctx: &Ctx<'_>, arg: Vaddr) -> Result<(), Errno> {
    let mut op = ctx.guest().read::<abi::EvtchnBindPirq>(arg)?;
    let mapped = |book: &Book<_>| book.is_mapped(ctx.dom.id(), op.pirq);
    if !pirq::book_of(ctx.dom).is_some_and(|book| mapped(&book)) {
        return Err(errno::EPERM);
    }
    let port = ctx.dom.events.bind_pirq(op.pirq).map_err(to_errno)?;
    let shares = op.flags & abi::BIND_PIRQ__WILL_SHARE != 0;
    if let Err(error) = pirq::bind(ctx.dom, op.pirq, port, shares) {
        let _ = ctx.dom.events.close(port);
        return Err(super::physdev::to_errno(error));
    }
    op.port = port.0;
    tell_port((ctx, ctx.dom), port, arg, &op)
}

fn bind_vcpu(ctx: &Ctx<'_>, arg: Vaddr) -> Result<(), Errno> {
    let op = ctx.guest().read::<abi::EvtchnBindVcpu>(arg)?;
    let (port, vcpu) = (Port(op.port), VcpuId(op.vcpu));
    ctx.dom.events.bind_vcpu(port, vcpu).map_err(to_errno)?;
    pirq::follow(ctx.dom, port, vcpu);
    Ok(())
}

fn close(ctx: &Ctx<'_>, arg: Vaddr) -> Result<(), Errno> {
    close_port(ctx.dom, Port(ctx.guest().read::<u32>(arg)?)).map_err(to_errno)
}

fn close_port(dom: &Domain, port: Port) -> Result<(), EventError> {
    if let Closed { pirq: Some(pirq) } = dom.events.close(port)? {
        pirq::unbound(dom, pirq);
    }
    Ok(())
}

fn status(ctx: &Ctx<'_>, arg: Vaddr) -> Result<(), Errno> {
    let mut op = ctx.guest().read::<abi::EvtchnStatus>(arg)?;
    let dom = ctx.target(op.dom)?;
    let status = dom.events.status(Port(op.port)).map_err(to_errno)?;
    op.vcpu = status.vcpu.0;
    (op.status, op.u) = match status.kind {
        StatusKind::Closed => (abi::EVTCHNSTAT_CLOSED, op.u),
        StatusKind::Unbound(remote) => (abi::EVTCHNSTAT_UNBOUND, [remote.0.into(), 0]),
        StatusKind::Interdomain(remote, port) => {
            (abi::EVTCHNSTAT_INTERDOMAIN, [remote.0.into(), port.0])
        }
        StatusKind::Pirq(pirq) => (abi::EVTCHNSTAT_PIRQ, [pirq, 0]),
        StatusKind::Virq(virq) => (abi::EVTCHNSTAT_VIRQ, [virq, 0]),
        StatusKind::Ipi => (abi::EVTCHNSTAT_IPI, [0, 0]),
    };
    Ok(ctx.guest().write(arg, &op)?)
}

/// Closes all ports of a domain. Another domain must be paused by the toolstack, so that it can't bind ports
/// meanwhile.
fn reset(ctx: &Ctx<'_>, arg: Vaddr) -> Outcome {
    let dom = match ctx
        .guest()
        .read::<u16>(arg)
        .map_err(Errno::from)
        .and_then(|dom| ctx.target(dom))
    {
        Ok(dom) => dom,
        Err(error) => return error.into(),
    };
    if !may_reset(ctx, &dom) {
        return errno::EINVAL.into();
    }
    match dom
        .events
        .reset(&mut || ctx.preempted(), &mut |irq| pirq::unbound(&dom, irq))
    {
        Sweep::Done => Outcome::Done(0),
        Sweep::Again => Outcome::Again,
    }
}

fn may_reset(ctx: &Ctx<'_>, dom: &Domain) -> bool {
    dom.id() == ctx.dom.id() || dom.toolstack_pauses.load(Ordering::Acquire) != 0
}

/// Xen's internal continuation of a reset, which guests can call too. No reset ever waits for it here, so it only
/// returns the errno that Xen would.
fn reset_continued(ctx: &Ctx<'_>, arg: Vaddr) -> Result<(), Errno> {
    let dom = ctx.target(ctx.guest().read::<u16>(arg)?)?;
    Err(if may_reset(ctx, &dom) {
        errno::EBUSY
    } else {
        errno::EINVAL
    })
}

fn init_control(ctx: &Ctx<'_>, arg: Vaddr) -> Result<(), Errno> {
    let mut op = ctx.guest().read::<abi::EvtchnInitControl>(arg)?;
    let vcpu = ctx.dom.vcpu(VcpuId(op.vcpu)).ok_or(errno::ENOENT)?;
    let page = own_page(ctx, Gfn(op.control_gfn))?;
    ctx.dom
        .events
        .init_control(vcpu.id, page, op.offset)
        .map_err(to_errno)?;
    op.link_bits = FIFO_LINK_BITS;
    Ok(ctx.guest().write(arg, &op)?)
}

fn expand_array(ctx: &Ctx<'_>, arg: Vaddr) -> Result<(), Errno> {
    let op = ctx.guest().read::<abi::EvtchnExpandArray>(arg)?;
    if !ctx.dom.events.is_fifo() {
        return Err(errno::EOPNOTSUPP);
    }
    let page = own_page(ctx, Gfn(op.array_gfn))?;
    let added = ctx
        .dom
        .events
        .expand_array(page, &mut |notice| notify::act_in(ctx.dom, notice));
    added.map_err(|error| match error {
        EventError::TwoLevel => errno::EOPNOTSUPP,
        error => to_errno(error),
    })
}

fn set_priority(ctx: &Ctx<'_>, arg: Vaddr) -> Result<(), Errno> {
    let op = ctx.guest().read::<abi::EvtchnSetPriority>(arg)?;
    ctx.dom
        .events
        .set_priority(Port(op.port), op.priority)
        .map_err(to_errno)
}

/// Writes the result of a binding. If the write faults, the port is closed again, because the caller can't learn its
/// number.
fn tell_port<T: Form>(
    (ctx, dom): (&Ctx<'_>, &Domain),
    port: Port,
    at: Vaddr,
    answer: &T,
) -> Result<(), Errno> {
    Ok(ctx.guest().write(at, answer).inspect_err(|_| {
        // The guest may have closed the port meanwhile; then there is nothing to undo.
        let _ = close_port(dom, port);
    })?)
}

/// Holds one of the caller's frames, for memory that the core shares with the caller.
fn own_page(ctx: &Ctx<'_>, gfn: Gfn) -> Result<HeldPage, Errno> {
    HeldPage::of_guest(ctx.dom, gfn).ok_or(errno::EINVAL)
}

fn to_errno(error: EventError) -> Errno {
    match error {
        EventError::BadPort | EventError::BadArgument | EventError::Dying => errno::EINVAL,
        EventError::NoVcpu => errno::ENOENT,
        EventError::Exists => errno::EEXIST,
        EventError::NoSpace => errno::ENOSPC,
        EventError::NoMemory => errno::ENOMEM,
        EventError::TwoLevel => errno::ENOSYS,
        EventError::Unused => errno::EACCES,
    }
}
