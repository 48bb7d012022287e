//! Models of a validation that stops halfway and that another CPU continues.

use std::sync::Arc;

use loom::thread;

use super::machine::{DATA, ME, MORE, Model, UPPER, machine};
use crate::kit::atomic::Ordering::Relaxed;
use crate::kit::atomic::model::explore;
use crate::mm::frame::State;
use crate::pagetype::{PageType, Progress, Refused, Types, Work};

/// Takes references to the L2 as a table, repeating the call as often as asked.
fn get(types: &Types<Model>, work: &mut Work) -> Result<(), Refused> {
    loop {
        match types.get_page_and_type(UPPER, ME, PageType::L2, work) {
            Err(Refused::Again) => {}
            other => return other,
        }
    }
}

fn put(types: &Types<Model>, work: &mut Work) {
    let _ = types.put_page_and_type(UPPER, work);
    while types.finish(work) == Progress::Again {}
}

/// Two CPUs take and drop references to the same L2. The first `stops` calls of `preempt` return true. In the
/// end, no references are held.
fn take_and_give_back(stops: u32, preemptions: usize) {
    explore(preemptions, move || {
        let types = machine();
        types.0.stops.store(stops, Relaxed);
        let cpu = |types: Arc<Types<Model>>| {
            move || {
                let mut work = Work::new();
                assert_eq!(get(&types, &mut work), Ok(()));
                let both = [DATA, MORE].map(|lower| types.state(lower).type_refs());
                assert_eq!(both, [1, 1], "the tables that a validated one names");
                put(&types, &mut work);
            }
        };
        let other = thread::spawn(cpu(types.clone()));
        cpu(types.clone())();
        other.join().unwrap();
        for mfn in [UPPER, DATA, MORE] {
            let state = types.state(mfn);
            assert_eq!(
                (state.refs(), state.type_refs()),
                (1, 0),
                "{mfn:?} {state:?}"
            );
            assert!(!state.has(State::PARTIAL));
        }
    });
}

#[test]
fn a_validated_table_is_shared() {
    take_and_give_back(0, 2);
}

#[test]
fn a_table_that_stopped_once_is_taken_over() {
    take_and_give_back(1, 2);
}
