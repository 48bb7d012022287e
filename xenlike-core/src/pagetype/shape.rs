//! What the entries of a page table mean. That depends on the table's type and on the width of its owner.
//!
//! A *wide* domain has tables of four levels. Its kernel runs in ring 3, so all its mappings are user mappings.
//!
//! A *narrow* domain has tables of three levels, as a 32-bit kernel with PAE builds them. The CPU walks them in
//! 64-bit mode, below an L4 of the hypervisor ([`crate::pv::state::monitor`]). That makes these differences:
//! - The root is an L3. The guest fills four entries, but the CPU sees all 512, so the hypervisor zeroes the rest.
//! - The entries of an L3 have no access rights in the PAE format. Stored, they allow everything, and the lower
//!   entries decide. Therefore no entry of an L3 may be linear: it would show the tables below as writable.
//! - The kernel runs in ring 1, which is supervisor for the CPU, so the guest's choice of user mappings is kept.
//! - The L2 of the last GiB has entries of the hypervisor. It has a type of its own, so that it can't
//!   stand in any other place, nor any other L2 in its place.

use guest_pv_abi::Width;

use super::{PageType, Pte};
use crate::mm::frame::State;
use crate::mm::layout::{FIRST_SLOT, LAST_SLOT, NARROW_FIRST_SLOT};

/// The type of a page table, and the width of its owner, as in the frame's state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Shape(u32);

const NARROW: u32 = (State::NARROW >> State::TYPE_SHIFT) as u32;
const TYPE: u32 = (State::TYPE_MASK >> State::TYPE_SHIFT) as u32;

impl Shape {
    pub const WIDE_L1: Self = Self(PageType::L1 as u32);
    pub const NARROW_L1: Self = Self(NARROW | PageType::L1 as u32);
    const NARROW_L3: Self = Self(NARROW | PageType::L3 as u32);
    const NARROW_L4: Self = Self(NARROW | PageType::L4 as u32);

    /// The shape of an L1 of a domain of this width.
    #[inline]
    pub const fn l1(width: Width) -> Self {
        match width {
            Width::Wide => Self::WIDE_L1,
            Width::Narrow => Self::NARROW_L1,
        }
    }

    /// The shape of a frame that was seen in this state as a page table.
    #[inline]
    pub const fn of(seen: State) -> Self {
        Self((seen.0 >> State::TYPE_SHIFT) as u32 & (NARROW | TYPE))
    }

    pub const fn width(self) -> Width {
        match self.0 & NARROW {
            0 => Width::Wide,
            _ => Width::Narrow,
        }
    }

    pub const fn ty(self) -> PageType {
        PageType::from_bits((self.0 & TYPE) as u64)
    }

    /// The level of the table. 0 for a frame that is not a page table.
    pub const fn level(self) -> u32 {
        match self.ty().level() {
            Some(level) => level,
            None => 0,
        }
    }

    #[inline]
    pub const fn is_l1(self) -> bool {
        self.0 & TYPE == PageType::L1 as u32
    }

    /// Whether a domain of this width has such tables.
    pub const fn exists(self) -> bool {
        self.0 != Self::NARROW_L4.0
    }

    /// The entries that are the hypervisor's.
    pub const fn own_entries(self) -> core::ops::Range<usize> {
        match self.ty() {
            PageType::L4 => FIRST_SLOT..LAST_SLOT + 1,
            PageType::L3 if self.0 & NARROW != 0 => 4..512,
            PageType::L2Last => NARROW_FIRST_SLOT..512,
            _ => 512..512,
        }
    }

    /// Whether the entry at `index` is the guest's.
    pub const fn is_guest_entry(self, index: usize) -> bool {
        let own = self.own_entries();
        index < own.start || index >= own.end
    }

    /// Whether the guest may change the entry at `index` while the table is in use. As on Xen, the last entry
    /// of a narrow root stays as it was validated.
    pub const fn may_change(self, index: usize) -> bool {
        self.is_guest_entry(index) && !matches!(self.required(), Some(fixed) if fixed == index)
    }

    /// The entry without which the table is invalid.
    pub const fn required(self) -> Option<usize> {
        match self {
            Self::NARROW_L3 => Some(3),
            _ => None,
        }
    }

    /// The type of the table that the entry at `index` names, unless the entry is linear.
    pub const fn lower(self, index: usize) -> Option<PageType> {
        match self.required() {
            Some(last) if last == index => Some(PageType::L2Last),
            _ => PageType::table(self.level().wrapping_sub(1)),
        }
    }

