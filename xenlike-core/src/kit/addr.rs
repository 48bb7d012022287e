//! Addresses and frame numbers, each its own type: a machine address is not a virtual one.
//! Names follow Xen: an *MFN* is a machine frame, a *PFN* is a guest's own numbering.

use core::fmt;

/// log2 of the page size.
pub const PAGE_SHIFT: u32 = 12;
/// The page size in bytes.
pub const PAGE_SIZE: usize = 1 << PAGE_SHIFT;

/// The bits of an address that the machine's page tables can name (AMD APM vol. 2 §5.1: 52 bits).
const MADDR_MASK: u64 = (1 << 52) - 1;

/// A machine (physical) address in bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Maddr(pub u64);

/// A machine frame number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Mfn(pub u64);

/// A guest's pseudo-physical frame number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Pfn(pub u64);

/// A virtual (linear) address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Vaddr(pub u64);

impl Maddr {
    /// The frame that holds this address.
    pub const fn mfn(self) -> Mfn {
        Mfn((self.0 & MADDR_MASK) >> PAGE_SHIFT)
    }
    /// The byte offset inside its frame.
    pub const fn offset(self) -> usize {
        (self.0 & (PAGE_SIZE as u64 - 1)) as usize
    }
}

impl Mfn {
    /// No frame: what Xen calls INVALID_MFN.
    pub const INVALID: Self = Self(u64::MAX);

    /// The address of the frame's first byte.
    pub const fn maddr(self) -> Maddr {
        Maddr(self.0.wrapping_shl(PAGE_SHIFT))
    }
    /// The frame `n` further on; saturates, and the frame table refuses what is too high.
    pub const fn add(self, n: u64) -> Self {
        Self(self.0.saturating_add(n))
    }
}

impl Vaddr {
    /// Whether the machine accepts this as an address: bits 63–47 all equal (APM vol. 2 §5.3.1).
    pub const fn is_canonical(self) -> bool {
        let top = (self.0 as i64) >> 47;
        top == 0 || top == -1
    }
    /// The address `bytes` further on, or nothing if it would wrap.
    pub const fn checked_add(self, bytes: u64) -> Option<Self> {
        match self.0.checked_add(bytes) {
            Some(v) => Some(Self(v)),
            None => None,
        }
    }
    /// The byte offset inside its page.
    pub const fn offset(self) -> usize {
        (self.0 & (PAGE_SIZE as u64 - 1)) as usize
    }
    /// The index into the page table of `level` (1 to 4) on the way to this address.
    pub const fn index(self, level: u32) -> usize {
        ((self.0 >> (PAGE_SHIFT + 9 * (level - 1))) & 511) as usize
    }
}

macro_rules! hex_debug {
    ($($t:ident)*) => {$(
        impl fmt::Debug for $t {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($t), "({:#x})"), self.0)
            }
        }
        impl fmt::LowerHex for $t {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::LowerHex::fmt(&self.0, f)
            }
        }
    )*};
}
hex_debug!(Maddr Mfn Pfn Vaddr);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_hole() {
        assert!(Vaddr(0x7fff_ffff_ffff).is_canonical());
        assert!(!Vaddr(0x8000_0000_0000).is_canonical());
        assert!(!Vaddr(0xffff_7fff_ffff_ffff).is_canonical());
        assert!(Vaddr(0xffff_8000_0000_0000).is_canonical());
    }

    #[test]
    fn table_indices() {
        let va = Vaddr(0xffff_8300_0020_1000);
        assert_eq!(
            (va.index(4), va.index(3), va.index(2), va.index(1)),
            (262, 0, 1, 1)
        );
    }
}
