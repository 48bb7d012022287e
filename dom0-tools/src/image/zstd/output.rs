//! Where a block's bytes go: the buffer of the whole kernel, all of it up to here being the window.
//!
//! Most copies are of a few bytes. While there is room behind, a whole word is copied, as what follows overwrites
//! what was too much.

use super::Fault;
use super::sequences::Sequence;

/// Bytes of a short copy.
const WORD: u32 = 8;
/// Bytes behind the literals that may be copied together with the last of them.
pub(super) const SLACK: usize = WORD as usize;

pub(super) const TOO_MUCH: Fault = "there is more of it than the image states";
const TOO_FEW: Fault = "a block has too few literals";

/// The output, and the literals that go into it.
pub(super) struct Output<'a> {
    /// At most 2 GiB.
    pub(super) bytes: &'a mut [u8],
    /// Where the next byte goes.
    pub(super) at: u32,
    /// The literals that are left, and the slack behind.
    pub(super) literals: &'a [u8],
}

impl Output<'_> {
    /// Writes what sequences say.
    #[inline(never)]
    pub(super) fn carry_out(&mut self, sequences: &[Sequence]) -> Result<(), Fault> {
        let (mut at, mut literals) = (self.at, self.literals);
        let bytes = &mut *self.bytes;
        for sequence in sequences {
            let Sequence {
                literals: count,
                matched,
                offset,
            } = *sequence;
            if count <= WORD
                && let Some(word) = literals.first_chunk()
                && let Some(room) = room(bytes, at)
            {
                *room = *word;
                literals = literals.get(count as usize..).ok_or(TOO_FEW)?;
            } else {
                take_literals(bytes, at, &mut literals, count)?;
            }
            at += count;
            // An offset that reaches too far makes this a place behind the end.
            let from = at.wrapping_sub(offset);
            if matched <= WORD
                && matched <= offset
                && let Some(word) = word(bytes, from)
                && let Some(room) = room(bytes, at)
            {
                *room = word;
            } else {
                copy_match(bytes, at, offset, matched)?;
            }
            at += matched;
        }
        (self.at, self.literals) = (at, literals);
        Ok(())
    }

    /// The block's last literals.
    pub(super) fn rest(&mut self) -> Result<(), Fault> {
        let count = self.literals.len().checked_sub(SLACK).ok_or(TOO_FEW)?;
        take_literals(self.bytes, self.at, &mut self.literals, count as u32)?;
        self.at += count as u32;
        Ok(())
    }
}

#[inline(always)]
fn word(bytes: &[u8], at: u32) -> Option<[u8; WORD as usize]> {
    let at = at as usize;
    bytes.get(at..at + WORD as usize)?.first_chunk().copied()
}

#[inline(always)]
fn room(bytes: &mut [u8], at: u32) -> Option<&mut [u8; WORD as usize]> {
    let at = at as usize;
    bytes.get_mut(at..at + WORD as usize)?.first_chunk_mut()
}

/// The next `size` bytes of the output.
pub(super) fn space(out: &mut [u8], at: u32, size: u32) -> Result<&mut [u8], Fault> {
    let rest = out.get_mut(at as usize..);
    rest.and_then(|rest| rest.get_mut(..size as usize))
        .ok_or(TOO_MUCH)
}

#[inline(never)]
fn take_literals(out: &mut [u8], at: u32, literals: &mut &[u8], count: u32) -> Result<(), Fault> {
    let from = literals.split_off(..count as usize).ok_or(TOO_FEW)?;
    space(out, at, count)?.copy_from_slice(from);
    Ok(())
}

/// Copies `count` bytes from `offset` bytes before `at` to `at`.
#[inline(never)]
fn copy_match(out: &mut [u8], at: u32, offset: u32, count: u32) -> Result<(), Fault> {
    if offset > at || offset == 0 {
        return Err("it refers to bytes before its start");
    }
    let from = at - offset;
    if count <= 2 * WORD
        && count <= offset
        && let (Some(first), Some(second)) = (word(out, from), word(out, from + WORD))
        && let Some(room) = out.get_mut(at as usize..at as usize + 16)
    {
        room[..8].copy_from_slice(&first);
        room[8..].copy_from_slice(&second);
        return Ok(());
    }
    let (at, offset, count, from) = (at as usize, offset as usize, count as usize, from as usize);
    if at + count > out.len() {
        return Err(TOO_MUCH);
    }
    // What is copied can itself be copied again: the distance doubles.
    let mut done = 0;
    while done < count {
        let part = (offset + done).min(count - done);
        out.copy_within(from..from + part, at + done);
        done += part;
    }
    Ok(())
}
