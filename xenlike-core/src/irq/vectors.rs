//! The vectors of devices' interrupts. A vector means the same interrupt on every CPU, so that an interrupt can be sent
//! to another CPU without any hand-over (docs/adr/0008).

use guest_pv_abi::arch_x86::narrow::HYPERCALL_VECTOR;

/// Below are the exceptions and the vectors of the masked 8259s.
const FIRST: u8 = 0x30;
/// Above are the core's own vectors (`arch::ipi::Vector`).
const LAST: u8 = 0xdf;
/// The gates that guests may invoke: for system calls of 32-bit processes, and for hypercalls of narrow guests.
const GATES: [u8; 2] = [0x80, HYPERCALL_VECTOR];

/// The vectors in use: a bit for each.
#[derive(Debug)]
pub struct Vectors {
    used: [u128; 2],
}

impl Vectors {
    /// Makes a set with all vectors free.
    pub const fn new() -> Self {
        Self { used: [0; 2] }
    }

    fn bit(vector: u8) -> (usize, u128) {
        (usize::from(vector >> 7), 1 << (vector & 127))
    }

    fn is_free(&self, vector: u8) -> bool {
        let (word, bit) = Self::bit(vector);
        (FIRST..=LAST).contains(&vector)
            && !GATES.contains(&vector)
            && self.used.get(word).is_some_and(|used| used & bit == 0)
    }

    /// Takes `count` consecutive vectors, a power of two, with the first a multiple of `count`. A device with several
    /// messages needs that, because it only changes the low bits of the data (PCI 3.0 §6.8.3.4).
    pub fn take(&mut self, count: u8) -> Option<u8> {
        let fits = |first: &u8| {
            let Some(last) = first.checked_add(count.saturating_sub(1)) else {
                return false;
            };
            (*first..=last).all(|vector| self.is_free(vector))
        };
        let count_or_one = count.max(1);
        let first = FIRST.checked_next_multiple_of(count_or_one)?;
        let first = (first..=LAST).step_by(count_or_one.into()).find(fits)?;
        for vector in (first..=LAST).take(usize::from(count)) {
            self.set(vector, true);
        }
        Some(first)
    }

    /// Frees a vector for another interrupt.
    pub fn give(&mut self, vector: u8) {
        self.set(vector, false);
    }

    fn set(&mut self, vector: u8, to: bool) {
        let (word, bit) = Self::bit(vector);
        if let Some(used) = self.used.get_mut(word) {
            *used = if to { *used | bit } else { *used & !bit };
        }
    }
}

impl Default for Vectors {
    fn default() -> Self {
        Self::new()
    }
}

const _: () = assert!(FIRST.is_multiple_of(16) && LAST < crate::arch::ipi::Vector::Serial as u8);

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn each_is_given_once_and_never_the_gate() {
        let mut vectors = Vectors::new();
        let all: BTreeSet<u8> = core::iter::from_fn(|| vectors.take(1)).collect();
        assert_eq!(all.len(), usize::from(LAST - FIRST - 1));
        assert!(GATES.iter().all(|gate| !all.contains(gate)));
        vectors.give(0x55);
        assert_eq!((vectors.take(1), vectors.take(1)), (Some(0x55), None));
    }

    #[test]
    fn blocks_are_aligned() {
        let mut vectors = Vectors::new();
        assert_eq!(vectors.take(1), Some(0x30));
        assert_eq!(vectors.take(8), Some(0x38));
        assert_eq!(vectors.take(32), Some(0x40));
        let mut last = 0;
        while let Some(first) = vectors.take(16) {
            assert!(first % 16 == 0 && first != 0x80);
            last = first;
        }
        assert_eq!(last, 0xd0);
    }
}
