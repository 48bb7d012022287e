//! Blocks (RFC 8878 §3.1.1.2).

use super::literals::Literals;
use super::output::{Output, space};
use super::sequences::Sequences;
use super::{CUT_OFF, Fault, take};

/// The most that a block holds, packed or not.
pub(super) const MAX_BLOCK: usize = 128 << 10;

/// What one block leaves to the next.
pub(super) struct Decoder {
    literals: Literals,
    sequences: Sequences,
}

impl Decoder {
    pub(super) fn new() -> Decoder {
        Decoder {
            literals: Literals::new(),
            sequences: Sequences::new(),
        }
    }

    /// Nothing of an earlier frame is used.
    pub(super) fn begin_frame(&mut self) {
        self.literals.forget();
        self.sequences.forget();
    }

    /// Unpacks the block behind its header to `at` in the output; where it ends.
    pub(super) fn block(
        &mut self,
        header: u64,
        data: &mut &[u8],
        out: &mut [u8],
        at: u32,
    ) -> Result<u32, Fault> {
        let size = (header >> 3) as u32;
        match header >> 1 & 3 {
            0 => {
                let bytes = take(data, size as usize)?;
                space(out, at, size)?.copy_from_slice(bytes);
                Ok(at + size)
            }
            1 => {
                let byte = take(data, 1)?.first().ok_or(CUT_OFF)?;
                space(out, at, size)?.fill(*byte);
                Ok(at + size)
            }
            2 => {
                let mut bytes = take(data, size as usize)?;
                if bytes.len() > MAX_BLOCK {
                    return Err("a block is too large");
                }
                let literals = self.literals.decode(&mut bytes)?;
                let mut output = Output {
                    bytes: out,
                    at,
                    literals,
                };
                self.sequences.decode(bytes, &mut output)?;
                output.rest()?;
                Ok(output.at)
            }
            _ => Err("a block is of a reserved type"),
        }
    }
}
