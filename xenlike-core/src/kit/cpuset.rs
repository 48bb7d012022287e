//! Sets of physical CPUs: [`CpuSet`] is a plain value, [`AtomicCpuSet`] can be changed by several CPUs at once.

use crate::kit::atomic::{AtomicU64, Ordering};
use core::fmt;

use super::ids::{CpuId, MAX_CPUS};

const _: () = assert!(MAX_CPUS == 64, "a CpuSet is one 64-bit word");

/// A set of physical CPUs: bit `n` stands for CPU `n`.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct CpuSet(pub u64);

impl CpuSet {
    /// The set without any CPU.
    pub const EMPTY: Self = Self(0);
    /// The set of every CPU number, whether such a CPU exists or not.
    pub const ALL: Self = Self(u64::MAX);

    /// The set that contains `cpu` alone.
    pub const fn one(cpu: CpuId) -> Self {
        Self(1 << (cpu.0 % 64))
    }
    /// The set of the CPUs 0 to `count - 1`.
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
    /// The CPU with this number if it is in the set. `number` may be any value, for example a guest's.
    pub const fn find(self, number: u32) -> Option<CpuId> {
        let cpu = CpuId(number);
        if number < u64::BITS && self.contains(cpu) {
            Some(cpu)
        } else {
            None
        }
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
    /// This set and `cpu`.
    #[must_use]
    pub const fn with(self, cpu: CpuId) -> Self {
        self.or(Self::one(cpu))
    }
    /// This set without the CPUs of `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
    /// Whether the set contains no CPU.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
    /// The number of CPUs in the set.
    pub const fn count(self) -> u32 {
        self.0.count_ones()
    }
    /// The CPU with the lowest number, if there is any.
    pub const fn first(self) -> Option<CpuId> {
        match self.0 {
            0 => None,
            bits => Some(CpuId(bits.trailing_zeros())),
        }
    }
    /// Iterates over the CPUs in ascending order.
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

/// A set of CPUs that several CPUs may change at the same time. All its operations are sequentially consistent: code
/// that wakes or stops CPUs relies on that, and on x86 it costs no more.
#[derive(Debug)]
pub struct AtomicCpuSet(AtomicU64);

impl AtomicCpuSet {
    /// Makes a set that contains the CPUs of `set`.
    pub const fn new(set: CpuSet) -> Self {
        Self(AtomicU64::new(set.0))
    }
    /// The current members.
    pub fn get(&self) -> CpuSet {
        CpuSet(self.0.load(Ordering::SeqCst))
    }
    /// Adds `cpu`; returns whether it had been a member already.
    pub fn insert(&self, cpu: CpuId) -> bool {
        CpuSet(self.0.fetch_or(CpuSet::one(cpu).0, Ordering::SeqCst)).contains(cpu)
    }
    /// Removes `cpu`; returns whether it had been a member.
    pub fn remove(&self, cpu: CpuId) -> bool {
        CpuSet(self.0.fetch_and(!CpuSet::one(cpu).0, Ordering::SeqCst)).contains(cpu)
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
