//! Tests of sched_op.

use crate::kit::atomic::Ordering;

use guest_pv_abi::GuestHandle;
use guest_pv_abi::errno::{self, Errno};
use guest_pv_abi::hypercall::{SCHED_OP, SCHED_OP_COMPAT};
use guest_pv_abi::sched::*;
use zerocopy::FromZeros;

use alloc::vec::Vec;

use super::guest::Guest;
use crate::arch::percpu;
use crate::domain::Rights;
use crate::domain::notify::{self, SCHED};
use crate::domain::time;
use crate::domain::vcpu::{VcpuTimers, pause};
use crate::kit::{CpuSet, Port, VcpuId};
use crate::mm::heap::short;
use crate::timer::Timer;

fn flags(guest: &Guest) -> u32 {
    guest.dom.vcpus()[0].gate.holds() & pause::SLEEPS
}

fn poll(guest: &Guest, ports: &[u32], nr_ports: u32, timeout: u64) -> Result<i64, Errno> {
    let list = guest.at + 0x100;
    for (n, port) in (0u64..).zip(ports) {
        guest.write(list + n * 4, port);
    }
    let mut op = SchedPoll::new_zeroed();
    (op.ports, op.nr_ports, op.timeout) = (GuestHandle(list), nr_ports, timeout);
    guest.with(SCHED_OP, SCHEDOP_POLL, &mut op)
}

#[test]
fn blocking_waits_unless_an_event_is_there() {
    let guest = Guest::new();
    let vcpu = &guest.dom.vcpus()[0];
    vcpu.info.upcall_mask().store(1, Ordering::SeqCst);
    assert_eq!(guest.call(SCHED_OP, &[SCHEDOP_BLOCK.into()]), Ok(0));
    assert_eq!(flags(&guest), pause::BLOCKED);
    assert_eq!(vcpu.info.upcall_mask().load(Ordering::SeqCst), 0);
    let ipi = guest.dom.events.bind_ipi(VcpuId(0)).unwrap();
    notify::act(guest.dom.events.send(ipi).unwrap());
    assert_eq!(flags(&guest), 0);
    assert_eq!(guest.call(SCHED_OP, &[SCHEDOP_BLOCK.into()]), Ok(0));
    assert_eq!(flags(&guest), 0);
}

#[test]
fn polling_waits_for_its_ports_even_masked() {
    let guest = Guest::new();
    let events = &guest.dom.events;
    let ports: alloc::vec::Vec<Port> = (0..3)
        .map(|_| events.bind_ipi(VcpuId(1)).unwrap())
        .collect();
    guest
        .dom
        .shared
        .u64(2560)
        .unwrap()
        .store(u64::MAX, Ordering::SeqCst);
    assert_eq!(poll(&guest, &[ports[0].0], 1, 0), Ok(0));
    assert_eq!(flags(&guest), pause::POLLING);
    notify::act(events.send(ports[1]).unwrap());
    assert_eq!(flags(&guest), pause::POLLING);
    notify::act(events.send(ports[0]).unwrap());
    assert_eq!(flags(&guest), 0);
    // The port is already pending, so the call doesn't block.
    assert_eq!(poll(&guest, &[ports[2].0, ports[1].0], 2, 0), Ok(0));
    assert_eq!(flags(&guest), 0);
    // Invalid ports: beyond the table, never allocated, and port 0, which never exists.
    for closed in [999, ports[2].0 + 1, 0] {
        assert_eq!(
            poll(&guest, &[ports[2].0, closed], 2, 0),
            Err(errno::EINVAL)
        );
    }
    assert_eq!(flags(&guest), 0);
    assert_eq!(poll(&guest, &[], 129, 0), Err(errno::EINVAL));
    let mut op = SchedPoll::new_zeroed();
    (op.ports, op.nr_ports) = (GuestHandle(guest.bad()), 1);
    assert_eq!(
        guest.with(SCHED_OP, SCHEDOP_POLL, &mut op),
        Err(errno::EFAULT)
    );
    assert_eq!(flags(&guest), 0);
}

#[test]
fn a_poll_without_memory_for_its_timer_ends() {
    let guest = Guest::new();
    let port = guest.dom.events.bind_ipi(VcpuId(0)).unwrap();
    let result = short::of_memory(|| {
        // Uses up the room that other tests may have left for deadlines.
        let timer = |n| VcpuTimers::new(guest.dom.id(), VcpuId(n)).poll;
        let taken: Vec<Timer> = (0..)
            .map(timer)
            .take_while(|timer| time::set_timer(timer, u64::MAX).is_ok())
            .collect();
        let result = poll(&guest, &[port.0], 1, u64::MAX);
        taken.iter().for_each(|timer| time::TIMERS.cancel(timer));
        result
    });
    assert_eq!(result, Err(errno::ENOMEM));
    assert_eq!(flags(&guest), 0);
    assert!(guest.dom.events.pollers_of(port).eq([]));
}

