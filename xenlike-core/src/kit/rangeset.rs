//! [`RangeSet`]: a set of numbers kept as sorted, disjoint ranges. Used for I/O ports, machine frames and interrupts.

use alloc::vec::Vec;
use core::ops::RangeInclusive;

/// A set of `u64`, as ranges that neither overlap nor touch. Callers bound its size: each call adds at most one range.
#[derive(Clone, Debug, Default)]
pub struct RangeSet {
    ranges: Vec<(u64, u64)>,
}

impl RangeSet {
    /// Whether the set contains all numbers of `range`.
    pub fn contains(&self, range: RangeInclusive<u64>) -> bool {
        let (lo, hi) = range.into_inner();
        let at = self.ranges.partition_point(|&(_, end)| end < lo);
        lo <= hi
            && self
                .ranges
                .get(at)
                .is_some_and(|&(s, e)| s <= lo && hi <= e)
    }

    /// The number of ranges in the set.
    pub fn len(&self) -> usize {
        self.ranges.len()
    }

    /// Whether the set contains no number.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Iterates over the ranges in ascending order.
    #[cfg(test)]
    pub fn iter(&self) -> impl Iterator<Item = RangeInclusive<u64>> + '_ {
        self.ranges.iter().map(|&(s, e)| s..=e)
    }

    /// Adds the numbers of `range`, merged with all ranges that it overlaps or touches.
    pub fn insert(&mut self, range: RangeInclusive<u64>) {
        let (mut lo, mut hi) = range.into_inner();
        if lo > hi {
            return;
        }
        self.ranges.retain(|&(s, e)| {
            let apart = e.checked_add(1).is_some_and(|e| e < lo)
                || hi.checked_add(1).is_some_and(|h| h < s);
            if !apart {
                lo = lo.min(s);
                hi = hi.max(e);
            }
            apart
        });
        let at = self.ranges.partition_point(|&(s, _)| s < lo);
        self.ranges.insert(at, (lo, hi));
    }

    /// Removes the numbers of `range`.
    pub fn remove(&mut self, range: RangeInclusive<u64>) {
        let (lo, hi) = range.into_inner();
        if lo > hi {
            return;
        }
        let mut left = Vec::with_capacity(self.ranges.len() + 1);
        for &(s, e) in &self.ranges {
            if e < lo || s > hi {
                left.push((s, e));
                continue;
            }
            if s < lo {
                left.push((s, lo - 1));
            }
            if e > hi {
                left.push((hi + 1, e));
            }
        }
        self.ranges = left;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_whole_of_u64() {
        let mut s = RangeSet::default();
        s.insert(0..=u64::MAX);
        s.remove(5..=5);
        assert!(s.contains(0..=4) && s.contains(6..=u64::MAX) && !s.contains(4..=6));
        s.insert(5..=5);
        assert_eq!(s.len(), 1);
    }

    proptest! {
        #[test]
        fn same_as_a_set(ops in proptest::collection::vec((any::<bool>(), 0u64..64, 0u64..16), 0..60)) {
            let (mut ours, mut model) = (RangeSet::default(), BTreeSet::new());
            for (add, lo, n) in ops {
                let hi = lo + n;
                if add {
                    ours.insert(lo..=hi);
                    model.extend(lo..=hi);
                } else {
                    ours.remove(lo..=hi);
                    model.retain(|x| !(lo..=hi).contains(x));
                }
            }
            let flat: Vec<u64> = ours.iter().flatten().collect();
            prop_assert_eq!(flat, model.into_iter().collect::<Vec<_>>());
            let ends: Vec<_> = ours.iter().collect();
            prop_assert!(ends.windows(2).all(|w| w[0].end() + 1 < *w[1].start()));
        }
    }
}
