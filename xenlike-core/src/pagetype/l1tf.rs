//! L1 terminal fault: on a CPU open to it, an entry that is *not* present still steers speculation
//! to the address it holds, and gives away what the first-level cache has of it, whoever's it is
//! (Intel's paper INTEL-SA-00161; CVE-2018-3620). Guests write their own tables, so what such an
//! entry may hold is a rule like any other: nothing, or an address behind all memory. Kernels that
//! know of it invert the address bits of what they leave there, and pass.

use crate::kit::{DomId, Once};

use super::{Memory, Pte, Refused, Types};

/// Addresses that an entry which is not present may hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SafeAddresses {
    /// From here on there is no memory.
    pub from: u64,
    /// The bits of an address that the first-level cache looks at.
    pub looked_at: u64,
}

impl SafeAddresses {
    /// Whether an entry of a table of `level` that is not present gives nothing away. The machine
    /// would take it for a large page if it has that bit, and look at other bits.
    pub const fn allow(self, level: u32, pte: Pte) -> bool {
        let address = pte.mfn().maddr().0 & self.looked_at;
        let large = level > 1 && pte.has(Pte::PAT_OR_LARGE);
        !large && (address == 0 || address >= self.from)
    }
}

/// Which domains are held to the rule.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Policy {
    /// The boot domain and domain 0.
    pub dom0: bool,
    /// All others.
    pub domus: bool,
}

static SAFE: Once<(SafeAddresses, Policy)> = Once::new();

/// Sets the rule and who is held to it; once, at boot, before the first domain.
pub fn set(safe: SafeAddresses, policy: Policy) {
    SAFE.call_once(|| (safe, policy));
}

/// The rule, where there is one.
pub(super) fn safe_addresses() -> Option<SafeAddresses> {
    SAFE.get().map(|(safe, _)| *safe)
}

/// Who is held to the rule; nobody where there is none.
pub fn policy() -> Policy {
    let nobody = Policy {
        dom0: false,
        domus: false,
    };
    SAFE.get().map_or(nobody, |(_, policy)| *policy)
}

impl<M: Memory> Types<M> {
    /// Whether an entry that is not present may stand in a table of `owner`.
    #[inline]
    pub(super) fn check_absent(&self, level: u32, owner: DomId, pte: Pte) -> Result<(), Refused> {
        if pte.0 == 0 {
            return Ok(());
        }
        match self.0.safe_addresses(owner) {
            Some(safe) if !safe.allow(level, pte) => Err(Refused::Invalid),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kit::Mfn;

    const SAFE: SafeAddresses = SafeAddresses {
        from: 1 << 39,
        looked_at: (1 << 46) - 1,
    };

    #[test]
    fn what_is_allowed() {
        let at = |address: u64| Pte(address);
        assert!(SAFE.allow(1, Pte(0)));
        // Software bits, and bits that the cache does not look at.
        assert!(SAFE.allow(1, Pte(0x7ff0_0000_0000_0ffe)));
        assert!(SAFE.allow(1, at(1 << 46)));
        assert!(!SAFE.allow(1, at(0x1000)));
        assert!(!SAFE.allow(1, at((1 << 39) - 0x1000)));
        assert!(SAFE.allow(1, at(1 << 39)));
        assert!(!SAFE.allow(1, at(1 << 46 | 0x5000)));
    }

    #[test]
    fn inverted_addresses_pass() {
        for mfn in [1u64, 0x1234, 0x3f_ffff] {
            let inverted = !Mfn(mfn).maddr().0 & 0x000f_ffff_ffff_f000;
            assert!(SAFE.allow(1, Pte(inverted | Pte::GLOBAL)));
            assert!(SAFE.allow(2, Pte(inverted)));
        }
    }

    #[test]
    fn a_large_page_is_never_safe() {
        assert!(SAFE.allow(1, Pte(Pte::PAT_OR_LARGE)));
        assert!(!SAFE.allow(2, Pte(Pte::PAT_OR_LARGE)));
        assert!(!SAFE.allow(3, Pte(1 << 45 | Pte::PAT_OR_LARGE)));
    }
}
