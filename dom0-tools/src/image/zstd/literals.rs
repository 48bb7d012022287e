//! The literals of a block (RFC 8878 §3.1.1.3.1).

use alloc::boxed::Box;
use alloc::vec;

use super::block::MAX_BLOCK;
use super::huffman::Code;
use super::output::SLACK;
use super::{CUT_OFF, Fault, take, take_number};

/// The literals, and the code that the next block may use again.
pub(super) struct Literals {
    bytes: Box<[u8]>,
    code: Box<Code>,
    coded: bool,
}

impl Literals {
    pub(super) fn new() -> Literals {
        Literals {
            bytes: vec![0; MAX_BLOCK + SLACK].into(),
            code: Box::new(Code::new()),
            coded: false,
        }
    }

    pub(super) fn forget(&mut self) {
        self.coded = false;
    }

    /// Reads the section; gives the literals and the slack behind.
    pub(super) fn decode(&mut self, data: &mut &[u8]) -> Result<&[u8], Fault> {
        let count = self.fill(data)?;
        self.bytes.get(..count + SLACK).ok_or(TOO_MANY)
    }

    /// How many there are.
    fn fill(&mut self, data: &mut &[u8]) -> Result<usize, Fault> {
        let first = *data.first().ok_or(CUT_OFF)?;
        if first & 3 >= 2 {
            return self.packed(data);
        }
        let (bytes, shift) = [(1, 3), (2, 4), (1, 3), (3, 4)][usize::from(first >> 2 & 3)];
        let count = (take_number(data, bytes)? >> shift) as usize;
        if count > MAX_BLOCK {
            return Err(TOO_MANY);
        }
        let space = self.bytes.get_mut(..count).ok_or(TOO_MANY)?;
        if first & 3 == 0 {
            space.copy_from_slice(take(data, count)?);
        } else {
            space.fill(*take(data, 1)?.first().ok_or(CUT_OFF)?);
        }
        Ok(count)
    }

    fn packed(&mut self, data: &mut &[u8]) -> Result<usize, Fault> {
        let first = *data.first().ok_or(CUT_OFF)?;
        let (bytes, bits) = [(3, 10), (3, 10), (4, 14), (5, 18)][usize::from(first >> 2 & 3)];
        let header = take_number(data, bytes)? >> 4;
        let mask = (1 << bits) - 1;
        let (count, packed) = ((header & mask) as usize, (header >> bits & mask) as usize);
        if count > MAX_BLOCK {
            return Err(TOO_MANY);
        }
        let mut packed = take(data, packed)?;
        if first & 3 == 2 {
            self.code.read(&mut packed)?;
            self.coded = true;
        } else if !self.coded {
            return Err("its first literals use a code of literals before");
        }
        let space = self.bytes.get_mut(..count).ok_or(TOO_MANY)?;
        if first >> 2 & 3 == 0 {
            self.code.decode(packed, space)?;
        } else {
            four_streams(&self.code, packed, space)?;
        }
        Ok(count)
    }
}

const TOO_MANY: Fault = "a block has too many literals";

/// Four streams, each with a quarter of the literals; the lengths of three stand before them.
fn four_streams(code: &Code, mut packed: &[u8], space: &mut [u8]) -> Result<(), Fault> {
    let lengths = [
        take_number(&mut packed, 2)? as usize,
        take_number(&mut packed, 2)? as usize,
        take_number(&mut packed, 2)? as usize,
    ];
    let quarter = space.len().div_ceil(4);
    let mut rest = space;
    for length in lengths {
        let part = rest
            .split_off_mut(..quarter)
            .ok_or("its literals are too few for four streams")?;
        code.decode(take(&mut packed, length)?, part)?;
    }
    code.decode(packed, rest)
}
