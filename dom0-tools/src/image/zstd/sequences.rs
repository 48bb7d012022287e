//! The sequences of a block: so many literals, then a match with what was before (RFC 8878 §3.1.1.3.2).

use alloc::boxed::Box;

use super::bits::Backward;
use super::output::Output;
use super::states::{self, Table};
use super::{Fault, take_number};

/// Sequences read before they are carried out.
const BATCH: usize = 128;

/// So many literals, then so many bytes from `offset` bytes before.
#[derive(Clone, Copy, Default)]
pub(super) struct Sequence {
    pub(super) literals: u32,
    pub(super) matched: u32,
    pub(super) offset: u32,
}

/// Tables and offsets that the next block may use again.
pub(super) struct Sequences {
    tables: Box<Tables>,
    /// The last three offsets.
    recent: [u32; 3],
}

struct Tables {
    literals: Table,
    offsets: Table,
    matches: Table,
}

impl Sequences {
    pub(super) fn new() -> Sequences {
        Sequences {
            tables: Box::new(Tables {
                literals: Table::new(),
                offsets: Table::new(),
                matches: Table::new(),
            }),
            recent: [0; 3],
        }
    }

    /// A new frame: nothing of an earlier one is used.
    pub(super) fn forget(&mut self) {
        self.tables.literals.forget();
        self.tables.offsets.forget();
        self.tables.matches.forget();
        self.recent = [1, 4, 8];
    }

    /// Reads a block's sequences and carries them out.
    pub(super) fn decode(&mut self, mut data: &[u8], output: &mut Output) -> Result<(), Fault> {
        let count = match take_number(&mut data, 1)? {
            few @ 0..128 => few,
            255 => take_number(&mut data, 2)? + 0x7f00,
            high => (high - 128) << 8 | take_number(&mut data, 1)?,
        };
        let Some(all_but_last) = count.checked_sub(1) else {
            return match data {
                [] => Ok(()),
                _ => Err("there is something behind a block's literals"),
            };
        };
        let modes = take_number(&mut data, 1)?;
        if modes & 3 != 0 {
            return Err("a block has a reserved bit set");
        }
        self.tables
            .literals
            .set(&states::LITERALS, modes >> 6, &mut data)?;
        self.tables
            .offsets
            .set(&states::OFFSETS, modes >> 4, &mut data)?;
        self.tables
            .matches
            .set(&states::MATCHES, modes >> 2, &mut data)?;
        let mut stream = Stream::new(&self.tables, self.recent, data)?;
        let mut left = all_but_last as usize;
        let mut batch = [Sequence::default(); BATCH];
        while left > 0 {
            let batch = &mut batch[..left.min(BATCH)];
            left -= batch.len();
            stream.read(batch)?;
            output.carry_out(batch)?;
        }
        output.carry_out(&[stream.last()?])?;
        self.recent = stream.recent;
        Ok(())
    }
}

/// A stream of sequences that is being read.
struct Stream<'a> {
    tables: &'a Tables,
    bits: Backward<'a>,
    /// Of literals, offsets, matches.
    states: [u32; 3],
    recent: [u32; 3],
}

impl<'a> Stream<'a> {
    fn new(tables: &'a Tables, recent: [u32; 3], data: &'a [u8]) -> Result<Self, Fault> {
        let mut bits = Backward::new(data)?;
        let states = [
            bits.number(tables.literals.log)?,
            bits.number(tables.offsets.log)?,
            bits.number(tables.matches.log)?,
        ];
        Ok(Self {
            tables,
            bits,
            states,
            recent,
        })
    }

    /// Fills `batch`; its sequences are followed by others.
    fn read(&mut self, batch: &mut [Sequence]) -> Result<(), Fault> {
        let mut done = 0;
        while let Some(rest @ [_, ..]) = batch.get_mut(done..) {
            done += self.read_narrow(rest)?;
            if let Some(sequence) = batch.get_mut(done) {
                *sequence = self.one()?;
                self.advance()?;
                done += 1;
            }
        }
        Ok(())
    }

