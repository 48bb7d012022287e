//! Rings: with well-behaved guests that split their messages anywhere, and with guests that write anything.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::format;
use alloc::vec;
use core::ops::{Deref, DerefMut};

use proptest::prelude::*;

use super::super::fake::{CONNECTION, ERROR, End, REQ_CONS, REQ_PROD, RSP_CONS, RSP_PROD, request};
use super::*;

/// A guest and the store's end of its ring.
struct Guest {
    end: End,
    link: Link,
}

impl Deref for Guest {
    type Target = End;

    fn deref(&self) -> &End {
        &self.end
    }
}

impl DerefMut for Guest {
    fn deref_mut(&mut self) -> &mut End {
        &mut self.end
    }
}

impl Guest {
    fn new(dom: u16) -> Guest {
        let end = End::new();
        let link = Link::new(Box::new(end.shared.clone()), DomId(dom));
        Guest { end, link }
    }

    /// Sends a request and waits for the answer; `None` if none arrives.
    fn ask(&mut self, store: &mut Store, request: &[u8]) -> Option<(SockMsg, Vec<u8>)> {
        assert_eq!(self.put(request), request.len());
        self.link.serve(store);
        self.take(1024);
        self.messages().pop()
    }
}

#[test]
fn a_ring_out_of_order_is_left_until_it_begins_again() {
    let mut store = store_with(&[1]);
    let read = request(xs::XS_READ, 5, b"data\0");
    for (word, value, error) in [
        (REQ_PROD, 1025, xs::XENSTORE_ERROR_RINGIDX),
        (RSP_CONS, 1, xs::XENSTORE_ERROR_RINGIDX),
    ] {
        let mut guest = Guest::new(1);
        guest.shared.store(word, value);
        if word == RSP_CONS {
            guest.put(&read);
        }
        assert_eq!(guest.link.serve(&mut store), Turn::Idle);
        assert_eq!(guest.shared.load(ERROR), error);
        let told = guest.shared.told.get();
        guest.shared.store(word, 0);
        assert_eq!(guest.link.serve(&mut store), Turn::Idle);
        assert_eq!(guest.shared.told.get(), told);
        guest.shared.store(CONNECTION, xs::XENSTORE_RECONNECT);
        guest.link.serve(&mut store);
        let words = [CONNECTION, ERROR, REQ_CONS, REQ_PROD, RSP_CONS, RSP_PROD];
        assert_eq!(words.map(|word| guest.shared.load(word)), [0; 6]);
        assert!(guest.ask(&mut store, &read).is_some());
    }
}

#[test]
fn a_message_too_long_breaks_the_connection_and_drops_what_it_had() {
    let mut store = store_with(&[1]);
    let mut guest = Guest::new(1);
    guest.ask(&mut store, &request(xs::XS_WATCH, 1, b"data\0t\0"));
    assert!(store.is_watched_by(DomId(1), "/local/domain/1/data/x"));
    let mut bad = request(xs::XS_READ, 2, b"data\0");
    bad[12..16].copy_from_slice(&4097_u32.to_le_bytes());
    assert_eq!(guest.ask(&mut store, &bad), None);
    assert_eq!(guest.shared.load(ERROR), xs::XENSTORE_ERROR_PROTO);
    assert!(!store.is_watched_by(DomId(1), "/local/domain/1/data/x"));
    check(&store);
}

#[test]
fn a_turn_has_an_end() {
    let mut store = store_with(&[1]);
    let mut guest = Guest::new(1);
    let flood: Vec<u8> = (0..64).flat_map(|id| request(99, id, b"")).collect();
    assert_eq!(guest.put(&flood), 1024);
    assert_eq!(guest.link.serve(&mut store), Turn::More);
    guest.take(1024);
    assert_eq!(guest.messages().len(), limits::REQUESTS_PER_TURN);
    while guest.link.serve(&mut store) == Turn::More {
        guest.take(1024);
    }
    // A guest that doesn't take its answers gets no more of them.
    let mut guest = Guest::new(1);
    for _ in 0..100 {
        guest.put(&flood);
        guest.link.serve(&mut store);
    }
    assert_eq!(guest.shared.load(RSP_PROD), 1024);
    assert!(guest.shared.load(REQ_CONS) < 2048);
}

#[derive(Debug, Clone)]
enum Poke {
    Word(usize, u32),
    Index(usize, i32),
    Bytes(usize, Vec<u8>),
    Request(u32, u32, Vec<u8>),
    Take(usize),
}

