//! Huffman codes of literals (RFC 8878 §4.2).

use super::bits::Backward;
use super::fse::Shares;
use super::{CUT_OFF, Fault, take};

/// Bits of the longest code.
const MAX_BITS: u32 = 11;
const UNSOUND: Fault = "its Huffman code is unsound";
/// Symbols decoded between two looks at the stream: so many of the longest codes are in a word's 57 bits.
const BATCH: usize = 5;

/// Each prefix of 11 bits: the symbol it starts with, and above it the length of that symbol's code.
pub(super) struct Code {
    prefixes: [u16; 1 << MAX_BITS],
}

impl Code {
    pub(super) const fn new() -> Code {
        Code {
            prefixes: [0; 1 << MAX_BITS],
        }
    }

    /// Reads the description of a code.
    pub(super) fn read(&mut self, data: &mut &[u8]) -> Result<(), Fault> {
        let mut weights = [0; 256];
        let header = usize::from(*take(data, 1)?.first().ok_or(CUT_OFF)?);
        let count = if header < 128 {
            packed_weights(take(data, header)?, &mut weights)?
        } else {
            let count = header - 127;
            let bytes = take(data, count.div_ceil(2))?;
            for (pair, byte) in weights.chunks_mut(2).zip(bytes) {
                pair.copy_from_slice(&[byte >> 4, byte & 15]);
            }
            count
        };
        self.fill(&mut weights, count)
    }

    /// Makes the code of weights; the last one isn't told, it makes the sum a power of two (§4.2.1).
    fn fill(&mut self, weights: &mut [u8; 256], count: usize) -> Result<(), Fault> {
        let told = weights.get(..count).ok_or(UNSOUND)?;
        if told.iter().any(|&weight| u32::from(weight) > MAX_BITS) {
            return Err(UNSOUND);
        }
        let sum: u32 = told.iter().map(|&weight| (1 << weight) >> 1).sum();
        let bits = sum.checked_ilog2().ok_or(UNSOUND)? + 1;
        let rest = (1 << bits) - sum;
        if bits > MAX_BITS || !rest.is_power_of_two() {
            return Err(UNSOUND);
        }
        *weights.get_mut(count).ok_or(UNSOUND)? = rest.ilog2() as u8 + 1;
        // Symbols in order of their weights, the longest codes first (§4.2.1.3).
        let mut ends = [0; MAX_BITS as usize + 1];
        for &weight in &*weights {
            if let Some(end) = ends.get_mut(usize::from(weight)) {
                *end += prefixes(bits, weight);
            }
        }
        let mut end = 0;
        for start in &mut ends {
            end += core::mem::replace(start, end);
        }
        for (symbol, &weight) in (0_u16..).zip(&*weights).filter(|(_, weight)| **weight > 0) {
            let start = ends.get_mut(usize::from(weight)).ok_or(UNSOUND)?;
            let places = self.prefixes.get_mut(*start..).unwrap_or_default();
            let count = prefixes(bits, weight);
            *start += count;
            let length = bits as u16 + 1 - u16::from(weight);
            places
                .get_mut(..count)
                .ok_or(UNSOUND)?
                .fill(length << 8 | symbol);
        }
        Ok(())
    }

    /// Fills `out` with the symbols of a stream.
    pub(super) fn decode(&self, stream: &[u8], out: &mut [u8]) -> Result<(), Fault> {
        let mut bits = Backward::new(stream)?;
        let mut groups = out.chunks_exact_mut(BATCH);
        for group in &mut groups {
            let mut top = bits.top();
            let mut used = 0;
            for place in group {
                let (symbol, length) = self.first(top);
                *place = symbol;
                top <<= length;
                used += length;
            }
            bits.skip(used)?;
        }
        for place in groups.into_remainder() {
            let (symbol, length) = self.first(bits.top());
            *place = symbol;
            bits.skip(length)?;
        }
        if bits.left() > 0 {
            return Err("a stream of literals is longer than they are");
        }
        Ok(())
    }

    #[inline(always)]
    fn first(&self, top: u64) -> (u8, u32) {
        let prefix = self.prefixes[(top >> (64 - MAX_BITS)) as usize];
        (prefix as u8, u32::from(prefix >> 8) & 15)
    }
}

/// How many prefixes of 11 bits start with a symbol of that weight, in a code of at most `bits` bits.
fn prefixes(bits: u32, weight: u8) -> usize {
    (1 << weight >> 1) << (MAX_BITS - bits)
}

/// Weights packed by FSE with two states in turn (§4.2.1.2); how many.
fn packed_weights(bytes: &[u8], weights: &mut [u8; 256]) -> Result<usize, Fault> {
    let (shares, used) = Shares::read(bytes, MAX_BITS as usize + 2, 6)?;
    let mut table = [(0, 0, 0); 64];
    let mut places = table.iter_mut();
    shares.spread(|symbol, next, bits| {
        if let Some(place) = places.next() {
            *place = (symbol, next, bits);
        }
    })?;
    let entry = |state: u32| table.get(state as usize).copied().ok_or(UNSOUND);
    let mut bits = Backward::new(bytes.get(used..).unwrap_or_default())?;
    let mut states = [bits.number(shares.log)?, bits.number(shares.log)?];
    for (at, weight) in weights.iter_mut().take(255).enumerate() {
        let state = &mut states[at % 2];
        let (symbol, next, count) = entry(*state)?;
        *weight = symbol;
        match bits.number(u32::from(count)) {
            Ok(more) => *state = next + more,
            // The stream is at its end: the other state has the last weight.
            Err(_) => {
                let (symbol, ..) = entry(states[(at + 1) % 2])?;
                *weights.get_mut(at + 1).ok_or(UNSOUND)? = symbol;
                return Ok(at + 2);
            }
        }
    }
    Err(UNSOUND)
}
