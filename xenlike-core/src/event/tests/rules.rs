//! The rules of event channels, one claim in each test.

use guest_pv_abi::Width;

use super::fake::{Dom, Page};
use crate::event::status::Status;
use crate::event::{EventError, Notice, SharedWords, StatusKind, Sweep};
use crate::kit::atomic::Ordering::SeqCst;
use crate::kit::{DomId, Port, VcpuId};
use crate::mm::heap::short;

const V0: VcpuId = VcpuId(0);
const V1: VcpuId = VcpuId(1);

fn pair() -> (Dom, Dom, Port, Port) {
    let (a, b) = (Dom::new(1, 2, 1023), Dom::new(2, 2, 1023));
    let pb = b.table.alloc_unbound(DomId(1)).unwrap();
    let (pa, notice) = a.table.bind_interdomain(&b.table, pb).unwrap();
    assert_eq!(notice.upcall, Some(V0));
    a.take_upcall(V0);
    a.clear(pa);
    (a, b, pa, pb)
}

#[test]
fn send_sets_the_peers_bits_and_notifies_once() {
    let (a, b, pa, pb) = pair();
    let notice = a.table.send(pa).unwrap();
    assert_eq!(
        notice,
        Notice {
            dom: DomId(2),
            upcall: Some(V0),
            polled: None
        }
    );
    assert!(b.pending(pb));
    assert!(a.table.send(pa).unwrap().is_nobody());
    assert_eq!(b.take_upcall(V0), Some(1));
    b.clear(pb);
    assert_eq!(a.table.send(pa).unwrap().upcall, Some(V0));
}

#[test]
fn masked_send_is_silent_until_unmasked() {
    let (a, b, pa, pb) = pair();
    b.mask(pb);
    assert!(a.table.send(pa).unwrap().is_nobody());
    assert!(b.pending(pb));
    assert_eq!(b.table.unmask(pb).unwrap().upcall, Some(V0));
    assert!(b.table.unmask(pb).unwrap().is_nobody());
}

#[test]
fn close_leaves_the_peer_unbound_and_rebindable() {
    let (a, b, pa, pb) = pair();
    a.table.close(pa).unwrap();
    assert_eq!(
        b.table.status(pb).unwrap(),
        Status {
            kind: StatusKind::Unbound(DomId(1)),
            vcpu: V0
        }
    );
    assert_eq!(a.table.status(pa).unwrap().kind, StatusKind::Closed);
    assert_eq!(a.table.close(pa), Err(EventError::BadPort));
    assert!(b.table.send(pb).unwrap().is_nobody());
    assert!(a.table.bind_interdomain(&b.table, pb).is_ok());
}

#[test]
fn only_the_named_domain_may_bind() {
    let (a, b) = (Dom::new(1, 1, 1023), Dom::new(2, 1, 1023));
    let pb = b.table.alloc_unbound(DomId(3)).unwrap();
    let refused = a.table.bind_interdomain(&b.table, pb).map(|_| ());
    assert_eq!(refused, Err(EventError::BadPort));
    for bad in [0, 2, 64, 5000, u32::MAX] {
        assert!(a.table.bind_interdomain(&b.table, Port(bad)).is_err());
        assert_eq!(a.table.send(Port(bad)), Err(EventError::BadPort));
        assert_eq!(a.table.close(Port(bad)), Err(EventError::BadPort));
    }
}

#[test]
fn loopback_connects_two_ports_of_one_domain() {
    let a = Dom::new(1, 1, 1023);
    let one = a.table.alloc_unbound(DomId(1)).unwrap();
    let (two, _) = a.table.bind_interdomain(&a.table, one).unwrap();
    assert!(!a.pending(one));
    let _ = a.table.send(two).unwrap();
    assert!(a.pending(one));
    a.table.close(one).unwrap();
    assert_eq!(
        a.table.status(two).unwrap().kind,
        StatusKind::Unbound(DomId(1))
    );
}

