//! Tests of the allocator on the simulated machine's memory. Other tests in this process allocate at the same
//! time, so these check only blocks of their own.

use std::vec::Vec;

use super::*;
use crate::mm::SharedPage;

#[test]
fn blocks_are_aligned_zeroed_and_not_shared() {
    let mut blocks: Vec<(Mfn, u32)> = Vec::new();
    for order in [0, 3, 1, 0, 5, 2, 9, 0] {
        let first = alloc_order(order, Where::ANY).unwrap();
        assert_eq!(first.0 % (1 << order), 0, "order {order} at {first:?}");
        for (other, other_order) in &blocks {
            let apart =
                first.0 + (1 << order) <= other.0 || other.0 + (1 << other_order) <= first.0;
            assert!(apart, "{first:?} inside {other:?}");
        }
        for n in 0..1 << order {
            let page = SharedPage::new(first.add(n)).unwrap();
            assert_eq!(page.u64(8).unwrap().load(Ordering::Relaxed), 0);
            page.u64(8).unwrap().store(0xdead, Ordering::Relaxed);
        }
        blocks.push((first, order));
    }
    for (first, order) in blocks {
        free(first, order);
    }
}

/// Returns what user `next` finds in a frame that contained data of user `past` when it was freed.
fn left_for(next: Past, past: Past) -> u64 {
    // Another test may get the frame first.
    for _ in 0..10_000 {
        let mfn = alloc_frame(Where::ANY).unwrap();
        let word = |mfn: Mfn| SharedPage::new(mfn).unwrap().words()[7].load(Ordering::Relaxed);
        SharedPage::new(mfn).unwrap().words()[7].store(0xdead, Ordering::Relaxed);
        free_run(mfn, 1, past);
        let again = alloc_order_for(0, Where::ANY, next).unwrap();
        let found = word(again);
        assert_eq!(
            frames()
                .get(again)
                .unwrap()
                .progress
                .load(Ordering::Relaxed),
            0
        );
        free(again, 0);
        if again == mfn {
            return found;
        }
    }
    panic!("the frame never came back")
}

#[test]
fn a_frame_keeps_its_contents_only_for_who_had_it() {
    let (one, other) = (Past::unique(), Past::unique());
    assert_eq!(left_for(one, one), 0xdead);
    assert_eq!(left_for(other, one), 0);
    assert_eq!(left_for(Past::NOBODY, one), 0);
    assert_eq!(left_for(one, Past::NOBODY), 0);
    assert_eq!(left_for(Past::NOBODY, Past::NOBODY), 0);
}

#[test]
fn a_whole_block_comes_back() {
    let first = alloc_order(4, Where::ANY).unwrap();
    for n in 0..16 {
        free(first.add(n), 0);
    }
    for n in 0..16 {
        assert_eq!(
            frames().get(first.add(n)).unwrap().load().kind(),
            Kind::Free
        );
    }
    BUDDIES.lock().join_loose();
    let head = (0..MAX_ORDER).any(|order| {
        let block = Mfn(first.0 >> order << order);
        order >= 4 && BUDDIES.lock().is_free_block(block, order)
    });
    // It is one block again, unless another test has taken a part of it meanwhile.
    let taken = (0..16).any(|n| frames().raw(first.add(n)).unwrap().load().kind() == Kind::Used);
    assert!(head || taken);
}

#[test]
fn a_frame_freed_last_is_given_out_first_and_joins_its_block_when_that_is_needed() {
    // Separate lists for a block that belongs to this test. The block's buddy is in use.
    let first = alloc_order(5, Where::ANY).unwrap();
    let mut buddies = Buddies::new();
    for n in 0..16 {
        let mfn = first.add(n);
        reset(frames().get(mfn).unwrap(), 0, Past::NOBODY);
        assert!(buddies.keep_loose(mfn));
    }
    assert_eq!(buddies.zones, 0);
    assert_eq!(buddies.take_any(0, Where::ANY), Some(first.add(15)));
    assert_eq!(buddies.take_any(0, Where::bits(13)), None);
    assert_eq!(buddies.take_any(3, Where::ANY), Some(first));
    assert_eq!(buddies.take_any(3, Where::ANY), None);
    // The rest of the other half: orders 4, 2, 1.
    assert_eq!(buddies.filled[zone_of(first)], 0b111);
    for _ in 0..7 {
        assert!(buddies.take_any(0, Where::ANY).is_some());
    }
    assert_eq!(buddies.take_any(0, Where::ANY), None);
    free(first, 5);
}

#[test]
fn a_frame_of_a_lower_zone_is_not_kept_loose() {
    let first = alloc_order(1, Where::ANY).unwrap();
    let mut buddies = Buddies::new();
    buddies.zones = 1 << (zone_of(first) + 1);
    assert!(!buddies.keep_loose(first));
    buddies.zones = 1 << zone_of(first);
    assert!(buddies.keep_loose(first));
    free(first, 1);
}

#[test]
fn low_memory_is_low() {
    let mfn = alloc_frame(Where::bits(24)).unwrap();
    assert!(mfn.0 < 1 << 12);
    free(mfn, 0);
    assert!(alloc_frame(Where::bits(12)).is_none());
    assert!(alloc_order(MAX_ORDER + 1, Where::ANY).is_none());
    assert!(alloc_order(MAX_ORDER, Where::ANY).is_none());
}

