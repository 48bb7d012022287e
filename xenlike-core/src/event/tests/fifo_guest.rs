//! FIFO delivery against a model guest that follows the public header: it takes heads off queues, clears LINKED by
//! compare-exchange, and handles events that are pending and not masked.

use crate::kit::atomic::AtomicU32;
use crate::kit::atomic::Ordering::SeqCst;
use alloc::vec;
use alloc::vec::Vec;

use proptest::prelude::*;

use super::fake::{Dom, Page};
use crate::event::fifo::{LINKED, MASKED, PENDING};
use crate::event::{EventError, SharedWords};
use crate::kit::{DomId, Port, VcpuId};

const LINK: u32 = (1 << 17) - 1;

pub(in crate::event) struct Guest {
    pub dom: Dom,
    control: Vec<Page>,
    array: Vec<Page>,
    heads: Vec<[u32; 16]>,
}

impl Guest {
    pub fn new(vcpus: u32, pages: usize) -> Self {
        let guest = Self::without_queues(vcpus, pages, 4000);
        guest.make_queues();
        guest
    }

    /// Makes a guest that has pages for queues, but has not registered them.
    pub fn without_queues(vcpus: u32, pages: usize, max_port: u32) -> Self {
        Self {
            dom: Dom::new(1, vcpus, max_port),
            control: (0..vcpus).map(|_| Page::new()).collect(),
            array: (0..pages).map(|_| Page::new()).collect(),
            heads: vec![[0; 16]; vcpus as usize],
        }
    }

    pub fn make_queues(&self) {
        let table = &self.dom.table;
        for (v, page) in (0..).zip(&self.control) {
            table.init_control(VcpuId(v), page.clone(), 16).unwrap();
            assert!(table.init_control(VcpuId(v), page.clone(), 16).is_err());
        }
        for page in &self.array {
            table.expand_array(page.clone(), &mut |_| {}).unwrap();
        }
    }

    /// For models: touches the words of the first vCPU's queue of default priority, and of `port`.
    #[cfg(loom)]
    pub fn touch(&self, port: Port) {
        self.word(port).load(SeqCst);
        for at in [16, 16 + 8 + 7 * 4] {
            self.control[0].u32(at).unwrap().load(SeqCst);
        }
    }

    #[cfg(loom)]
    pub fn mask(&self, port: Port) {
        self.word(port).fetch_or(MASKED, SeqCst);
    }

    pub fn word(&self, port: Port) -> &AtomicU32 {
        self.array[port.0 as usize / 1024]
            .u32(port.0 as usize % 1024 * 4)
            .unwrap()
    }

    /// Takes an event off the queues of `vcpu`: returns the port, and whether the event must be handled.
    pub fn take(&mut self, vcpu: usize) -> Option<(Port, bool)> {
        let control = &self.control[vcpu];
        let ready = control.u32(16).unwrap().load(SeqCst);
        for priority in 0..16 {
            if ready >> priority & 1 == 0 {
                continue;
            }
            let mut head = self.heads[vcpu][priority];
            if head == 0 {
                // The last event was taken off: the queue isn't ready any more, unless the hypervisor has set its bit
                // again.
                control.u32(16).unwrap().fetch_and(!(1 << priority), SeqCst);
                head = control.u32(16 + 8 + priority * 4).unwrap().swap(0, SeqCst);
                if head == 0 {
                    continue;
                }
                control.u32(16).unwrap().fetch_or(1 << priority, SeqCst);
            }
            let port = Port(head);
            self.heads[vcpu][priority] = clear_linked(self.word(port));
            let word = self.word(port).load(SeqCst);
            let handle = word & PENDING != 0 && word & MASKED == 0;
            if handle {
                self.word(port).fetch_and(!PENDING, SeqCst);
            }
            return Some((port, handle));
        }
        None
    }