#[test]
fn virqs_bind_once_and_go_where_they_belong() {
    let d = Dom::new(1, 2, 1023);
    let timer = d.table.bind_virq(0, V1).unwrap();
    assert_eq!(d.table.bind_virq(0, V1), Err(EventError::Exists));
    assert_eq!(d.table.bind_virq(2, V1), Err(EventError::BadArgument));
    assert_eq!(d.table.bind_virq(24, V0), Err(EventError::BadArgument));
    assert_eq!(d.table.bind_virq(0, VcpuId(2)), Err(EventError::NoVcpu));
    assert_eq!(d.table.send_virq(V1, 0).upcall, Some(V1));
    assert!(d.table.send_virq(V0, 0).is_nobody());
    assert_eq!(d.table.bind_vcpu(timer, V0), Err(EventError::BadPort));
    assert_eq!(d.table.send(timer), Err(EventError::BadPort));

    let console = d.table.bind_virq(2, V0).unwrap();
    d.table.bind_vcpu(console, V1).unwrap();
    d.take_upcall(V1);
    assert_eq!(d.table.send_virq(V0, 2).upcall, Some(V1));
    d.table.close(console).unwrap();
    assert!(d.table.send_virq(V0, 2).is_nobody());
    assert_eq!(d.table.bind_virq(2, V0).unwrap(), console);
    assert_eq!(d.table.status(console).unwrap().vcpu, V0);
}

#[test]
fn ipis_reach_their_vcpu() {
    let d = Dom::new(1, 2, 1023);
    let ipi = d.table.bind_ipi(V1).unwrap();
    assert_eq!(d.table.send(ipi).unwrap().upcall, Some(V1));
    assert_eq!(d.table.bind_vcpu(ipi, V0), Err(EventError::BadPort));
    assert_eq!(d.table.bind_ipi(VcpuId(2)), Err(EventError::NoVcpu));
}

#[test]
fn pirqs_bind_once_and_are_handed_back() {
    let d = Dom::new(0, 1, u32::MAX);
    let port = d.table.bind_pirq(9).unwrap();
    assert_eq!(d.table.bind_pirq(9), Err(EventError::Exists));
    assert_eq!(d.table.send_pirq(port, 9).upcall, Some(V0));
    assert!(d.table.send_pirq(port, 8).is_nobody());
    assert_eq!(d.table.close(port).unwrap().pirq, Some(9));
    assert!(d.table.bind_pirq(9).is_ok());
}

#[test]
fn ports_run_out_at_the_limit() {
    let d = Dom::new(1, 1, 100);
    for port in 1..=100 {
        assert_eq!(d.table.alloc_unbound(DomId(0)), Ok(Port(port)));
    }
    assert_eq!(d.table.alloc_unbound(DomId(0)), Err(EventError::NoSpace));
    d.table.close(Port(42)).unwrap();
    assert_eq!(d.table.alloc_unbound(DomId(0)), Ok(Port(42)));
    let big = Dom::new(0, 1, u32::MAX);
    for _ in 1..4096 {
        big.table.alloc_unbound(DomId(0)).unwrap();
    }
    assert_eq!(big.table.alloc_unbound(DomId(0)), Err(EventError::NoSpace));
    big.table.init_control(V0, Page::new(), 0).unwrap();
    assert_eq!(big.table.alloc_unbound(DomId(0)), Ok(Port(4096)));
}

#[test]
fn polling_hears_masked_events() {
    let d = Dom::new(1, 2, 1023);
    let ipi = d.table.bind_ipi(V0).unwrap();
    d.mask(ipi);
    assert_eq!(d.table.send(ipi).unwrap().polled, None);
    assert_eq!(d.table.is_pending(ipi), Ok(true));
    d.clear(ipi);
    d.table.begin_poll(V1, Some(ipi));
    d.table.begin_poll(V1, Some(ipi));
    assert_eq!(d.table.send(ipi).unwrap().polled, Some(ipi));
    assert!(d.table.pollers_of(ipi).eq([V1]));
    assert!(d.table.pollers_of(Port(9)).eq([]));
    d.table.end_poll(V1);
    d.table.end_poll(V1);
    d.clear(ipi);
    assert_eq!(d.table.send(ipi).unwrap().polled, None);
    d.table.begin_poll(V0, None);
    assert!(d.table.pollers_of(Port(9)).eq([V0]));
    d.table.end_poll(V0);
    for _ in 0..3 {
        d.table.begin_poll(V0, Some(Port(0)));
        d.table.end_poll(V0);
    }
    d.clear(ipi);
    assert_eq!(d.table.send(ipi).unwrap().polled, None, "nobody polls");
}

