//! The invariants of a book hold after any sequence of calls.

use std::collections::BTreeSet;
use std::vec;

use proptest::prelude::*;

use super::fake::{Fake, LINES, WITH_MSI, WITH_MSIX};
use super::{DOM0, DOM5, book, holder};
use crate::arch::ioapic::{Gate, Trigger};
use crate::irq::Book;
use crate::irq::line::{Holder, Source};
use crate::kit::{CpuId, DomId};

#[derive(Clone, Debug)]
enum Step {
    Line(DomId, u32, Option<u32>),
    Msi(DomId, u8),
    Msix(DomId, u16),
    Hold(DomId, u32, bool),
    LetGo(DomId, u32),
    End(DomId, u32),
    Unmap(DomId, u32),
    Move(DomId, u32, u32),
    Wire(u32, bool),
    Arrive(u8),
    Forget(DomId),
    Restore,
}

fn step() -> impl Strategy<Value = Step> {
    let dom = || prop_oneof![Just(DOM0), Just(DOM5)];
    let gsi = 0..LINES + 1;
    let pirq = || 0_u32..LINES + 8;
    prop_oneof![
        (dom(), gsi.clone(), proptest::option::of(pirq()))
            .prop_map(|(d, g, p)| Step::Line(d, g, p)),
        (dom(), 0_u8..6).prop_map(|(d, n)| Step::Msi(d, n)),
        (dom(), 0_u16..4).prop_map(|(d, n)| Step::Msix(d, n)),
        (dom(), pirq(), any::<bool>()).prop_map(|(d, p, s)| Step::Hold(d, p, s)),
        (dom(), pirq()).prop_map(|(d, p)| Step::LetGo(d, p)),
        (dom(), pirq()).prop_map(|(d, p)| Step::End(d, p)),
        (dom(), pirq()).prop_map(|(d, p)| Step::Unmap(d, p)),
        (dom(), pirq(), 0_u32..4).prop_map(|(d, p, c)| Step::Move(d, p, c)),
        (gsi, any::<bool>()).prop_map(|(g, l)| Step::Wire(g, l)),
        (0x30_u8..0x60).prop_map(Step::Arrive),
        dom().prop_map(Step::Forget),
        Just(Step::Restore),
    ]
}

fn apply(book: &mut Book<Fake>, step: Step) {
    match step {
        Step::Line(dom, gsi, pirq) => {
            let _ = book.map_line(dom, gsi, pirq);
        }
        Step::Msi(dom, count) => {
            let _ = book.map_msi(dom, WITH_MSI, count, None);
        }
        Step::Msix(dom, index) => {
            let _ = book.map_msix(dom, WITH_MSIX, index, None);
        }
        Step::Hold(dom, pirq, shares) => {
            let holder = Holder {
                shares,
                ..holder(dom, pirq)
            };
            let _ = book.hold(holder, CpuId(0));
        }
        Step::LetGo(dom, pirq) => {
            let _ = book.let_go(dom, pirq);
        }
        Step::End(dom, pirq) => {
            let _ = book.end(dom, pirq);
        }
        Step::Unmap(dom, pirq) => {
            let _ = book.unmap(dom, pirq);
        }
        Step::Move(dom, pirq, cpu) => book.move_to(dom, pirq, CpuId(cpu)),
        Step::Wire(gsi, level) => {
            let _ = book.wire(gsi, Trigger::from_wire(level, level));
        }
        Step::Arrive(vector) => {
            let _ = book.arrived(vector);
        }
        Step::Forget(dom) => book.forget(dom),
        Step::Restore => {
            let _ = book.restore(WITH_MSI);
        }
    }
}

fn check(book: &Book<Fake>) {
    let mapped: BTreeSet<u8> = book.maps().iter().filter_map(|map| map.vector).collect();
    let lines: BTreeSet<u8> = book.lines().iter().map(|line| line.vector).collect();
    assert_eq!(mapped, lines, "a line for each map, a map for each line");
    assert_eq!(lines.len(), book.lines().len(), "a vector for each line");
    for line in book.lines() {
        for held in &line.holders {
            let is_its = |map: &crate::irq::map::Map| {
                (map.dom, map.pirq, map.vector) == (held.dom, held.pirq, Some(line.vector))
            };
            assert!(book.maps().iter().any(is_its), "a holder has a map");
            assert!(line.is_level() || !held.owes_end);
        }
        let owed = line.holders.iter().any(|held| held.owes_end);
        let wanted = if line.holders.is_empty() || owed {
            Gate::Masked
        } else {
            Gate::Open
        };
        match line.source {
            Source::Line { gsi, trigger } => {
                let route = book.machine.routes[&gsi];
                assert_eq!((route.vector, route.cpu), (line.vector, line.cpu));
                assert_eq!((route.trigger, route.gate), (trigger, wanted));
            }
            Source::Msi(_, index) => {
                let masked = book.machine.word(WITH_MSI, 0x68) >> index & 1 != 0;
                assert_eq!(masked, wanted == Gate::Masked);
            }
            Source::Msix(msix) => {
                let entry = 0x800 + 16 * usize::from(msix.index);
                let masked = book.machine.table[&(entry + 12)] != 0;
                assert_eq!(masked, wanted == Gate::Masked);
                assert_eq!(book.machine.table[&(entry + 8)], u32::from(line.vector));
            }
        }
    }
    // A line that is not mapped is masked.
    for (gsi, route) in &book.machine.routes {
        let has = |line: &crate::irq::line::Line| matches!(line.source, Source::Line { gsi: g, .. } if g == *gsi);
        assert!(book.lines().iter().any(has) || route.gate == Gate::Masked);
    }
}

proptest! {
    #[test]
    fn any_order(steps in proptest::collection::vec(step(), 0..120)) {
        let mut book = book();
        book.add_function(WITH_MSI).expect("room");
        book.add_function(WITH_MSIX).expect("room");
        for step in steps {
            apply(&mut book, step);
            check(&book);
        }
        book.forget(DOM0);
        book.forget(DOM5);
        prop_assert!(book.lines().is_empty() && book.maps().is_empty());
    }
}