    pub fn unmask(&self, port: Port) {
        if self.word(port).fetch_and(!MASKED, SeqCst) & PENDING != 0 {
            self.word(port).fetch_or(MASKED, SeqCst);
            let _ = self.dom.table.unmask(port).unwrap();
        }
    }
}

fn clear_linked(word: &AtomicU32) -> u32 {
    let mut old = word.load(SeqCst);
    while let Err(now) = word.compare_exchange(old, old & !(LINKED | LINK), SeqCst, SeqCst) {
        old = now;
    }
    old & LINK
}

#[test]
fn events_of_one_priority_come_in_order() {
    let mut guest = Guest::new(1, 1);
    let ports: Vec<_> = (0..20)
        .map(|_| guest.dom.table.bind_ipi(VcpuId(0)).unwrap())
        .collect();
    for (i, port) in ports.iter().enumerate() {
        assert_eq!(
            guest.dom.table.send(*port).unwrap().upcall.is_some(),
            i == 0
        );
    }
    for port in &ports {
        assert_eq!(guest.take(0), Some((*port, true)));
    }
    assert_eq!(guest.take(0), None);
}

#[test]
fn urgent_events_come_first() {
    let mut guest = Guest::new(1, 1);
    let late = guest.dom.table.bind_ipi(VcpuId(0)).unwrap();
    let early = guest.dom.table.bind_ipi(VcpuId(0)).unwrap();
    guest.dom.table.set_priority(late, 15).unwrap();
    guest.dom.table.set_priority(early, 0).unwrap();
    for port in [late, early] {
        let _ = guest.dom.table.send(port).unwrap();
    }
    assert_eq!(guest.take(0), Some((early, true)));
    assert_eq!(guest.take(0), Some((late, true)));
}

#[test]
fn pending_events_survive_the_switch_and_wait_for_their_word() {
    let dom = Dom::new(1, 1, 1023);
    let port = dom.table.bind_ipi(VcpuId(0)).unwrap();
    let _ = dom.table.send(port).unwrap();
    let (control, array) = (Page::new(), Page::new());
    for bad in [4, 4096 - 64, u32::MAX] {
        assert!(
            dom.table
                .init_control(VcpuId(0), control.clone(), bad)
                .is_err()
        );
    }
    dom.table
        .init_control(VcpuId(0), control.clone(), 0)
        .unwrap();
    assert!(dom.table.send(port).unwrap().is_nobody());
    assert_eq!(dom.table.is_pending(port), Ok(true));
    dom.take_upcall(VcpuId(0));
    let mut heard = 0;
    dom.table
        .expand_array(array.clone(), &mut |n| heard += u32::from(!n.is_nobody()))
        .unwrap();
    assert_eq!(heard, 1);
    assert_eq!(control.u32(8 + 7 * 4).unwrap().load(SeqCst), port.0);
    assert_eq!(
        array.u32(port.0 as usize * 4).unwrap().load(SeqCst),
        PENDING | LINKED
    );
}

#[test]
fn a_linked_port_is_not_given_out_again() {
    let mut guest = Guest::new(1, 1);
    let table = guest.dom.table.clone();
    let port = table.bind_ipi(VcpuId(0)).unwrap();
    let _ = table.send(port).unwrap();
    table.close(port).unwrap();
    let other = table.bind_ipi(VcpuId(0)).unwrap();
    assert_ne!(other, port);
    assert_eq!(guest.take(0), Some((port, false)));
    assert_eq!(table.bind_ipi(VcpuId(0)).unwrap(), port);
}

#[test]
fn garbage_in_the_guests_pages_hurts_nobody_else() {
    let guest = Guest::new(2, 1);
    let table = &guest.dom.table;
    let ports: Vec<_> = (0..8)
        .map(|v| table.bind_ipi(VcpuId(v % 2)).unwrap())
        .collect();
    for round in 0u32..200 {
        for page in guest.array.iter().chain(&guest.control) {
            for at in 0..1024 {
                page.u32(at * 4).unwrap().store(
                    round.wrapping_mul(0x9e37_79b9).rotate_left(at as u32),
                    SeqCst,
                );
            }
        }
        for port in &ports {
            let _ = table.send(*port).unwrap();
            let _ = table.unmask(*port).unwrap();
        }
    }
}