fn pokes() -> impl Strategy<Value = Poke> {
    let word = prop::sample::select(vec![
        REQ_CONS, REQ_PROD, RSP_CONS, RSP_PROD, 2064, CONNECTION, ERROR,
    ]);
    let payload = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..40),
        prop::sample::select(vec![
            "data\0",
            "data/x\0v",
            "data\0t\0",
            "T\0",
            "1\0",
            "data\0n1\0r2\0",
            "\0"
        ])
        .prop_map(|text| text.as_bytes().to_vec()),
    ];
    prop_oneof![
        (word.clone(), any::<u32>()).prop_map(|(word, value)| Poke::Word(word, value)),
        (word, -1030..1030).prop_map(|(word, step)| Poke::Index(word, step)),
        (0..2076_usize, prop::collection::vec(any::<u8>(), 1..64))
            .prop_map(|(at, bytes)| Poke::Bytes(at, bytes)),
        (0..25_u32, 0..3_u32, payload)
            .prop_map(|(kind, tx, payload)| Poke::Request(kind, tx, payload)),
        (0..1100_usize).prop_map(Poke::Take),
    ]
}

impl Guest {
    fn poke(&mut self, poke: &Poke) {
        match poke {
            Poke::Word(word, value) => self.shared.store(*word, *value),
            Poke::Index(word, step) => {
                let value = self.shared.load(*word).wrapping_add_signed(*step);
                self.shared.store(*word, value);
            }
            Poke::Bytes(at, bytes) => self.shared.write(*at, bytes),
            Poke::Request(kind, tx, payload) => {
                let mut message = request(*kind, 1, payload);
                message[8..12].copy_from_slice(&tx.to_le_bytes());
                // The guest's own copy of the indices may be nonsense.
                if self
                    .shared
                    .load(REQ_PROD)
                    .wrapping_sub(self.shared.load(REQ_CONS))
                    <= 1024
                {
                    self.put(&message);
                }
            }
            Poke::Take(count) => self.take(*count),
        }
    }
}

proptest! {
    /// Whatever one guest writes into its page: the store stays consistent, its neighbour is answered, and in the
    /// page only the store's own fields have changed.
    #[test]
    fn a_hostile_guest_harms_itself_alone(pokes in prop::collection::vec(pokes(), 1..120)) {
        let mut store = store_with(&[1, 2]);
        let (mut hostile, mut friend) = (Guest::new(1), Guest::new(2));
        for poke in &pokes {
            hostile.poke(poke);
            let before = hostile.shared.page.borrow().clone();
            hostile.link.serve(&mut store);
            let after = hostile.shared.page.borrow().clone();
            prop_assert_eq!(&before[..1024], &after[..1024]);
            prop_assert_eq!(&before[2076..], &after[2076..]);
            let answer = friend.ask(&mut store, &request(xs::XS_READ, 9, b"data\0"));
            prop_assert!(answer.is_some_and(|(header, _)| header.type_ == xs::XS_READ && header.req_id == 9));
            check(&store);
        }
        hostile.shared.store(CONNECTION, xs::XENSTORE_RECONNECT);
        hostile.link.serve(&mut store);
        hostile.got.clear();
        let answer = hostile.ask(&mut store, &request(xs::XS_GET_DOMAIN_PATH, 3, b"1\0"));
        prop_assert_eq!(answer.map(|(_, payload)| payload), Some(b"/local/domain/1\0".to_vec()));
    }

    /// Messages that are split anywhere, in both directions, arrive complete and in order, wherever in
    /// the ring they start.
    #[test]
    fn messages_of_any_size_pass(
        start in any::<u32>(),
        sizes in prop::collection::vec(0..1800_usize, 1..12),
        steps in prop::collection::vec(1..700_usize, 4..40),
    ) {
        let mut store = store_with(&[1]);
        let mut guest = Guest::new(1);
        for word in [REQ_CONS, REQ_PROD, RSP_CONS, RSP_PROD] {
            guest.shared.store(word, start);
        }
        let mut stream = VecDeque::new();
        for (number, size) in sizes.iter().enumerate() {
            let value: Vec<u8> = (0..*size).map(|at| (at * 7 + number) as u8).collect();
            let write = [format!("data/{number}\0").as_bytes(), &value].concat();
            stream.extend(request(xs::XS_WRITE, number as u32, &write));
            stream.extend(request(xs::XS_READ, number as u32, format!("data/{number}\0").as_bytes()));
        }
        let mut answers = Vec::new();
        for step in steps.iter().cycle().take(20_000) {
            let chunk: Vec<u8> = stream.iter().copied().take(*step).collect();
            let put = guest.put(&chunk);
            stream.drain(..put);
            guest.link.serve(&mut store);
            guest.take(*step);
            answers.extend(guest.messages());
            if answers.len() == 2 * sizes.len() {
                break;
            }
        }
        prop_assert_eq!(answers.len(), 2 * sizes.len());
        for (number, pair) in answers.chunks(2).enumerate() {
            prop_assert_eq!((pair[0].0.req_id, pair[1].0.req_id), (number as u32, number as u32));
            prop_assert_eq!(&pair[0].1[..], &b"OK\0"[..]);
            let value: Vec<u8> = (0..sizes[number]).map(|at| (at * 7 + number) as u8).collect();
            prop_assert_eq!(&pair[1].1, &value);
        }
    }
}
