//! Page-table entries as guests write them (AMD APM vol. 2 §5.3, Intel SDM vol. 3 §4.5), and the flags that the
//! public PV ABI allows at each level.

use crate::arch::paging::pte;
use crate::kit::Mfn;

/// A page table entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Pte(pub u64);

impl Pte {
    /// The entry is used for translation.
    pub const PRESENT: u64 = pte::P;
    /// Writes through the entry are allowed.
    pub const WRITABLE: u64 = pte::RW;
    /// Accesses from ring 3 are allowed.
    pub const USER: u64 = pte::US;
    /// Write-through. With the next two, this forms an index into the PAT.
    pub const PWT: u64 = pte::PWT;
    /// Cache disable: the second bit of the index into the PAT.
    pub const PCD: u64 = pte::PCD;
    /// Set by the CPU when it uses the entry.
    pub const ACCESSED: u64 = pte::A;
    /// Set by the CPU when it writes through the entry.
    pub const DIRTY: u64 = pte::D;
    /// At level 1, the third bit of the index into the PAT. Above level 1, the entry maps a large page.
    pub const PAT_OR_LARGE: u64 = pte::PAT;
    /// The translation stays in the TLB when the address space changes.
    pub const GLOBAL: u64 = pte::G;
    /// Instruction fetches are not allowed.
    pub const NX: u64 = pte::NX;

    const ADDRESS: u64 = pte::ADDR;
    /// Bits that the CPU ignores: 9 to 11 and 52 to 62.
    const SOFTWARE: u64 = pte::AVAIL | 0x7ff << 52;
    const CACHE: u64 = Self::PWT | Self::PCD | Self::PAT_OR_LARGE;
    const PLAIN: u64 = Self::PRESENT
        | Self::WRITABLE
        | Self::USER
        | Self::ACCESSED
        | Self::DIRTY
        | Self::NX
        | Self::SOFTWARE;
    /// Bits that may change without a change of references.
    const LIGHT: u64 =
        Self::USER | Self::ACCESSED | Self::DIRTY | Self::GLOBAL | Self::NX | Self::SOFTWARE;
    /// The bits that the CPU sets itself.
    pub const MACHINE_SET: u64 = Self::ACCESSED | Self::DIRTY;

    /// Makes an entry for `mfn` with these flags.
    pub const fn new(mfn: Mfn, flags: u64) -> Self {
        Self(mfn.maddr().0 & Self::ADDRESS | flags)
    }
    /// Whether all of these flags are set.
    pub const fn has(self, flags: u64) -> bool {
        self.0 & flags == flags
    }
    /// Whether the CPU uses the entry.
    pub const fn is_present(self) -> bool {
        self.has(Self::PRESENT)
    }
    /// Whether the entry allows writes.
    pub const fn is_writable(self) -> bool {
        self.has(Self::WRITABLE)
    }
    /// Returns the frame that the entry names.
    pub const fn mfn(self) -> Mfn {
        Mfn((self.0 & Self::ADDRESS) >> 12)
    }
    /// Whether the flags are allowed in an L1 entry, including those that choose the caching if the
    /// argument says so.
    pub(super) const fn l1_flags_ok(self, cached_as_it_likes: CacheChoice) -> bool {
        let cache = match cached_as_it_likes {
            CacheChoice::Free => Self::CACHE,
            CacheChoice::WriteBack => 0,
        };
        self.0 & !Self::ADDRESS & !(Self::PLAIN | Self::GLOBAL | cache) == 0
    }
    /// Whether the entry is present, with flags that any domain's L1 entry may have.
    pub(super) const fn is_usual(self) -> bool {
        let others = !Self::ADDRESS & !(Self::PLAIN | Self::GLOBAL);
        self.0 & (others | Self::PRESENT) == Self::PRESENT
    }
    /// Whether the flags are allowed in an entry above level 1.
    pub(super) const fn upper_flags_ok(self) -> bool {
        self.0 & !Self::ADDRESS & !Self::PLAIN == 0
    }
    /// Whether the change from `self` to `new`, which are both present, changes no reference.
    pub(super) const fn differs_lightly(self, new: Self) -> bool {
        (self.0 ^ new.0) & !Self::LIGHT == 0
    }
    /// Whether the flags are allowed in an entry of a narrow guest's L3, as far as those of other upper tables
    /// are. The PAE format has no rights there, so the bits from 52 on are reserved.
    pub(super) const fn narrow_l3_flags_ok(self) -> bool {
        self.0 >> 52 == 0
    }
    /// Returns the entry that the core stores for a guest's, with the flags that [`super::shape`] adds. No
    /// translation of a guest's stays in the TLB when the address space changes.
    pub(super) const fn stored(self, added: u64) -> Self {
        if self.is_present() {
            Self(self.0 & !Self::GLOBAL | added)
        } else {
            self
        }
    }
    /// Returns the entry without the right to write.
    pub(super) const fn read_only(self) -> Self {
        Self(self.0 & !Self::WRITABLE)
    }
    /// Returns the entry without a choice of caching. RAM is always mapped write-back, as it is in the direct
    /// map (ADR 7).
    pub(super) const fn cached(self) -> Self {
        Self(self.0 & !Self::CACHE)
    }
}

/// Whether the domain's mappings may choose how they are cached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum CacheChoice {
    /// The domain may choose, because it has device rights.
    Free,
    /// The domain's mappings are always write-back.
    WriteBack,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_bit_has_one_meaning() {
        let all = [Pte::ADDRESS, Pte::PLAIN, Pte::CACHE, Pte::GLOBAL];
        assert_eq!(
            all.iter().fold(0u64, |sum, m| sum.checked_add(*m).unwrap()),
            u64::MAX
        );
    }

    #[test]
    fn flags_by_level() {
        let plain = Pte::new(
            Mfn(5),
            Pte::PRESENT | Pte::WRITABLE | Pte::NX | 1 << 52 | 1 << 9,
        );
        assert!(plain.l1_flags_ok(CacheChoice::WriteBack) && plain.upper_flags_ok());
        for bit in [Pte::PWT, Pte::PCD, Pte::PAT_OR_LARGE] {
            let pte = Pte(plain.0 | bit);
            assert!(!pte.l1_flags_ok(CacheChoice::WriteBack) && !pte.is_usual());
            assert!(pte.l1_flags_ok(CacheChoice::Free));
            assert!(!pte.upper_flags_ok());
        }
        let global = Pte(plain.0 | Pte::GLOBAL);
        assert!(plain.is_usual() && global.is_usual() && !Pte(plain.0 & !1).is_usual());
        assert!(global.l1_flags_ok(CacheChoice::WriteBack) && !global.upper_flags_ok());
        assert_eq!(global.stored(Pte::USER), Pte(plain.0 | Pte::USER));
        assert_eq!(global.stored(0), plain);
        assert_eq!(Pte(Pte::GLOBAL).stored(Pte::USER), Pte(Pte::GLOBAL));
    }
}
