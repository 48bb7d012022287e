//! Tests of event_channel_op.

use crate::kit::atomic::Ordering;

use guest_pv_abi::errno;
use guest_pv_abi::event_channel::*;
use guest_pv_abi::hypercall::{EVENT_CHANNEL_OP, EVENT_CHANNEL_OP_COMPAT, PHYSDEV_OP};
use guest_pv_abi::physdev::*;
use std::vec::Vec;
use zerocopy::FromZeros;

use super::guest::Guest;
use crate::domain::Rights;
use crate::kit::DomId;

fn alloc(guest: &Guest, dom: u16, remote_dom: u16) -> Result<u32, errno::Errno> {
    let mut op = EvtchnAllocUnbound {
        dom,
        remote_dom,
        port: 0,
    };
    guest
        .with(EVENT_CHANNEL_OP, EVTCHNOP_ALLOC_UNBOUND, &mut op)
        .map(|_| op.port)
}

fn bind(guest: &Guest, remote_dom: u16, remote_port: u32) -> Result<u32, errno::Errno> {
    let mut op = EvtchnBindInterdomain::new_zeroed();
    (op.remote_dom, op.remote_port) = (remote_dom, remote_port);
    guest
        .with(EVENT_CHANNEL_OP, EVTCHNOP_BIND_INTERDOMAIN, &mut op)
        .map(|_| op.local_port)
}

fn by_port(guest: &Guest, command: u32, port: u32) -> Result<i64, errno::Errno> {
    guest.with(EVENT_CHANNEL_OP, command, &mut { port })
}

#[test]
fn two_guests_meet() {
    let (a, b) = (Guest::new(), Guest::new());
    let port = alloc(&b, DomId::SELF.0, a.id()).unwrap();
    let own = bind(&a, b.id(), port).unwrap();
    by_port(&a, EVTCHNOP_SEND, own).unwrap();
    let pending = b.dom.shared.u64(2048).unwrap().load(Ordering::SeqCst);
    assert_eq!(pending, 1 << port);
    assert_ne!(
        b.dom.vcpus()[0]
            .info
            .upcall_pending()
            .load(Ordering::SeqCst),
        0
    );
    let mut status = EvtchnStatus::new_zeroed();
    (status.dom, status.port) = (DomId::SELF.0, own);
    a.with(EVENT_CHANNEL_OP, EVTCHNOP_STATUS, &mut status)
        .unwrap();
    assert_eq!(
        (status.status, status.u),
        (EVTCHNSTAT_INTERDOMAIN, [b.id().into(), port])
    );
    by_port(&a, EVTCHNOP_CLOSE, own).unwrap();
    assert_eq!(by_port(&a, EVTCHNOP_SEND, own), Err(errno::EINVAL));
    assert_eq!(by_port(&a, EVTCHNOP_UNMASK, u32::MAX), Err(errno::EINVAL));
}

#[test]
fn others_affairs_need_control_rights() {
    let (a, b) = (Guest::new(), Guest::new());
    assert_eq!(alloc(&a, b.id(), a.id()), Err(errno::EPERM));
    assert_eq!(alloc(&a, 0x7000, 0), Err(errno::ESRCH));
    assert_eq!(alloc(&a, DomId::BOOT.0, 0), Err(errno::ESRCH));
    assert_eq!(bind(&a, DomId::BOOT.0, 1), Err(errno::ESRCH));
    let mut reset = EvtchnReset { dom: b.id() };
    assert_eq!(
        a.with(EVENT_CHANNEL_OP, EVTCHNOP_RESET, &mut reset),
        Err(errno::EPERM)
    );
    let control = Guest::with_rights(Rights::Control);
    assert!(alloc(&control, b.id(), a.id()).is_ok());
    // A new domain starts paused by its toolstack. Once it runs, only the domain itself can reset its ports.
    assert_eq!(
        control.with(EVENT_CHANNEL_OP, EVTCHNOP_RESET, &mut reset),
        Ok(0)
    );
}

#[test]
fn what_cannot_be_told_is_not_taken() {
    let guest = Guest::new();
    let call = |command: u32, at| guest.call(EVENT_CHANNEL_OP, &[command.into(), at]);
    for command in 0..=EVTCHNOP_SET_PRIORITY {
        for bad in [
            guest.bad(),
            0,
            0x8000_0000_0000,
            0xffff_8300_0000_0000,
            u64::MAX,
        ] {
            assert_eq!(
                call(command, bad),
                Err(errno::EFAULT),
                "sub-operation {command}"
            );
        }
    }
    // Xen's internal continuation of a reset: no reset waits for it here.
    guest.write(guest.at, &DomId::SELF.0);
    assert_eq!(call(14, guest.at), Err(errno::EBUSY));
    assert_eq!(call(15, guest.at), Err(errno::ENOSYS));
    assert_eq!(call(u32::MAX, guest.at), Err(errno::ENOSYS));
    // The structure's input is readable, but its output is not writable, so the port is closed again.
    let edge = guest.bad() - 4;
    guest.write(edge, &[DomId::SELF.0, 0]);
    assert_eq!(call(EVTCHNOP_ALLOC_UNBOUND, edge), Err(errno::EFAULT));
    assert!(guest.dom.events.is_empty());
}

