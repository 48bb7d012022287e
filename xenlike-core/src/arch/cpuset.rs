//! Sets of physical CPUs in one word, with sequentially consistent atomics.

use crate::kit::atomic::{AtomicU64, Ordering};

use crate::kit::{CpuId, MAX_CPUS};

const _: () = assert!(MAX_CPUS <= 64);

/// A set of physical CPUs: bit `n` stands for CPU `n`.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct CpuSet(pub u64);

impl CpuSet {
    /// The set without any CPU.
    pub const EMPTY: Self = Self(0);

    /// The set that contains `cpu` alone.
    pub const fn one(cpu: CpuId) -> Self {
        Self(1 << (cpu.0 & 63))
    }
    /// Whether `cpu` is in the set.
    pub const fn contains(self, cpu: CpuId) -> bool {
        self.0 & Self::one(cpu).0 != 0
    }
    /// This set with `cpu` added.
    #[must_use]
    pub const fn with(self, cpu: CpuId) -> Self {
        Self(self.0 | Self::one(cpu).0)
    }
    /// This set with `cpu` removed.
    #[must_use]
    pub const fn without(self, cpu: CpuId) -> Self {
        Self(self.0 & !Self::one(cpu).0)
    }
    /// The intersection of both sets.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
    /// The union of both sets.
    #[must_use]
    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
    /// Whether the set contains no CPU.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
    /// The number of CPUs in the set.
    pub const fn count(self) -> u32 {
        self.0.count_ones()
    }
    /// Iterates over the CPUs in ascending order.
    pub fn iter(self) -> impl Iterator<Item = CpuId> {
        let mut rest = self.0;
        core::iter::from_fn(move || {
            let cpu = (rest != 0).then(|| CpuId(rest.trailing_zeros()))?;
            rest &= rest - 1;
            Some(cpu)
        })
    }
}

/// A set of CPUs that several CPUs may change at the same time.
#[derive(Default, Debug)]
pub struct AtomicCpuSet(AtomicU64);

impl AtomicCpuSet {
    /// Makes an empty set.
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }
    /// The current members of the set.
    pub fn get(&self) -> CpuSet {
        CpuSet(self.0.load(Ordering::SeqCst))
    }
    /// Adds `cpu` to the set.
    pub fn insert(&self, cpu: CpuId) {
        self.0.fetch_or(CpuSet::one(cpu).0, Ordering::SeqCst);
    }
    /// Removes `cpu` from the set.
    pub fn remove(&self, cpu: CpuId) {
        self.0.fetch_and(!CpuSet::one(cpu).0, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[test]
    fn iterates_lowest_first() {
        let set = CpuSet::EMPTY
            .with(CpuId(63))
            .with(CpuId(0))
            .with(CpuId(5))
            .without(CpuId(0));
        assert_eq!(set.iter().collect::<Vec<_>>(), [CpuId(5), CpuId(63)]);
        assert_eq!(set.count(), 2);
        assert!(CpuSet::EMPTY.iter().next().is_none());
    }
}