#[derive(Clone, Debug)]
enum Op {
    Send(usize),
    Mask(usize),
    Unmask(usize),
    Priority(usize, u32),
    Vcpu(usize, u32),
    Take(usize),
}

fn op() -> impl Strategy<Value = Op> {
    let port = 0..6usize;
    prop_oneof![
        4 => port.clone().prop_map(Op::Send),
        1 => port.clone().prop_map(Op::Mask),
        1 => port.clone().prop_map(Op::Unmask),
        1 => (port.clone(), 0..16u32).prop_map(|(p, v)| Op::Priority(p, v)),
        1 => (port, 0..2u32).prop_map(|(p, v)| Op::Vcpu(p, v)),
        4 => (0..2usize).prop_map(Op::Take),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    /// Whatever is sent, masked, moved and given other priorities, no event is lost and none is invented.
    #[test]
    fn nothing_is_lost(ops in prop::collection::vec(op(), 1..200)) {
        let mut guest = Guest::new(2, 1);
        let peer = Dom::new(2, 1, 1023);
        let ports: Vec<(Port, Port)> = (0..6).map(|_| {
            let theirs = peer.table.alloc_unbound(crate::kit::DomId(1)).unwrap();
            let (own, _) = guest.dom.table.bind_interdomain(&peer.table, theirs).unwrap();
            (own, theirs)
        }).collect();
        while guest.take(0).is_some() {}
        let mut sent = [false; 6];
        for op in ops {
            match op {
                Op::Send(p) => {
                    let _ = peer.table.send(ports[p].1).unwrap();
                    sent[p] = true;
                }
                Op::Mask(p) => { guest.word(ports[p].0).fetch_or(MASKED, SeqCst); }
                Op::Unmask(p) => guest.unmask(ports[p].0),
                Op::Priority(p, v) => guest.dom.table.set_priority(ports[p].0, v).unwrap(),
                Op::Vcpu(p, v) => guest.dom.table.bind_vcpu(ports[p].0, VcpuId(v)).unwrap(),
                Op::Take(v) => handle(&mut guest, v, &ports, &mut sent),
            }
        }
        for (own, _) in &ports {
            guest.unmask(*own);
        }
        for _ in 0..20 {
            handle(&mut guest, 0, &ports, &mut sent);
            handle(&mut guest, 1, &ports, &mut sent);
        }
        prop_assert_eq!(sent, [false; 6]);
        for (own, _) in &ports {
            prop_assert_eq!(guest.word(*own).load(SeqCst), 0);
        }
    }
}

fn handle(guest: &mut Guest, vcpu: usize, ports: &[(Port, Port)], sent: &mut [bool; 6]) {
    if let Some((port, true)) = guest.take(vcpu) {
        let p = ports
            .iter()
            .position(|(own, _)| *own == port)
            .expect("a port that was bound");
        assert!(sent[p], "{port:?} was handled but not sent");
        sent[p] = false;
    }
}

/// A guest that says of all free ports that they are on a queue gets none. The search gives up after
/// some, because it holds locks.
#[test]
fn ports_said_to_be_busy_are_looked_at_so_long() {
    let guest = Guest::new(1, 3);
    for port in 1..2000 {
        guest.word(Port(port)).fetch_or(LINKED, SeqCst);
    }
    let table = &guest.dom.table;
    assert_eq!(table.alloc_unbound(DomId(2)), Err(EventError::NoSpace));
    guest.word(Port(700)).fetch_and(!LINKED, SeqCst);
    assert_eq!(table.alloc_unbound(DomId(2)), Ok(Port(700)));
}
