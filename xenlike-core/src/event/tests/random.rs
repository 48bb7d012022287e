//! Random operations of several domains. After each, everything is counted from scratch.

use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use proptest::prelude::*;

use super::fake::{Dom, Page};
use crate::event::{EventError, StatusKind, Sweep};
use crate::kit::{DomId, Port, VcpuId};

#[derive(Clone, Debug)]
enum Op {
    Alloc(usize, u16),
    Bind(usize, usize, u32),
    Virq(usize, u32, u32),
    Ipi(usize, u32),
    Pirq(usize, u32),
    Close(usize, u32),
    Send(usize, u32),
    Unmask(usize, u32),
    BindVcpu(usize, u32, u32),
    Fifo(usize, u32),
    Expand(usize),
    Reset(usize),
    Destroy(usize),
}

const DOMS: usize = 3;

fn op() -> impl Strategy<Value = Op> {
    let (d, p) = (0..DOMS, 0..12u32);
    prop_oneof![
        6 => (d.clone(), 0..4u16).prop_map(|(a, b)| Op::Alloc(a, b)),
        6 => (d.clone(), d.clone(), p.clone()).prop_map(|(a, b, c)| Op::Bind(a, b, c)),
        2 => (d.clone(), 0..26u32, 0..3u32).prop_map(|(a, b, c)| Op::Virq(a, b, c)),
        2 => (d.clone(), 0..3u32).prop_map(|(a, b)| Op::Ipi(a, b)),
        2 => (d.clone(), 0..4u32).prop_map(|(a, b)| Op::Pirq(a, b)),
        5 => (d.clone(), p.clone()).prop_map(|(a, b)| Op::Close(a, b)),
        5 => (d.clone(), p.clone()).prop_map(|(a, b)| Op::Send(a, b)),
        2 => (d.clone(), p.clone()).prop_map(|(a, b)| Op::Unmask(a, b)),
        2 => (d.clone(), p, 0..3u32).prop_map(|(a, b, c)| Op::BindVcpu(a, b, c)),
        1 => (d.clone(), 0..3u32).prop_map(|(a, b)| Op::Fifo(a, b)),
        1 => d.clone().prop_map(Op::Expand),
        1 => d.clone().prop_map(Op::Reset),
        1 => d.prop_map(Op::Destroy),
    ]
}

/// An operation may be refused; the books must balance nevertheless.
fn ignore<T>(_refused_or_not: Result<T, EventError>) {}

fn run(doms: &[Dom], op: Op) {
    let t = |d: usize| &doms[d].table;
    match op {
        Op::Alloc(d, r) => ignore(t(d).alloc_unbound(DomId(r))),
        Op::Bind(d, r, p) => ignore(t(d).bind_interdomain(t(r), Port(p))),
        Op::Virq(d, n, v) => ignore(t(d).bind_virq(n, VcpuId(v))),
        Op::Ipi(d, v) => ignore(t(d).bind_ipi(VcpuId(v))),
        Op::Pirq(d, n) => ignore(t(d).bind_pirq(n)),
        Op::Close(d, p) => ignore(t(d).close(Port(p))),
        Op::Send(d, p) => ignore(t(d).send(Port(p))),
        Op::Unmask(d, p) => ignore(t(d).unmask(Port(p))),
        Op::BindVcpu(d, p, v) => ignore(t(d).bind_vcpu(Port(p), VcpuId(v))),
        Op::Fifo(d, v) => ignore(t(d).init_control(VcpuId(v), Page::new(), 0)),
        Op::Expand(d) => ignore(t(d).expand_array(Page::new(), &mut |_| {})),
        Op::Reset(d) => assert_eq!(t(d).reset(&mut || false, &mut |_| {}), Sweep::Done),
        Op::Destroy(d) => assert_eq!(t(d).destroy(&mut || false, &mut |_| {}), Sweep::Done),
    }
}

fn recount(doms: &[Dom]) {
    let mut holders: Vec<usize> = doms.iter().map(|_| 1).collect();
    for (d, dom) in doms.iter().enumerate() {
        let mut virqs = Vec::new();
        let mut pirqs = Vec::new();
        for port in (0..64).map(Port) {
            let status = dom.table.status(port).unwrap();
            let used = dom.table.book.lock().next_used(port.0) == Some(port);
            assert_eq!(used, port.0 == 0 || status.kind != StatusKind::Closed);
            match status.kind {
                StatusKind::Interdomain(remote, peer) => {
                    let back = doms[remote.0 as usize].table.status(peer).unwrap();
                    assert_eq!(back.kind, StatusKind::Interdomain(DomId(d as u16), port));
                    holders[remote.0 as usize] += 1;
                }
                StatusKind::Virq(virq) => virqs.push((virq, port)),
                StatusKind::Pirq(pirq) => pirqs.push((pirq, port)),
                StatusKind::Closed | StatusKind::Unbound(_) | StatusKind::Ipi => {}
            }
        }
        let recorded = (0..2)
            .flat_map(|v| (0..24).map(move |n| (VcpuId(v), n)))
            .filter_map(|(v, n)| dom.table.virq_port(v, n).map(|port| (n, port)));
        let mut recorded: Vec<_> = recorded.collect();
        recorded.sort_by_key(|(_, port)| port.0);
        assert_eq!(recorded, virqs);
        let mut bound = dom.table.book.lock().pirqs.clone();
        bound.sort_by_key(|(_, port)| port.0);
        assert_eq!(bound, pirqs);
    }
    for (dom, count) in doms.iter().zip(holders) {
        assert_eq!(Arc::strong_count(&dom.table), count);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn books_always_balance(ops in prop::collection::vec(op(), 1..80)) {
        let doms: Vec<_> = (0..DOMS as u16).map(|d| Dom::new(d, 2, 40)).collect();
        for op in ops {
            run(&doms, op);
            recount(&doms);
        }
        for (d, dom) in doms.iter().enumerate() {
            run(&doms, Op::Destroy(d));
            prop_assert_eq!(dom.shared.handles(), 2);
        }
        recount(&doms);
        for dom in &doms {
            prop_assert_eq!(Arc::strong_count(&dom.table), 1);
        }
    }
}
