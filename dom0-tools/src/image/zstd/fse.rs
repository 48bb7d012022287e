//! FSE tables (RFC 8878 §4.1).

use super::Fault;
use super::bits::Forward;

/// States of the largest table.
pub(super) const MAX_STATES: usize = 512;
/// Symbols of the largest alphabet: match lengths.
pub(super) const MAX_SYMBOLS: usize = 53;

const UNSOUND: Fault = "a table of its code is unsound";

/// What an alphabet's symbols share of the states; -1 is less than one state.
#[derive(Clone, Copy)]
pub(super) struct Shares {
    pub(super) of: [i16; MAX_SYMBOLS],
    pub(super) log: u32,
}

impl Shares {
    /// Reads a description (§4.1.1) with at most `symbols` symbols; the bytes it takes.
    pub(super) fn read(
        bytes: &[u8],
        symbols: usize,
        max_log: u32,
    ) -> Result<(Shares, usize), Fault> {
        let mut bits = Forward::new(bytes);
        let log = bits.take(4) + 5;
        if log > max_log {
            return Err(UNSOUND);
        }
        let mut of = [0; MAX_SYMBOLS];
        let mut symbol = 0;
        let mut left = 1_i32 << log;
        while left > 0 {
            let share = read_share(&mut bits, left as u32);
            left -= i32::from(share.abs());
            let place = of.get_mut(..symbols).and_then(|of| of.get_mut(symbol));
            *place.ok_or(UNSOUND)? = share;
            symbol += 1;
            if share == 0 {
                symbol += skipped(&mut bits);
            }
        }
        Ok((Shares { of, log }, bits.bytes_read()?))
    }

    /// Calls `set` for all states in order, with each one's symbol, next state and number of bits to add to that (§4.1.1).
    pub(super) fn spread(&self, mut set: impl FnMut(u8, u32, u8)) -> Result<(), Fault> {
        let size = 1_usize << self.log;
        let mut symbols = [0_u8; MAX_STATES];
        let mut next = [0_u32; MAX_SYMBOLS];
        let mut high = size;
        for (symbol, (&share, next)) in self.of.iter().zip(&mut next).enumerate() {
            *next = u32::from(share.unsigned_abs());
            if share == -1 {
                high = high.checked_sub(1).ok_or(UNSOUND)?;
                *symbols.get_mut(high).ok_or(UNSOUND)? = symbol as u8;
            }
        }
        let mut at = 0;
        for (symbol, &share) in self.of.iter().enumerate() {
            for _ in 0..share.max(0) {
                *symbols.get_mut(at).ok_or(UNSOUND)? = symbol as u8;
                // The step has no factor in common with the size: all places are met.
                loop {
                    at = (at + (size >> 1) + (size >> 3) + 3) & (size - 1);
                    if at < high {
                        break;
                    }
                }
            }
        }
        for &symbol in symbols.iter().take(size) {
            let next = next.get_mut(usize::from(symbol)).ok_or(UNSOUND)?;
            let bits = self.log - next.checked_ilog2().ok_or(UNSOUND)?;
            set(symbol, (*next << bits) - size as u32, bits as u8);
            *next += 1;
        }
        Ok(())
    }
}

/// How many more symbols have no share: at most three in each two bits.
fn skipped(bits: &mut Forward) -> usize {
    let mut all = 0;
    loop {
        let some = bits.take(2) as usize;
        all += some;
        if some < 3 {
            return all;
        }
    }
}

/// One share of the states, of which `left` are left; small ones have a bit less.
fn read_share(bits: &mut Forward, left: u32) -> i16 {
    let largest = left + 1;
    let count = largest.ilog2() + 1;
    let short = (1 << count) - 1 - largest;
    let value = bits.peek(count);
    let low = value & ((1 << (count - 1)) - 1);
    let (value, count) = if low < short {
        (low, count - 1)
    } else if value == low {
        (value, count)
    } else {
        (value - short, count)
    };
    bits.skip(count);
    value as i16 - 1
}
