//! The first and the last step of every emulation: fetching the instruction and advancing RIP.

use super::operand::{DR6_STEP, mask};
use super::{Bits, Guest, Outcome, decode};
use crate::arch::frame::TrapFrame;
use crate::arch::rflags::{RF, TF};
use crate::kit::{PAGE_SIZE, Vaddr};

/// Copies code from `at`: as much as the longest instruction, or up to the end of the page if the next one can't be read.
pub(super) fn fetch<'a>(
    guest: &mut impl Guest,
    at: Vaddr,
    into: &'a mut [u8; decode::MAX_BYTES],
) -> Option<&'a [u8]> {
    if guest.read(at, into).is_ok() {
        return Some(into);
    }
    let left = PAGE_SIZE.wrapping_sub(at.offset());
    let into = into.get_mut(..left)?;
    guest.read(at, into).ok()?;
    Some(into)
}

/// Moves RIP behind an instruction of this length, in code of this width.
#[inline(always)] // a few instructions, at the end of every emulation
pub(super) const fn retire(frame: &mut TrapFrame, length: u8, code: Bits) -> Outcome {
    let next = frame.rip.wrapping_add(length as u64);
    frame.rip = match code {
        Bits::SixtyFour => next,
        Bits::Sixteen | Bits::ThirtyTwo => next & mask(4),
    };
    frame.rflags &= !RF;
    if frame.rflags & TF != 0 {
        Outcome::Debug(DR6_STEP)
    } else {
        Outcome::Done
    }
}
