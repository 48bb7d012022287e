//! Models of writable mappings that come and go while a frame becomes a page table.

use std::sync::Arc;

use guest_pv_abi::Width;
use loom::thread;

use super::machine::{DATA, ME, RW, TABLE, machine};
use crate::kit::atomic::model::explore;
use crate::mm::frame::State;
use crate::pagetype::{Keep, PageType, Pte, Types, Update, Work};

fn entry(index: usize, new: Pte) -> Update {
    Update {
        table: TABLE,
        index,
        new,
        keep: Keep::Nothing,
        page_owner: ME,
    }
}

/// A frame is mapped writable once. CPU 0 unmaps it. CPU 1 maps it at another place and unmaps it again. CPU 2
/// flushes, and writes through whichever entry it finds. Then the frame becomes a page table, and no CPU may
/// have a translation left by which it can write to it.
///
/// The last reference must not be dropped in one step with a stamp that was taken before, because CPU 1 can
/// bring the frame's word back to the value that CPU 0 has seen.
#[test]
fn a_page_table_has_no_stale_writable_translation() {
    explore(3, || {
        let types = machine();
        let mut work = Work::new();
        let map = |types: &Types<_>, index, new| {
            types.update_l1_entry(Width::Wide, ME, &entry(index, new), &mut Work::new())
        };
        map(&types, 0, Pte::new(DATA, RW)).unwrap();
        let spawn = |body: fn(&Types<_>)| {
            let types: Arc<_> = types.clone();
            thread::spawn(move || body(&types))
        };
        let cpus = [
            spawn(|types| map_and_unmap(types)),
            spawn(|types| {
                types.flush(2);
                types.write_through(2, 1);
            }),
        ];
        map(&types, 0, Pte(0)).unwrap();
        for cpu in cpus {
            cpu.join().unwrap();
        }
        let state = types.state(DATA);
        assert_eq!((state.refs(), state.type_refs()), (1, 0), "{state:?}");
        types
            .get_page_and_type(DATA, ME, PageType::L1, &mut work)
            .unwrap();
        assert!(!types.can_be_written(DATA));
    });

    fn map_and_unmap(types: &Types<super::machine::Model>) {
        let mut work = Work::new();
        let mapped =
            types.update_l1_entry(Width::Wide, ME, &entry(1, Pte::new(DATA, RW)), &mut work);
        assert_eq!(mapped, Ok(()));
        types
            .update_l1_entry(Width::Wide, ME, &entry(1, Pte(0)), &mut work)
            .unwrap();
    }
}

/// One CPU maps a frame writable while another makes it a page table. One of them must fail.
#[test]
fn a_frame_is_writable_or_a_page_table() {
    explore(3, || {
        let types = machine();
        let other = types.clone();
        let pinning = thread::spawn(move || {
            let mut work = Work::new();
            other
                .get_page_and_type(DATA, ME, PageType::L1, &mut work)
                .is_ok()
        });
        let mapped = types.update_l1_entry(
            Width::Wide,
            ME,
            &entry(0, Pte::new(DATA, RW)),
            &mut Work::new(),
        );
        let pinned = pinning.join().unwrap();
        assert!(!(mapped.is_ok() && pinned), "both");
        let state = types.state(DATA);
        assert_eq!(state.has(State::VALIDATED), mapped.is_ok() || pinned);
        assert_eq!(state.type_refs(), u64::from(mapped.is_ok() || pinned));
    });
}