#[test]
fn zones() {
    assert_eq!(zone_of(Mfn(1)), 1);
    assert_eq!(zone_of(Mfn(0xf_ffff)), 20);
    assert_eq!(zone_of(Mfn(0x10_0000)), 21);
    assert_eq!(Where::LOW.top_zone(), 20);
    assert_eq!(Where::bits(0).top_zone(), ZONES - 1);
}

#[test]
fn idle_scrubbing_scrubs() {
    let mfn = alloc_frame(Where::ANY).unwrap();
    SharedPage::new(mfn)
        .unwrap()
        .u64(0)
        .unwrap()
        .store(7, Ordering::Relaxed);
    free(mfn, 0);
    BUDDIES.lock().join_loose();
    BUDDIES.lock().scrub_at = mfn.0;
    scrub_some();
    let frame = frames().get(mfn).unwrap();
    // Another test may have taken the frame; then the frame was scrubbed too.
    assert!(!frame.load().has(State::DIRTY) || frame.load().kind() == Kind::Used);
}

#[test]
fn an_isolated_frame_comes_back_to_a_whole_block() {
    // Separate lists for a block that belongs to this test. The block's buddy is in use.
    let first = alloc_order(7, Where::ANY).unwrap();
    let mut buddies = Buddies::new();
    for n in 0..64 {
        reset(frames().get(first.add(n)).unwrap(), 0, Past::NOBODY);
    }
    buddies.link(first, 6);
    for n in [0, 1, 17, 63] {
        assert!(buddies.isolate(first.add(n)));
        assert_eq!(buddies.filled[zone_of(first)], 0b11_1111, "{n}");
        assert!(!buddies.isolate(first.add(n)), "it is on no list");
        buddies.give(first.add(n), 0);
        assert!(buddies.is_free_block(first, 6), "{n}");
        assert_eq!(buddies.filled[zone_of(first)], 0b100_0000, "{n}");
    }
    buddies.unlink(first, 6);
    free(first, 7);
}

/// The order of the block that the property test uses. Its buddy is in use.
const FIELD: u32 = 8;

/// Returns every block on the lists, by walking them. Their links and bits must be consistent.
fn listed(buddies: &Buddies) -> Vec<(Mfn, u32)> {
    let mut found = Vec::new();
    for zone in 0..ZONES {
        for order in 0..ORDERS {
            let (mut at, mut before) = (buddies.heads[zone][order], 0);
            assert_eq!(at != 0, buddies.filled[zone] >> order & 1 != 0);
            while let Some(frame) = linked(at) {
                assert_eq!(frame.prev.load(Ordering::Relaxed), before);
                assert!(buddies.is_free_block(Mfn(u64::from(at)), order as u32));
                assert_eq!(zone_of(Mfn(u64::from(at))), zone);
                found.push((Mfn(u64::from(at)), order as u32));
                (before, at) = (at, frame.next.load(Ordering::Relaxed));
            }
        }
        assert_eq!(buddies.filled[zone] != 0, buddies.zones >> zone & 1 != 0);
    }
    found
}

/// Checks that the blocks on the lists and the blocks in `held` cover the field without overlapping, and that
/// two free halves of a block are never separate.
fn audit(buddies: &Buddies, held: &[(Mfn, u32)], field: Mfn) {
    let free = listed(buddies);
    let mut owners = [0; 1 << FIELD];
    for (first, order) in free.iter().chain(held) {
        assert_eq!(first.0 % (1 << order), 0, "order {order} at {first:?}");
        for n in 0..1u64 << order {
            owners[(first.0 + n - field.0) as usize] += 1;
        }
    }
    assert!(owners.iter().all(|owners| *owners == 1), "{owners:?}");
    for (first, order) in free.iter().filter(|(_, order)| *order < FIELD) {
        let buddy = (Mfn(first.0 ^ 1 << order), *order);
        assert!(!free.contains(&buddy), "{first:?} and {buddy:?} are apart");
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(48))]
    #[test]
    fn blocks_part_and_join(steps in proptest::collection::vec((0u8..4, 0u32..7, 0usize..256), 1..120)) {
        let field = alloc_order(FIELD + 1, Where::ANY).unwrap();
        let mut buddies = Buddies::new();
        let release = |mfn: Mfn, order: u32| {
            (0..1u64 << order).for_each(|n| reset(frames().get(mfn.add(n)).unwrap(), 0, Past::NOBODY));
        };
        release(field, FIELD);
        buddies.link(field, FIELD);
        let mut held: Vec<(Mfn, u32)> = Vec::new();
        for (step, order, pick) in steps {
            match step {
                0 | 1 => held.extend(buddies.take(order, Where::ANY).map(|first| (first, order))),
                2 if !held.is_empty() => {
                    let (first, order) = held.swap_remove(pick % held.len());
                    release(first, order);
                    buddies.give(first, order);
                }
                _ => {
                    let mfn = field.add(pick as u64);
                    if buddies.isolate(mfn) {
                        held.push((mfn, 0));
                    }
                }
            }
            audit(&buddies, &held, field);
        }
        for (first, order) in held.drain(..) {
            release(first, order);
            buddies.give(first, order);
        }
        proptest::prop_assert_eq!(listed(&buddies), [(field, FIELD)]);
        buddies.unlink(field, FIELD);
        free(field, FIELD + 1);
    }
}

#[test]
fn the_end_of_ram_is_known_without_the_lock() {
    host_init();
    let _held = BUDDIES.lock();
    assert!(end_of_ram() > Mfn(FIRST));
}
