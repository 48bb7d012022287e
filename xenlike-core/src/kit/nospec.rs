//! Bounds that hold under speculation too.
//!
//! A CPU runs past a bounds check before it knows the outcome (Spectre v1, bounds check bypass). A
//! guest that chose the index can then have a word of its choice loaded, and read it out of the
//! cache's state. So an index of a guest's is clamped behind its check by arithmetic, which the CPU
//! doesn't predict: whatever it speculates, the index is inside the table.
#![expect(
    unsafe_code,
    reason = "the compiler must not turn the arithmetic back into a branch"
)]

use core::arch::asm;

/// `index` if it is below `length`, else 0.
#[inline(always)] // two or three instructions
pub fn clamp(index: usize, length: usize) -> usize {
    if cfg!(miri) {
        return if index < length { index } else { 0 };
    }
    let mut mask: usize;
    // SAFETY: arithmetic on registers. The borrow of the comparison fills the mask.
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

/// The low 32 bits of `number`, cut off where the CPU can't speculate past it.
#[inline(always)] // one instruction
pub fn cut_to_32(number: u64) -> u64 {
    let mut cut = number;
    if cfg!(miri) {
        return cut & 0xffff_ffff;
    }
    // SAFETY: arithmetic on a register. It is not `pure`, or the compiler would do it, and a select,
    // before the branch that it stands behind.
    unsafe {
        asm!("mov {cut:e}, {cut:e}", cut = inout(reg) cut, options(nomem, nostack, preserves_flags));
    }
    cut
}

/// The element of a table that a guest named by its index.
pub trait Bounded<T> {
    /// As `get`, also under speculation.
    fn bounded(&self, index: usize) -> Option<&T>;
    /// As `get_mut`, also under speculation.
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