    /// Whether an entry may name a table of the same level.
    pub const fn may_be_linear(self) -> bool {
        self.0 != Self::NARROW_L3.0
    }

    /// Whether the flags are allowed in an entry of this table, which is above level 1.
    pub const fn upper_flags_ok(self, pte: Pte) -> bool {
        pte.upper_flags_ok() && (self.0 != Self::NARROW_L3.0 || pte.narrow_l3_flags_ok())
    }

    /// The flags that the hypervisor adds to each present entry.
    #[inline]
    pub const fn added_flags(self) -> u64 {
        if self.0 & NARROW == 0 {
            Pte::USER
        } else if self.0 == Self::NARROW_L3.0 {
            Pte::USER | Pte::WRITABLE
        } else {
            0
        }
    }

    /// The entry that the hypervisor stores for a guest's.
    #[inline]
    pub const fn stored(self, pte: Pte) -> Pte {
        pte.stored(self.added_flags())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kit::Mfn;

    const fn shape(ty: PageType, width: Width) -> Shape {
        let narrow = match width {
            Width::Wide => 0,
            Width::Narrow => State::NARROW,
        };
        Shape::of(State(
            State::USED | (ty as u64) << State::TYPE_SHIFT | narrow,
        ))
    }

    #[test]
    fn the_hypervisors_entries() {
        use PageType::{L1, L2, L2Last, L3, L4};
        use Width::{Narrow, Wide};
        for (ty, width, own) in [
            (L1, Wide, 512..512),
            (L2, Wide, 512..512),
            (L3, Wide, 512..512),
            (L4, Wide, 256..272),
            (L1, Narrow, 512..512),
            (L2, Narrow, 512..512),
            (L2Last, Narrow, 428..512),
            (L3, Narrow, 4..512),
        ] {
            let shape = shape(ty, width);
            assert_eq!((shape.own_entries(), shape.ty()), (own, ty));
            assert_eq!((shape.width(), shape.exists()), (width, true));
        }
        assert!(!shape(L4, Narrow).exists());
    }

    #[test]
    fn only_the_last_gib_has_its_l2() {
        let l3 = shape(PageType::L3, Width::Narrow);
        let lower = [0, 1, 2, 3].map(|index| l3.lower(index).unwrap());
        assert_eq!(
            lower,
            [PageType::L2, PageType::L2, PageType::L2, PageType::L2Last]
        );
        assert!(l3.may_change(2) && !l3.may_change(3) && !l3.may_change(4));
        let wide = shape(PageType::L3, Width::Wide);
        assert_eq!(wide.lower(3), Some(PageType::L2));
        assert!(wide.may_change(3) && wide.required().is_none());
    }

    #[test]
    fn rights_as_the_cpu_sees_them() {
        let kernel = Pte::new(Mfn(5), Pte::PRESENT | Pte::GLOBAL);
        let user = Pte(kernel.0 | Pte::USER);
        let stored = |ty, width, pte| shape(ty, width).stored(pte).0 & 0xfff;
        for ty in [PageType::L1, PageType::L2, PageType::L2Last] {
            assert_eq!(stored(ty, Width::Narrow, kernel), Pte::PRESENT);
            assert_eq!(stored(ty, Width::Narrow, user), Pte::PRESENT | Pte::USER);
            assert_eq!(stored(ty, Width::Wide, kernel), Pte::PRESENT | Pte::USER);
        }
        let all = Pte::PRESENT | Pte::WRITABLE | Pte::USER;
        assert_eq!(stored(PageType::L3, Width::Narrow, kernel), all);
    }

    #[test]
    fn flags_of_a_narrow_root() {
        let l3 = shape(PageType::L3, Width::Narrow);
        let with = |flags| l3.upper_flags_ok(Pte::new(Mfn(5), Pte::PRESENT | flags));
        assert!(with(0) && with(Pte::WRITABLE | Pte::USER | Pte::MACHINE_SET | 7 << 9));
        for bad in [
            Pte::NX,
            1 << 52,
            1 << 62,
            Pte::PWT,
            Pte::PCD,
            Pte::PAT_OR_LARGE,
            Pte::GLOBAL,
        ] {
            assert!(!with(bad), "{bad:#x}");
        }
        assert!(shape(PageType::L3, Width::Wide).upper_flags_ok(Pte::new(Mfn(5), 1 | Pte::NX)));
    }
}
