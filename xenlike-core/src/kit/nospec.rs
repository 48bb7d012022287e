//! Bounds that hold under speculation too (docs/speculation.md).
//!
//! A CPU runs past a bounds check before it knows the outcome (Spectre v1, bounds check bypass). A guest that chose the
//! index can thus make it load a word of its choice, and learn the word from the state of the cache. So an index that a
//! guest names is clamped behind its check by arithmetic, which the CPU doesn't predict: whatever the CPU speculates,
//! the index lies inside the table.
#![expect(
    unsafe_code,
    reason = "the compiler must not turn the arithmetic back into a branch"
)]

use core::arch::asm;

/// Returns `index` if it is below `length`, else 0, without a branch.
#[inline(always)] // two or three instructions
pub fn clamp(index: usize, length: usize) -> usize {
    if cfg!(miri) {
        return if index < length { index } else { 0 };
    }
    let mut mask: usize;
    // SAFETY: only arithmetic on registers. SBB turns the borrow of the comparison into a mask of all ones or zero.
    unsafe {
        asm!(
            "cmp {index}, {length}",
            "sbb {mask}, {mask}",
            index = in(reg) index,
            length = in(reg) length,
            mask = out(reg) mask,
            options(pure, nomem, nostack),
        );
    }
    index & mask
}

/// The low 32 bits of `number`, cut off by an instruction that the CPU can't speculate past.
#[inline(always)] // one instruction
pub fn cut_to_32(number: u64) -> u64 {
    let mut cut = number;
    if cfg!(miri) {
        return cut & 0xffff_ffff;
    }
    // SAFETY: only arithmetic on a register. Not `pure`: the compiler could then hoist it above the branch that it must
    // stay behind, and use a select instead.
    unsafe {
        asm!("mov {cut:e}, {cut:e}", cut = inout(reg) cut, options(nomem, nostack, preserves_flags));
    }
    cut
}

/// Access to an element of a table by an index that a guest named.
pub trait Bounded<T> {
    /// Like `get`, and within bounds under speculation too.
    fn bounded(&self, index: usize) -> Option<&T>;
    /// Like `get_mut`, and within bounds under speculation too.
    fn bounded_mut(&mut self, index: usize) -> Option<&mut T>;
}

impl<T> Bounded<T> for [T] {
    #[inline(always)] // a few instructions
    fn bounded(&self, index: usize) -> Option<&T> {
        if index >= self.len() {
            return None;
        }
        self.get(clamp(index, self.len()))
    }

    #[inline(always)] // a few instructions
    fn bounded_mut(&mut self, index: usize) -> Option<&mut T> {
        if index >= self.len() {
            return None;
        }
        self.get_mut(clamp(index, self.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_outside_becomes_the_first() {
        for (index, length, clamped) in [
            (0, 0, 0),
            (0, 1, 0),
            (3, 4, 3),
            (4, 4, 0),
            (usize::MAX, 4, 0),
            (usize::MAX - 1, usize::MAX, usize::MAX - 1),
        ] {
            assert_eq!(clamp(index, length), clamped, "{index} of {length}");
        }
    }

    #[test]
    fn numbers_are_cut() {
        assert_eq!(cut_to_32(0x1234_5678), 0x1234_5678);
        assert_eq!(cut_to_32(0xffff_0001_0000_0002), 2);
    }

    #[test]
    fn elements_as_without() {
        let mut table = [7, 8];
        assert_eq!(table.bounded(1), Some(&8));
        assert_eq!(table.bounded(2), None);
        assert_eq!(table.bounded_mut(0), Some(&mut 7));
        assert_eq!(table.bounded_mut(usize::MAX), None);
    }
}
