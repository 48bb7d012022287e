//! Sets of physical CPUs.

use crate::kit::atomic::{AtomicU64, Ordering};
use core::fmt;

use super::ids::{CpuId, MAX_CPUS};

const _: () = assert!(MAX_CPUS == 64, "a CpuSet is one 64-bit word");

/// A set of physical CPUs.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct CpuSet(pub u64);

impl CpuSet {
    /// No CPU.
    pub const EMPTY: Self = Self(0);
    /// Every CPU that could exist.
    pub const ALL: Self = Self(u64::MAX);

    /// The set of `cpu` alone.
    pub const fn one(cpu: CpuId) -> Self {
        Self(1 << (cpu.0 % 64))
    }
    /// The first `count` CPUs.
    pub const fn first_n(count: u32) -> Self {
        match 1u64.checked_shl(count) {
            Some(bit) => Self(bit - 1),
            None => Self::ALL,
        }
    }
    /// Whether `cpu` is in the set.
    pub const fn contains(self, cpu: CpuId) -> bool {
        self.0 & Self::one(cpu).0 != 0
    }
    /// The CPU of a number that somebody else names, which may be any, if it is in the set.
    pub const fn find(self, number: u32) -> Option<CpuId> {
        let cpu = CpuId(number);
        if number < u64::BITS && self.contains(cpu) {
            Some(cpu)
        } else {
            None
        }
    }
    /// What is in both sets.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
    /// What is in either set.
    #[must_use]
    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
    /// This set without the CPUs of `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
    /// Whether no CPU is in the set.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
    /// How many CPUs are in the set.
    pub const fn count(self) -> u32 {
        self.0.count_ones()
    }
    /// The lowest-numbered CPU.
    pub const fn first(self) -> Option<CpuId> {
        match self.0 {
            0 => None,
            bits => Some(CpuId(bits.trailing_zeros())),
        }
    }
    /// The CPUs, lowest number first.
    pub fn iter(self) -> impl Iterator<Item = CpuId> {
        let mut rest = self;
        core::iter::from_fn(move || {
            let cpu = rest.first()?;
            rest = rest.without(Self::one(cpu));
            Some(cpu)
        })
    }
}

impl fmt::Debug for CpuSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter().map(|cpu| cpu.0)).finish()
    }
}

/// A set of CPUs that several CPUs change at once.
#[derive(Debug)]
pub struct AtomicCpuSet(AtomicU64);

impl AtomicCpuSet {
    /// A set with the given content.
    pub const fn new(set: CpuSet) -> Self {
        Self(AtomicU64::new(set.0))
    }
    /// The content now.
    pub fn get(&self) -> CpuSet {
        CpuSet(self.0.load(Ordering::Acquire))
    }
    /// Adds `cpu`; whether it was in already.
    pub fn insert(&self, cpu: CpuId) -> bool {
        CpuSet(self.0.fetch_or(CpuSet::one(cpu).0, Ordering::AcqRel)).contains(cpu)
    }
    /// Takes `cpu` out; whether it was in.
    pub fn remove(&self, cpu: CpuId) -> bool {
        CpuSet(self.0.fetch_and(!CpuSet::one(cpu).0, Ordering::AcqRel)).contains(cpu)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members() {
        let set = CpuSet::first_n(3).without(CpuSet::one(CpuId(1)));
        assert_eq!(
            set.iter().map(|cpu| cpu.0).collect::<std::vec::Vec<_>>(),
            [0, 2]
        );
        assert_eq!(CpuSet::first_n(64), CpuSet::ALL);
        assert_eq!(CpuSet::first_n(0), CpuSet::EMPTY);
        let shared = AtomicCpuSet::new(set);
        assert!(!shared.insert(CpuId(1)));
        assert!(shared.remove(CpuId(0)));
        assert_eq!(shared.get().first(), Some(CpuId(1)));
    }
}
