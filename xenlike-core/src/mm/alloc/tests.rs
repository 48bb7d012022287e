//! The allocator over the fake machine's memory. Other tests of this process allocate meanwhile, so
//! these look only at blocks of their own.

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
    let head = (0..MAX_ORDER).any(|order| {
        let block = Mfn(first.0 >> order << order);
        order >= 4 && BUDDIES.lock().is_free_block(block, order)
    });
    // Unless another test has taken a part of it meanwhile, it is one block again.
    let taken = (0..16).any(|n| frames().raw(first.add(n)).unwrap().load().kind() == Kind::Used);
    assert!(head || taken);
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
    BUDDIES.lock().scrub_at = mfn.0;
    scrub_some();
    let frame = frames().get(mfn).unwrap();
    // Another test may have taken the frame: then it was scrubbed too.
    assert!(!frame.load().has(State::DIRTY) || frame.load().kind() == Kind::Used);
}

#[test]
fn an_isolated_frame_comes_back_to_a_whole_block() {
    // A private set of lists over a block that is this test's own; its neighbour is in use.
    let first = alloc_order(7, Where::ANY).unwrap();
    let mut buddies = Buddies::new();
    for n in 0..64 {
        reset(frames().get(first.add(n)).unwrap(), 0);
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
