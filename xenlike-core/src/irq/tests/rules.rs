//! Tests of the lines of I/O APICs.

use super::fake::{LINES, Route};
use super::{DOM0, DOM5, book, holder};
use crate::arch::ioapic::{Gate, Trigger};
use crate::irq::hold::{End, Sharing};
use crate::irq::line::Holder;
use crate::irq::{IrqError, PIRQS};
use crate::kit::CpuId;

#[test]
fn a_level_line_is_masked_from_its_arrival_to_its_end() {
    let mut book = book();
    assert_eq!(book.map_line(DOM0, 16, Some(16)), Ok(16));
    let vector = book.machine.routes[&16].vector;
    assert_eq!(book.machine.routes[&16].gate, Gate::Masked);
    assert_eq!(book.hold(holder(DOM0, 16), CpuId(1)), Ok(End::Wanted));
    let routed = Route {
        vector,
        cpu: CpuId(1),
        trigger: Trigger::LevelLow,
        gate: Gate::Open,
    };
    assert_eq!(book.machine.routes[&16], routed);
    let told = book.arrived(vector).expect("it is known");
    assert_eq!((told.len(), told[0].port.0), (1, 116));
    assert_eq!(book.machine.routes[&16].gate, Gate::Masked);
    assert_eq!(book.end(DOM0, 16), Ok(()));
    assert_eq!(book.machine.routes[&16].gate, Gate::Open);
    // An end that is not owed changes nothing.
    assert_eq!(book.end(DOM0, 16), Ok(()));
    assert_eq!(book.end(DOM0, 17), Err(IrqError::BadNumber));
}

#[test]
fn an_edge_line_needs_no_end() {
    let mut book = book();
    book.map_line(DOM0, 1, Some(1)).expect("a line");
    assert_eq!(book.hold(holder(DOM0, 1), CpuId(0)), Ok(End::Free));
    let vector = book.machine.routes[&1].vector;
    for _ in 0..3 {
        assert_eq!(book.arrived(vector).expect("known").len(), 1);
        assert_eq!(book.machine.routes[&1].gate, Gate::Open);
    }
}

#[test]
fn nobody_s_interrupt_is_masked() {
    let mut book = book();
    book.map_line(DOM0, 1, None).expect("a line");
    let vector = book.machine.routes[&1].vector;
    book.hold(holder(DOM0, 1), CpuId(0)).expect("free");
    book.let_go(DOM0, 1).expect("held");
    assert_eq!(book.machine.routes[&1].gate, Gate::Masked);
    // One was in flight.
    assert!(book.arrived(vector).expect("known").is_empty());
    assert_eq!(book.machine.routes[&1].gate, Gate::Masked);
    assert_eq!(book.let_go(DOM0, 1), Err(IrqError::BadNumber));
    book.unmap(DOM0, 1).expect("mapped");
    assert!(book.arrived(vector).is_none());
}

#[test]
fn a_shared_line_waits_for_all() {
    let mut book = book();
    for dom in [DOM0, DOM5] {
        assert_eq!(book.map_line(dom, 20, Some(20)), Ok(20));
        book.hold(holder(dom, 20), CpuId(0)).expect("shared");
    }
    assert_eq!(book.duties(DOM5, 20), Ok((End::Wanted, Sharing::Shared)));
    let vector = book.machine.routes[&20].vector;
    assert_eq!(book.arrived(vector).expect("known").len(), 2);
    book.end(DOM0, 20).expect("mapped");
    assert_eq!(book.machine.routes[&20].gate, Gate::Masked);
    // The other domain dies without ending it.
    book.forget(DOM5);
    assert_eq!(book.machine.routes[&20].gate, Gate::Open);
    assert!(!book.is_mapped(DOM5, 20) && book.is_mapped(DOM0, 20));
}

#[test]
fn who_won_t_share_is_alone() {
    let mut book = book();
    book.map_line(DOM0, 20, None).expect("a line");
    book.map_line(DOM5, 20, None).expect("a line");
    let alone = Holder {
        shares: false,
        ..holder(DOM0, 20)
    };
    book.hold(alone, CpuId(0)).expect("free");
    assert_eq!(book.hold(holder(DOM5, 20), CpuId(0)), Err(IrqError::Busy));
    assert_eq!(book.hold(alone, CpuId(0)), Err(IrqError::Exists));
}

#[test]
fn numbers() {
    let mut book = book();
    assert_eq!(book.map_line(DOM0, LINES, None), Err(IrqError::BadNumber));
    assert_eq!(
        book.map_line(DOM0, 3, Some(PIRQS)),
        Err(IrqError::BadNumber)
    );
    assert_eq!(book.map_line(DOM0, 3, Some(9)), Ok(9));
    assert_eq!(book.map_line(DOM0, 3, None), Ok(9));
    assert_eq!(book.map_line(DOM0, 3, Some(10)), Err(IrqError::Taken));
    assert_eq!(book.map_line(DOM0, 4, Some(9)), Err(IrqError::Taken));
    // The number equal to its GSI is taken, so it gets another one.
    assert_eq!(book.map_line(DOM0, 9, None), Ok(LINES));
    assert_eq!(
        (book.gsi_of(DOM0, 9), book.gsi_of(DOM0, LINES)),
        (Some(3), Some(9))
    );
    let kept = book.reserve(DOM0).expect("room");
    assert!(kept > LINES && !book.is_mapped(DOM0, kept));
    assert_eq!(
        book.hold(holder(DOM0, kept), CpuId(0)),
        Err(IrqError::BadNumber)
    );
    assert_eq!(book.map_line(DOM0, 5, Some(kept)), Ok(kept));
    assert_eq!(book.unmap(DOM0, 77), Err(IrqError::BadNumber));
}

#[test]
fn wiring_is_told_before_use() {
    let mut book = book();
    assert_eq!(book.wire(LINES, Trigger::EdgeLow), Err(IrqError::BadNumber));
    assert_eq!(book.wire(9, Trigger::LevelHigh), Ok(()));
    assert_eq!(book.wire(9, Trigger::LevelHigh), Err(IrqError::Exists));
    book.map_line(DOM0, 9, None).expect("a line");
    assert_eq!(book.machine.routes[&9].trigger, Trigger::LevelHigh);
    assert_eq!(book.wire(9, Trigger::LevelLow), Ok(()));
    assert_eq!(book.machine.routes[&9].trigger, Trigger::LevelLow);
    book.hold(holder(DOM0, 9), CpuId(0)).expect("free");
    assert_eq!(book.wire(9, Trigger::EdgeHigh), Err(IrqError::Busy));
}

#[test]
fn an_interrupt_follows_its_vcpu() {
    let mut book = book();
    book.map_line(DOM0, 16, None).expect("a line");
    book.hold(holder(DOM0, 16), CpuId(0)).expect("free");
    let vector = book.machine.routes[&16].vector;
    let _ = book.arrived(vector);
    book.move_to(DOM0, 16, CpuId(3));
    let route = book.machine.routes[&16];
    assert_eq!((route.cpu, route.gate), (CpuId(3), Gate::Masked));
}