#[test]
fn the_old_form_knows_the_old_commands() {
    let guest = Guest::new();
    let mut op = EvtchnOp::new_zeroed();
    op.cmd = EVTCHNOP_BIND_IPI;
    guest.write(guest.at, &op);
    assert_eq!(guest.call(EVENT_CHANNEL_OP_COMPAT, &[guest.at]), Ok(0));
    assert_eq!(guest.read::<EvtchnOp>(guest.at).u[1], 1);
    op.cmd = EVTCHNOP_RESET;
    guest.write(guest.at, &op);
    assert_eq!(
        guest.call(EVENT_CHANNEL_OP_COMPAT, &[guest.at]),
        Err(errno::ENOSYS)
    );
}

#[test]
fn fifo_takes_frames_of_the_guests_own() {
    let (guest, other) = (Guest::new(), Guest::new());
    let mut control = EvtchnInitControl::new_zeroed();
    let mut init = |gfn: u64, offset, vcpu| {
        (control.control_gfn, control.offset, control.vcpu) = (gfn, offset, vcpu);
        let result = guest.with(EVENT_CHANNEL_OP, EVTCHNOP_INIT_CONTROL, &mut control);
        result.map(|_| control.link_bits)
    };
    let expand = |gfn: u64| {
        let mut op = EvtchnExpandArray { array_gfn: gfn };
        guest.with(EVENT_CHANNEL_OP, EVTCHNOP_EXPAND_ARRAY, &mut op)
    };
    let (one, two) = (guest.frame(), guest.frame());
    assert_eq!(expand(two.0), Err(errno::EOPNOTSUPP));
    assert_eq!(init(one.0, 0, 2), Err(errno::ENOENT));
    for foreign in [
        other.frame().0,
        guest.dom.area.l4_entry() >> 12,
        0,
        u64::MAX,
    ] {
        assert_eq!(init(foreign, 0, 0), Err(errno::EINVAL));
    }
    assert_eq!(init(one.0, 4, 0), Err(errno::EINVAL));
    assert_eq!(init(one.0, 0, 0), Ok(17));
    assert_eq!(init(one.0, 2048, 1), Ok(17));
    assert_eq!(expand(two.0), Ok(0));
    // A page that the core writes can't become a page table.
    let mut work = crate::pagetype::Work::new();
    assert!(
        crate::pagetype::machine()
            .pin(two, 1, guest.dom.id(), &mut work)
            .is_err()
    );
}

/// The right to an interrupt is not enough to bind it: the domain also needs a number for it, which only the hardware
/// domain can map.
#[test]
fn physical_interrupts_are_for_who_has_a_number_for_them() {
    crate::irq::machine::open(&[], Vec::new(), |_| None);
    let guest = Guest::new();
    let mut op = EvtchnBindPirq {
        pirq: 9,
        flags: 0,
        port: 0,
    };
    let mut bind = || guest.with(EVENT_CHANNEL_OP, EVTCHNOP_BIND_PIRQ, &mut op);
    assert_eq!(bind(), Err(errno::EPERM));
    guest.dom.io_rights.lock().irqs.insert(9..=9);
    assert_eq!(bind(), Err(errno::EPERM));
    let mut map = PhysdevMapPirq {
        domid: DomId::SELF.0,
        type_: MAP_PIRQ_TYPE_GSI as i32,
        index: 9,
        pirq: -1,
        ..PhysdevMapPirq::default()
    };
    assert_eq!(
        guest.with(PHYSDEV_OP, PHYSDEVOP_MAP_PIRQ, &mut map),
        Err(errno::EPERM)
    );
    let control = Guest::with_rights(Rights::Control);
    let call = |map: &mut _| control.with(PHYSDEV_OP, PHYSDEVOP_MAP_PIRQ, map);
    // On the host there is no I/O APIC, and only registered PCI functions exist.
    control.dom.io_rights.lock().irqs.insert(0..=1023);
    assert_eq!(call(&mut map), Err(errno::EINVAL));
    (map.type_, map.index) = (MAP_PIRQ_TYPE_MSI_SEG as i32, -1);
    assert_eq!(call(&mut map), Err(errno::ENODEV));
    map.domid = 999;
    assert_eq!(call(&mut map), Err(errno::ESRCH));
}
