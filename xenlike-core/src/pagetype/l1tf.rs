//! L1 terminal fault: on a vulnerable CPU, an entry that is *not* present still directs speculation to the
//! address in it, and reveals what the L1 data cache holds of that address, whichever domain owns it (Intel's
//! INTEL-SA-00161; CVE-2018-3620). Guests write their own tables, so there is a rule for these entries as well:
//! they may hold no address, or an address beyond all memory. Kernels that know the problem invert the address
//! bits of such entries, and so comply.

use crate::kit::{DomId, Once};

use super::{Memory, Pte, Refused, Types};

/// The addresses that an entry which is not present may hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SafeAddresses {
    /// There is no memory at or above this address.
    pub from: u64,
    /// The bits of an address that the L1 data cache compares.
    pub looked_at: u64,
}

impl SafeAddresses {
    /// Whether an entry that is not present, in a table of `level`, reveals nothing. With the large-page bit
    /// set, the CPU would speculate on other address bits, so such entries are never safe.
    pub const fn allow(self, level: u32, pte: Pte) -> bool {
        let address = pte.mfn().maddr().0 & self.looked_at;
        let large = level > 1 && pte.has(Pte::PAT_OR_LARGE);
        !large && (address == 0 || address >= self.from)
    }
}

/// The domains whose tables must follow the rule.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Policy {
    /// Whether the rule holds for the boot domain and domain 0.
    pub dom0: bool,
    /// Whether the rule holds for all other domains.
    pub domus: bool,
}

static SAFE: Once<(SafeAddresses, Policy)> = Once::new();

/// Sets the rule, and the domains that must follow it. Called once, at boot, before the first
/// domain is created.
pub fn set(safe: SafeAddresses, policy: Policy) {
    SAFE.call_once(|| (safe, policy));
}

/// Returns the rule, if this machine has one.
pub(super) fn safe_addresses() -> Option<SafeAddresses> {
    SAFE.get().map(|(safe, _)| *safe)
}

/// Returns the domains that must follow the rule. None if there is no rule.
pub fn policy() -> Policy {
    let nobody = Policy {
        dom0: false,
        domus: false,
    };
    SAFE.get().map_or(nobody, |(_, policy)| *policy)
}

impl<M: Memory> Types<M> {
    /// Checks an entry that is not present for a table of `owner`.
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
        // Software bits, and bits that the cache doesn't compare.
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
