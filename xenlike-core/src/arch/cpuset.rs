//! A set of physical CPUs, as one word.

use crate::kit::atomic::{AtomicU64, Ordering};

use crate::kit::{CpuId, MAX_CPUS};

const _: () = assert!(MAX_CPUS <= 64);

/// A set of physical CPUs.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct CpuSet(pub u64);

impl CpuSet {
    /// No CPU.
    pub const EMPTY: Self = Self(0);

    /// One CPU.
    pub const fn one(cpu: CpuId) -> Self {
        Self(1 << (cpu.0 & 63))
    }
    /// Whether `cpu` is in it.
    pub const fn contains(self, cpu: CpuId) -> bool {
        self.0 & Self::one(cpu).0 != 0
    }
    /// This set with `cpu`.
    #[must_use]
    pub const fn with(self, cpu: CpuId) -> Self {
        Self(self.0 | Self::one(cpu).0)
    }
    /// This set without `cpu`.
    #[must_use]
    pub const fn without(self, cpu: CpuId) -> Self {
        Self(self.0 & !Self::one(cpu).0)
    }
    /// What both have.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
    /// What either has.
    #[must_use]
    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
    /// Whether it has no CPU.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
    /// How many CPUs it has.
    pub const fn count(self) -> u32 {
        self.0.count_ones()
    }
    /// The CPUs, lowest first.
    pub fn iter(self) -> impl Iterator<Item = CpuId> {
        let mut rest = self.0;
        core::iter::from_fn(move || {
            let cpu = (rest != 0).then(|| CpuId(rest.trailing_zeros()))?;
            rest &= rest - 1;
            Some(cpu)
        })
    }
}

/// A set that several CPUs change.
#[derive(Default, Debug)]
pub struct AtomicCpuSet(AtomicU64);

impl AtomicCpuSet {
    /// The empty set.
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }
    /// The set now.
    pub fn get(&self) -> CpuSet {
        CpuSet(self.0.load(Ordering::SeqCst))
    }
    /// Adds `cpu`.
    pub fn insert(&self, cpu: CpuId) {
        self.0.fetch_or(CpuSet::one(cpu).0, Ordering::SeqCst);
    }
    /// Takes `cpu` out.
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
