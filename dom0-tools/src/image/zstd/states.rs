//! The codes of sequences' numbers: what each state of their FSE tables means (RFC 8878 §3.1.1.3.2.1).

use super::fse::{MAX_STATES, MAX_SYMBOLS, Shares};
use super::{CUT_OFF, Fault, take};

const NO_SYMBOL: Fault = "a table of its code has symbols that there are not";

/// A state: the number that its symbol begins with, how many bits are added to that, and what state is next.
#[derive(Clone, Copy)]
pub(super) struct State {
    pub(super) base: u32,
    /// The next state, but for `next_bits` bits to be added, which `next_mask` cuts out.
    pub(super) next: u32,
    pub(super) next_mask: u32,
    pub(super) bits: u8,
    pub(super) next_bits: u8,
    /// All bits.
    pub(super) sum: u8,
}

/// One of the three numbers of a sequence.
pub(super) struct Kind {
    /// What each symbol stands for: its least number and the bits to add.
    symbols: &'static [(u32, u8)],
    max_log: u32,
    usual: Shares,
}

pub(super) const LITERALS: Kind = Kind {
    symbols: &LITERAL_LENGTHS,
    max_log: 9,
    usual: shares(
        6,
        &[
            4, 3, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 3, 2, 1, 1,
            1, 1, 1, -1, -1, -1, -1,
        ],
    ),
};
pub(super) const MATCHES: Kind = Kind {
    symbols: &MATCH_LENGTHS,
    max_log: 9,
    usual: shares(
        6,
        &[
            1, 4, 3, 2, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
            1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1, -1, -1,
        ],
    ),
};
pub(super) const OFFSETS: Kind = Kind {
    symbols: &OFFSET_VALUES,
    max_log: 8,
    usual: shares(
        5,
        &[
            1, 1, 1, 1, 1, 1, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1,
            -1,
        ],
    ),
};

const fn shares(log: u32, list: &[i16]) -> Shares {
    let mut of = [0; MAX_SYMBOLS];
    let (start, _) = of.split_at_mut(list.len());
    start.copy_from_slice(list);
    Shares { of, log }
}

/// Symbols with so many bits each, for all numbers from `first` on.
const fn symbols<const N: usize>(first: u32, bits: [u8; N]) -> [(u32, u8); N] {
    let mut symbols = [(0, 0); N];
    let (mut base, mut n) = (first, 0);
    while n < N {
        symbols[n] = (base, bits[n]);
        base += 1 << bits[n];
        n += 1;
    }
    symbols
}

const LITERAL_LENGTHS: [(u32, u8); 36] = symbols(
    0,
    [
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 3, 3, 4, 6, 7, 8, 9, 10,
        11, 12, 13, 14, 15, 16,
    ],
);
const MATCH_LENGTHS: [(u32, u8); 53] = symbols(
    3,
    [
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        0, 0, 1, 1, 1, 1, 2, 2, 3, 3, 4, 4, 5, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16,
    ],
);
/// Larger ones would be offsets of 2 GiB and more.
const OFFSET_VALUES: [(u32, u8); 31] = symbols(
    1,
    [
        0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24,
        25, 26, 27, 28, 29, 30,
    ],
);

/// The states of one kind.
pub(super) struct Table {
    states: [State; MAX_STATES],
    /// Bits of the first state's number.
    pub(super) log: u32,
    /// Can the next block use it again?
    told: bool,
}

impl Table {
    pub(super) const fn new() -> Table {
        const NONE: State = State {
            base: 0,
            next: 0,
            next_mask: 0,
            bits: 0,
            next_bits: 0,
            sum: 0,
        };
        Table {
            states: [NONE; MAX_STATES],
            log: 0,
            told: false,
        }
    }

    pub(super) fn forget(&mut self) {
        self.told = false;
    }

    /// Takes the table that a mode asks for.
    pub(super) fn set(&mut self, kind: &Kind, mode: u64, data: &mut &[u8]) -> Result<(), Fault> {
        match mode & 3 {
            0 => self.spread(kind, &kind.usual)?,
            1 => {
                let symbol = *take(data, 1)?.first().ok_or(CUT_OFF)?;
                let numbers = *kind.symbols.get(usize::from(symbol)).ok_or(NO_SYMBOL)?;
                self.log = 0;
                self.states[0] = State::new(numbers, 0, 0);
            }
            2 => {
                let (shares, bytes) = Shares::read(data, kind.symbols.len(), kind.max_log)?;
                take(data, bytes)?;
                self.spread(kind, &shares)?;
            }
            _ if self.told => {}
            _ => return Err("its first sequences use a table of those before"),
        }
        self.told = true;
        Ok(())
    }

    fn spread(&mut self, kind: &Kind, shares: &Shares) -> Result<(), Fault> {
        let mut symbols = [(0, 0); 64];
        for (place, numbers) in symbols.iter_mut().zip(kind.symbols) {
            *place = *numbers;
        }
        self.log = shares.log;
        let mut places = self.states.iter_mut();
        shares.spread(|symbol, next, bits| {
            if let Some(place) = places.next() {
                *place = State::new(symbols[usize::from(symbol) % 64], next, bits);
            }
        })
    }

    #[inline(always)]
    pub(super) fn at(&self, state: u32) -> &State {
        &self.states[state as usize % MAX_STATES]
    }
}

impl State {
    #[inline(always)]
    fn new((base, bits): (u32, u8), next: u32, next_bits: u8) -> State {
        State {
            base,
            next,
            next_mask: (1 << next_bits) - 1,
            bits,
            next_bits,
            sum: bits + next_bits,
        }
    }

    /// The number whose added bits are a word's lowest.
    #[inline(always)]
    pub(super) fn number(&self, word: u64) -> u32 {
        self.base + (word as u32 & ((1 << self.bits) - 1))
    }

    /// The next state, when the bits for it are a word's lowest.
    #[inline(always)]
    pub(super) fn next(&self, word: u64) -> u32 {
        self.next + (word as u32 & self.next_mask)
    }
}