/// GNU Mach passes the old call a pointer to the reason. It shuts down all the same, with the pointer's low byte as
/// the reason.
#[test]
fn any_reason_ends_a_domain() {
    let guest = Guest::new();
    let compat = [SCHEDOP_SHUTDOWN.into(), 0x400a_1964];
    assert_eq!(guest.call(SCHED_OP_COMPAT, &compat), Ok(0));
    assert_eq!(guest.dom.shutdown.lock().reason, Some(0x64));
    let mut op = SchedShutdown { reason: 0x106 };
    let other = Guest::new();
    assert_eq!(other.with(SCHED_OP, SCHEDOP_SHUTDOWN, &mut op), Ok(0));
    assert_eq!(other.dom.shutdown.lock().reason, Some(6));
}

#[test]
fn shutting_down() {
    let guest = Guest::new();
    let mut op = SchedShutdown {
        reason: SHUTDOWN_POWEROFF,
    };
    assert_eq!(guest.with(SCHED_OP, SCHEDOP_SHUTDOWN, &mut op), Ok(0));
    assert_eq!(guest.dom.shutdown.lock().reason, Some(SHUTDOWN_POWEROFF));
    for vcpu in guest.dom.vcpus() {
        assert_ne!(vcpu.gate.holds() & pause::SHUT_DOWN, 0);
    }
}

#[test]
fn others_are_shut_down_by_control_domains_only() {
    let (guest, other) = (Guest::new(), Guest::new());
    let mut op = SchedRemoteShutdown::new_zeroed();
    (op.domain_id, op.reason) = (other.id(), SHUTDOWN_SUSPEND);
    assert_eq!(
        guest.with(SCHED_OP, SCHEDOP_REMOTE_SHUTDOWN, &mut op),
        Err(errno::EPERM)
    );
    let control = Guest::with_rights(Rights::Control);
    assert_eq!(
        control.with(SCHED_OP, SCHEDOP_REMOTE_SHUTDOWN, &mut op),
        Ok(0)
    );
    assert_eq!(other.dom.shutdown.lock().reason, Some(SHUTDOWN_SUSPEND));
    op.domain_id = control.id();
    assert_eq!(
        control.with(SCHED_OP, SCHEDOP_REMOTE_SHUTDOWN, &mut op),
        Ok(0)
    );
    assert_eq!(control.dom.shutdown.lock().reason, Some(SHUTDOWN_SUSPEND));
    op.domain_id = 0x7000;
    for caller in [&control, &guest] {
        assert_eq!(
            caller.with(SCHED_OP, SCHEDOP_REMOTE_SHUTDOWN, &mut op),
            Err(errno::ESRCH)
        );
    }
}

#[test]
fn watchdogs_are_two() {
    let guest = Guest::new();
    let set = |id, timeout| {
        guest.with(
            SCHED_OP,
            SCHEDOP_WATCHDOG,
            &mut SchedWatchdog { id, timeout },
        )
    };
    // A new watchdog with a timeout of 0 expires at once.
    assert_eq!(set(0, 0), Ok(1));
    assert_eq!(set(0, 10), Ok(2));
    assert_eq!(set(0, 10), Err(errno::ENOSPC));
    assert_eq!(set(1, 20), Ok(0));
    assert_eq!(set(1, 0), Ok(0));
    assert_eq!(set(1, 0), Err(errno::EINVAL));
    assert_eq!(set(3, 10), Err(errno::EINVAL));
}

#[test]
fn bad_commands_and_pointers() {
    let guest = Guest::new();
    let with_argument = [
        SCHEDOP_SHUTDOWN,
        SCHEDOP_POLL,
        SCHEDOP_REMOTE_SHUTDOWN,
        SCHEDOP_SHUTDOWN_CODE,
        SCHEDOP_WATCHDOG,
    ];
    for command in with_argument {
        for bad in [guest.bad(), 0xffff_8300_0000_0000, u64::MAX] {
            assert_eq!(
                guest.call(SCHED_OP, &[command.into(), bad]),
                Err(errno::EFAULT)
            );
        }
    }
    assert_eq!(guest.call(SCHED_OP, &[99]), Err(errno::ENOSYS));
    assert_eq!(
        guest.call(SCHED_OP_COMPAT, &[SCHEDOP_POLL.into()]),
        Err(errno::ENOSYS)
    );
    assert_eq!(guest.call(SCHED_OP, &[SCHEDOP_YIELD.into()]), Ok(0));
}

#[test]
fn the_hardware_domain_pins_itself_for_a_while() {
    let guest = Guest::new();
    let dom0 = Guest::with_rights(Rights::Control);
    let pin = |who: &Guest, pcpu| {
        who.with(
            SCHED_OP,
            SCHEDOP_PIN_OVERRIDE,
            &mut SchedPinOverride { pcpu },
        )
    };
    let here = percpu::this_cpu();
    let hard = || SCHED.affinity(dom0.dom.vcpus()[0].unit).unwrap().0;
    let before = hard();
    assert_eq!(pin(&guest, 0), Err(errno::EPERM));
    assert_eq!(pin(&dom0, -1), Err(errno::EINVAL));
    for absent in [63, 64, 64 + here.0 as i32, i32::MAX] {
        assert_eq!(pin(&dom0, absent), Err(errno::EINVAL));
    }
    assert_eq!(pin(&dom0, here.0 as i32), Ok(0));
    assert_eq!(hard(), CpuSet::one(here));
    assert_eq!(pin(&dom0, here.0 as i32), Err(errno::EBUSY));
    assert_eq!(pin(&dom0, -1), Ok(0));
    assert_eq!(hard(), before);
}
