//! Addresses and frame numbers. Each has a type of its own, so that a machine address can't be used
//! as a virtual one. Names follow Xen: an *MFN* numbers a machine frame, a *PFN* is a frame number in
//! a guest's own, pseudo-physical numbering.

use core::fmt;

/// The base-2 logarithm of [`PAGE_SIZE`].
pub const PAGE_SHIFT: u32 = 12;
/// The size of a page in bytes: 4 KiB.
pub const PAGE_SIZE: usize = 1 << PAGE_SHIFT;

/// The address bits that a page-table entry can hold: 52 (AMD APM vol. 2 §5.1).
const MADDR_MASK: u64 = (1 << 52) - 1;

/// A machine (host-physical) address in bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Maddr(pub u64);

/// A machine frame number: a machine address divided by the page size.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Mfn(pub u64);

/// A frame number in a guest's words, wherever the ABI says *gfn*: what the guest's domain resolves to an [`Mfn`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Gfn(pub u64);

/// A guest's pseudo-physical frame number, which means nothing to the hardware.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Pfn(pub u64);

/// A virtual address. Segments are flat, so it is the linear address too.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Vaddr(pub u64);

impl Maddr {
    /// The frame that holds this address; bits above 51 are ignored.
    pub const fn mfn(self) -> Mfn {
        Mfn((self.0 & MADDR_MASK) >> PAGE_SHIFT)
    }
    /// The byte offset within the frame.
    pub const fn offset(self) -> usize {
        (self.0 & (PAGE_SIZE as u64 - 1)) as usize
    }
}

impl Gfn {
    /// The value that means "no frame".
    pub const INVALID: Self = Self(u64::MAX);
}

impl Mfn {
    /// The value that means "no frame", Xen's INVALID_MFN.
    #[cfg(test)]
    pub const INVALID: Self = Self(u64::MAX);

    /// The machine address of the frame's first byte.
    pub const fn maddr(self) -> Maddr {
        Maddr(self.0.wrapping_shl(PAGE_SHIFT))
    }
    /// The frame number plus `n`. It saturates: the frame table refuses a number that is too high.
    pub const fn add(self, n: u64) -> Self {
        Self(self.0.saturating_add(n))
    }
}

impl Vaddr {
    /// Whether the CPU accepts this as an address: bits 63 to 47 are all equal (AMD APM vol. 2 §5.3.1).
    pub const fn is_canonical(self) -> bool {
        let top = (self.0 as i64) >> 47;
        top == 0 || top == -1
    }
    /// Whether it is the null pointer, by which a guest passes nothing.
    pub const fn is_null(self) -> bool {
        self.0 == 0
    }
    /// The address plus `bytes`, or `None` if the sum would wrap around.
    pub const fn checked_add(self, bytes: u64) -> Option<Self> {
        match self.0.checked_add(bytes) {
            Some(v) => Some(Self(v)),
            None => None,
        }
    }
    /// The address plus `bytes`. A sum that wraps around is no better than any address that a guest makes up.
    pub const fn wrapping_add(self, bytes: u64) -> Self {
        Self(self.0.wrapping_add(bytes))
    }
    /// The byte offset within the page.
    pub const fn offset(self) -> usize {
        (self.0 & (PAGE_SIZE as u64 - 1)) as usize
    }
    /// The index of this address' entry in a page table of `level`, 1 (L1) to 4 (L4).
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
hex_debug!(Gfn Maddr Mfn Pfn Vaddr);

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
