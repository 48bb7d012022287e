//! Random hypercalls with interesting kinds of arguments. None may panic (arithmetic is checked in this build), and
//! afterwards every frame is freed.

use std::vec::Vec;

use proptest::prelude::*;

use guest_pv_abi::hypercall as nr;

use super::guest::Guest;
use crate::kit::{DomId, Mfn};
use crate::mm::SharedPage;

/// A word of an argument, or of the memory that an argument points to.
#[derive(Clone, Copy, Debug)]
enum Word {
    Small(u64),
    Any(u64),
    /// An address in the guest's argument memory.
    Memory(u64),
    /// One of the guest's own frames, as a number or as an address with low bits set.
    Frame(usize),
    FrameAddress(usize, u64),
    /// A frame of another domain.
    Foreign,
    OwnId,
    OtherId,
}

/// A random hypercall.
#[derive(Clone, Debug)]
struct Call {
    number: u64,
    args: [Word; 4],
    memory: Vec<Word>,
}

const FRAMES: usize = 6;

fn word() -> impl Strategy<Value = Word> {
    let edges = [
        u64::MAX,
        u64::MAX - 7,
        1 << 63,
        1 << 47,
        (1 << 47) - 8,
        0xffff_8000_0000_0000,
        0xffff_8300_0000_0000,
        0xffff_8800_0000_0000,
        0x7fff_ffff,
        0x8000_0000,
        0xffff_ffff,
        1 << 32,
        0x7ff0,
        0x7ff1,
        0x7ff2,
        0x7fe0,
        0x7fff,
    ];
    prop_oneof![
        6 => (0..40u64).prop_map(Word::Small),
        3 => prop::sample::select(edges.to_vec()).prop_map(Word::Any),
        1 => any::<u64>().prop_map(Word::Any),
        5 => (0..64u64).prop_map(|n| Word::Memory(n * 8)),
        3 => (0..FRAMES).prop_map(Word::Frame),
        3 => ((0..FRAMES), 0..64u64).prop_map(|(f, low)| Word::FrameAddress(f, (low * 8) | (low & 7))),
        1 => Just(Word::Foreign),
        2 => Just(Word::OwnId),
        1 => Just(Word::OtherId),
    ]
}

fn call() -> impl Strategy<Value = Call> {
    let args = [word(), word(), word(), word()];
    (0..56u64, args, prop::collection::vec(word(), 12)).prop_map(|(number, args, memory)| Call {
        number,
        args,
        memory,
    })
}

/// Leaves out iret, which ends the caller or tests nothing of the core here.
fn is_worth_calling(call: &Call) -> bool {
    !matches!(call.number, nr::IRET)
}

struct World {
    guest: Guest,
    other: Guest,
    frames: Vec<Mfn>,
    foreign: Mfn,
}

impl World {
    fn new() -> Self {
        let (guest, other) = (Guest::new(), Guest::new());
        let frames = (0..FRAMES).map(|_| guest.frame()).collect();
        let foreign = other.frame();
        Self {
            guest,
            other,
            frames,
            foreign,
        }
    }

    fn value(&self, word: Word) -> u64 {
        match word {
            Word::Small(n) | Word::Any(n) => n,
            Word::Memory(offset) => self.guest.at + offset,
            Word::Frame(n) => self.frames[n].0,
            Word::FrameAddress(n, low) => self.frames[n].maddr().0 | low,
            Word::Foreign => self.foreign.0,
            Word::OwnId => DomId::SELF.0.into(),
            Word::OtherId => self.other.id().into(),
        }
    }

    fn run(&self, call: &Call) {
        for (n, word) in (0u64..).zip(&call.memory) {
            self.guest.write(self.guest.at + n * 8, &self.value(*word));
        }
        // Lists of frames, half of them plausible, for pins and descriptor tables.
        for (n, word) in call.memory.iter().enumerate() {
            let frame = self.frames[n % FRAMES];
            if let Some(page) = SharedPage::new(frame).filter(|_| self.is_plain(frame)) {
                let entry = self.value(*word) | (0x67 * (n as u64 & 1));
                page.u64(n * 8 % 4096)
                    .unwrap()
                    .store(entry, crate::kit::atomic::Ordering::SeqCst);
            }
        }
        let args = call.args.map(|word| self.value(word));
        self.guest.try_call(call.number, args);
    }

    /// Whether the guest could write the frame: it is the guest's own and not a table.
    fn is_plain(&self, mfn: Mfn) -> bool {
        crate::pagetype::machine()
            .get_writable(mfn, self.guest.dom.id())
            .is_some()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(
        std::env::var("HYPERCALL_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(32)
    ))]
    #[test]
    fn random_hypercalls_harm_nobody(calls in prop::collection::vec(call(), 1..60)) {
        let world = World::new();
        for call in calls.iter().filter(|call| is_worth_calling(call)) {
            world.run(call);
        }
    }
}
