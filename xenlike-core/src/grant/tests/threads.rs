//! Races on the host's CPUs: a granter grants and revokes while another domain maps.

use crate::kit::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;

use super::fake::*;
use crate::grant::*;
use crate::kit::{DomId, SharedWords};
use guest_pv_abi::grant_table as abi;

#[test]
fn granting_and_revoking_in_a_race() {
    let (g, u) = (Dom::new(1), Dom::new(2));
    let done = AtomicBool::new(false);
    thread::scope(|s| {
        for worker in 0..2u64 {
            let (g, u, done) = (&g, &u, &done);
            s.spawn(move || {
                let mut m = FakeMachine::default();
                m.owners.insert(100, DomId(1));
                for n in 0..3_000u64 {
                    let access = if n % 2 == 0 {
                        Access::Read
                    } else {
                        Access::Write
                    };
                    let va = 0x1000 * (worker + 1);
                    if let Ok(mapped) = u.table.map(&g.table, &at(0, va, access), &mut m) {
                        // The entry shows the use as long as the grant is mapped.
                        assert_ne!(g.flags(0) & abi::GTF_READING, 0);
                        unmap(u, &mut m, &off(mapped.handle, va)).unwrap();
                    }
                }
                assert!(m.refs.values().all(|refs| *refs == Refs::default()));
                done.store(true, SeqCst);
            });
        }
        // Revokes an unused grant by compare-exchange, as the public header asks a granter to do.
        let word = g.page.u16(0).unwrap();
        while !done.load(SeqCst) {
            if word.load(SeqCst) == 0 {
                g.grant(0, 2, 100);
            }
            let _ = word.compare_exchange(abi::GTF_PERMIT_ACCESS, 0, SeqCst, SeqCst);
        }
    });
    assert!(g.table.uses(0).unwrap().is_unused());
    assert_eq!(g.flags(0) & (abi::GTF_READING | abi::GTF_WRITING), 0);
}