/// 32-bit kernels align their vcpu_info to 4 bytes.
#[test]
fn a_narrow_info_is_aligned_to_4_bytes() {
    let d = Dom::new(1, 2, 1023);
    d.table.set_width(Width::Narrow);
    let (vcpu, page) = (VcpuId(1), Page::new());
    for bad in [2, 6, 4096 - 60] {
        assert!(d.table.register_info(vcpu, page.clone(), bad).is_err());
    }
    let moved = d.table.register_info(vcpu, page.clone(), 4096 - 68);
    assert_eq!(moved.unwrap().upcall, Some(vcpu));
    assert_eq!(page.u32(4096 - 64).unwrap().load(SeqCst), u32::MAX);
}

#[test]
fn registered_info_takes_over() {
    let d = Dom::new(1, 40, 1023);
    let (high, page) = (VcpuId(39), Page::new());
    let ipi = d.table.bind_ipi(high).unwrap();
    assert!(d.table.send(ipi).unwrap().is_nobody());
    for bad in [4, 4096 - 56, usize::MAX] {
        assert!(d.table.register_info(high, page.clone(), bad).is_err());
    }
    assert_eq!(
        d.table
            .register_info(high, page.clone(), 64)
            .unwrap()
            .upcall,
        Some(high)
    );
    assert_eq!(page.u64(72).unwrap().load(SeqCst), u64::MAX);
    assert!(d.table.register_info(high, page.clone(), 128).is_err());
    assert_eq!(page.handles(), 2);
    assert_eq!(d.table.destroy(&mut || false, &mut |_| {}), Sweep::Done);
    assert_eq!(page.handles(), 1);
}

#[test]
fn reset_closes_all_and_leaves_fifo() {
    let (a, b, pa, pb) = pair();
    let (control, array) = (Page::new(), Page::new());
    assert_eq!(
        a.table.expand_array(array.clone(), &mut |_| {}),
        Err(EventError::TwoLevel)
    );
    assert_eq!(a.table.set_priority(pa, 3), Err(EventError::TwoLevel));
    a.table.init_control(V0, control.clone(), 8).unwrap();
    a.table.expand_array(array.clone(), &mut |_| {}).unwrap();
    a.table.set_priority(pa, 3).unwrap();
    assert_eq!(a.table.set_priority(pa, 16), Err(EventError::BadArgument));
    assert_eq!(a.table.set_priority(Port(9), 3), Err(EventError::Unused));
    assert_eq!(a.table.reset(&mut || false, &mut |_| {}), Sweep::Done);
    assert_eq!((control.handles(), array.handles()), (1, 1));
    assert_eq!(
        b.table.status(pb).unwrap().kind,
        StatusKind::Unbound(DomId(1))
    );
    let (again, _) = a.table.bind_interdomain(&b.table, pb).unwrap();
    assert!(a.pending(again));
}

#[test]
fn destruction_can_stop_and_go_on() {
    let (a, b) = (Dom::new(1, 1, 1023), Dom::new(2, 1, 1023));
    for _ in 0..100 {
        let port = b.table.alloc_unbound(DomId(1)).unwrap();
        let _ = a.table.bind_interdomain(&b.table, port).unwrap();
    }
    let pirq = a.table.bind_pirq(4).unwrap();
    assert_eq!(pirq, Port(101));
    let (mut calls, mut irqs) = (0, alloc::vec::Vec::new());
    while a.table.destroy(&mut || true, &mut |irq| irqs.push(irq)) == Sweep::Again {
        calls += 1;
        assert_eq!(a.table.alloc_unbound(DomId(2)), Err(EventError::Dying));
    }
    assert_eq!((calls, irqs.as_slice()), (6, &[4][..]));
    assert_eq!(alloc::sync::Arc::strong_count(&a.table), 1);
    assert_eq!(alloc::sync::Arc::strong_count(&b.table), 1);
}

/// A guest's ports don't use up the hypervisor's last memory.
#[test]
fn ports_do_not_grow_into_the_reserve() {
    let dom = Dom::new(1, 1, 1000);
    // As many ports as were allocated with the table.
    for _ in 1..64 {
        short::of_memory(|| dom.table.alloc_unbound(DomId(2))).unwrap();
    }
    let one_more = || dom.table.alloc_unbound(DomId(2));
    assert_eq!(short::of_memory(one_more), Err(EventError::NoMemory));
    assert_eq!(one_more(), Ok(Port(64)));
}