    /// Reads sequences, each of whose bits are in one word, until there is another; how many.
    #[inline(never)]
    fn read_narrow(&mut self, batch: &mut [Sequence]) -> Result<usize, Fault> {
        let tables = self.tables;
        let [mut literals, mut offsets, mut matches] = self.states;
        // Copies, which the compiler keeps in registers.
        let (mut bits, mut recent) = (self.bits, self.recent);
        let all = batch.len();
        let mut places = batch.iter_mut();
        let mut left = 0;
        while let Some(sequence) = places.next() {
            let of_literals = tables.literals.at(literals);
            let of_offset = tables.offsets.at(offsets);
            let of_match = tables.matches.at(matches);
            let sum =
                u32::from(of_literals.sum) + u32::from(of_offset.sum) + u32::from(of_match.sum);
            if sum > Backward::MOST {
                left = places.len() + 1;
                break;
            }
            // The last bits are the lowest.
            let mut word = bits.take(sum)?;
            offsets = of_offset.next(word);
            word >>= of_offset.next_bits;
            matches = of_match.next(word);
            word >>= of_match.next_bits;
            literals = of_literals.next(word);
            word >>= of_literals.next_bits;
            sequence.literals = of_literals.base;
            sequence.matched = of_match.base;
            if of_literals.bits | of_match.bits != 0 {
                sequence.literals = of_literals.number(word);
                word >>= of_literals.bits;
                sequence.matched = of_match.number(word);
                word >>= of_match.bits;
            }
            let value = of_offset.base + (word as u32 & (of_offset.base - 1));
            sequence.offset = offset(&mut recent, value, sequence.literals);
        }
        (self.bits, self.recent) = (bits, recent);
        self.states = [literals, offsets, matches];
        Ok(all - left)
    }

    /// The sequence of the present states.
    fn one(&mut self) -> Result<Sequence, Fault> {
        let [literals, offsets, matches] = self.states;
        let of_literals = self.tables.literals.at(literals);
        let of_offset = self.tables.offsets.at(offsets);
        let of_match = self.tables.matches.at(matches);
        let value = of_offset.number(self.bits.take(u32::from(of_offset.bits))?);
        let matched = of_match.number(self.bits.take(u32::from(of_match.bits))?);
        let literals = of_literals.number(self.bits.take(u32::from(of_literals.bits))?);
        Ok(Sequence {
            literals,
            matched,
            offset: offset(&mut self.recent, value, literals),
        })
    }

    /// Goes on to the next states.
    fn advance(&mut self) -> Result<(), Fault> {
        let [literals, offsets, matches] = &mut self.states;
        for (state, table) in [
            (literals, &self.tables.literals),
            (matches, &self.tables.matches),
            (offsets, &self.tables.offsets),
        ] {
            let now = table.at(*state);
            *state = now.next(self.bits.take(u32::from(now.next_bits))?);
        }
        Ok(())
    }

    /// The last sequence, with which the stream ends.
    fn last(&mut self) -> Result<Sequence, Fault> {
        let sequence = self.one()?;
        if self.bits.left() > 0 {
            return Err("a stream of sequences is longer than they are");
        }
        Ok(sequence)
    }
}

/// The offset that a value stands for: itself less three, or one of the last three (§3.1.1.5).
#[inline(always)]
fn offset(recent: &mut [u32; 3], value: u32, literals: u32) -> u32 {
    if value > 3 {
        *recent = [value - 3, recent[0], recent[1]];
    } else {
        match value + u32::from(literals == 0) {
            1 => {}
            2 => *recent = [recent[1], recent[0], recent[2]],
            3 => *recent = [recent[2], recent[0], recent[1]],
            // A recent offset of 1 becomes none, which is refused when it is used.
            _ => *recent = [recent[0].wrapping_sub(1), recent[0], recent[1]],
        }
    }
    recent[0]
}
