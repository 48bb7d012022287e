//! Bit streams: forward ones of FSE table descriptions, and those that are read from their end (RFC 8878 §4.1, §4.2).

use super::{CUT_OFF, Fault};

/// Reads from the first byte's lowest bit on.
pub(super) struct Forward<'a> {
    bytes: &'a [u8],
    read: usize,
}

impl<'a> Forward<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, read: 0 }
    }

    /// The next bits, at most 16; zeros behind the end.
    pub(super) fn peek(&self, count: u32) -> u32 {
        let mut window = [0; 4];
        let rest = self.bytes.get(self.read / 8..).unwrap_or_default();
        for (to, from) in window.iter_mut().zip(rest) {
            *to = *from;
        }
        u32::from_le_bytes(window) >> (self.read % 8) & ((1 << count) - 1)
    }

    pub(super) fn skip(&mut self, count: u32) {
        self.read += count as usize;
    }

    pub(super) fn take(&mut self, count: u32) -> u32 {
        let bits = self.peek(count);
        self.skip(count);
        bits
    }

    /// Whole bytes read.
    pub(super) fn bytes_read(&self) -> Result<usize, Fault> {
        let bytes = self.read.div_ceil(8);
        if bytes > self.bytes.len() {
            return Err(CUT_OFF);
        }
        Ok(bytes)
    }
}

/// Reads from the last byte's highest bits on; the highest bit that is set there only marks the end.
#[derive(Clone, Copy)]
pub(super) struct Backward<'a> {
    bytes: &'a [u8],
    /// Bits not yet read.
    left: usize,
}

impl<'a> Backward<'a> {
    /// Bits that can be taken at once.
    pub(super) const MOST: u32 = 57;

    pub(super) fn new(bytes: &'a [u8]) -> Result<Self, Fault> {
        let mark = bytes.last().and_then(|byte| byte.checked_ilog2());
        let mark = mark.ok_or("a bit stream has no end mark")?;
        let left = (bytes.len() - 1) * 8 + mark as usize;
        Ok(Self { bytes, left })
    }

    pub(super) fn left(&self) -> usize {
        self.left
    }

    /// The next bits, at most 57, as the lowest ones of a word; above them may be others.
    #[inline(always)]
    pub(super) fn take(&mut self, count: u32) -> Result<u64, Fault> {
        self.left = self.left.checked_sub(count as usize).ok_or(CUT_OFF)?;
        Ok(self.word(self.left >> 3) >> (self.left & 7))
    }

    /// The next bits as a number.
    pub(super) fn number(&mut self, count: u32) -> Result<u32, Fault> {
        Ok((self.take(count)? & ((1 << count) - 1)) as u32)
    }

    /// The next bits as the highest ones of a word, at least 57 of them or all there are; below are zeros or others.
    #[inline(always)]
    pub(super) fn top(&self) -> u64 {
        if self.left >= 64 {
            let byte = (self.left - 57) >> 3;
            self.word(byte) << ((byte * 8).wrapping_sub(self.left) & 63)
        } else {
            self.word(0).checked_shl(64 - self.left as u32).unwrap_or(0)
        }
    }

    #[inline(always)]
    pub(super) fn skip(&mut self, count: u32) -> Result<(), Fault> {
        self.left = self.left.checked_sub(count as usize).ok_or(CUT_OFF)?;
        Ok(())
    }

    #[inline(always)]
    fn word(&self, byte: usize) -> u64 {
        let found = self.bytes.get(byte..byte + 8);
        match found.and_then(|bytes| bytes.first_chunk()) {
            Some(word) => u64::from_le_bytes(*word),
            None => self.last_word(byte),
        }
    }

    /// A word that reaches beyond the end: zeros are there.
    #[cold]
    fn last_word(&self, byte: usize) -> u64 {
        let rest = self.bytes.get(byte..).unwrap_or_default();
        rest.iter()
            .rev()
            .fold(0, |word, &byte| word << 8 | u64::from(byte))
    }
}
