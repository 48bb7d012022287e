//! Guest memory, accessed by the addresses that the guest uses.
//!
//! [`Guest`] stands for the address space of the calling vCPU. A guest pointer is an unchecked claim: if its page is
//! not mapped, or not writable, the access stops at the fault and returns an error. The faulting instruction is
//! listed in the exception table (section `.extable`, pairs of 32-bit offsets relative to their own position: fault
//! address, landing address).
//!
//! An address that is not the guest's is replaced by [`layout::NOWHERE`] with branch-free arithmetic, so that
//! speculation can't bypass the check. An access to a few words needs no other check, because it then faults.
//!
//! The instructions are in `bare`; `host` replaces them and the guest's memory in tests.

#[cfg(target_os = "none")]
mod bare;
pub mod frames;
#[cfg(not(target_os = "none"))]
mod host;

use core::marker::PhantomData;

#[cfg(target_os = "none")]
use bare as raw;
use guest_pv_abi::{Form, Width};
#[cfg(not(target_os = "none"))]
use host as raw;
#[cfg(not(target_os = "none"))]
pub use host::map as map_fake;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::layout;
use crate::kit::Vaddr;

/// A bad guest pointer: not a guest address, not mapped, or not writable. Becomes -EFAULT.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fault;

/// A vCPU's memory, by the addresses that its code uses.
///
/// For a PV vCPU these are addresses in the page tables loaded on this CPU. The handle is the permission to use them, and
/// knows the form in which the guest has its structures: callers have them in the wide form.
#[derive(Clone, Copy, Debug)]
pub struct Guest<'a> {
    width: Width,
    loaded: PhantomData<&'a ()>,
}

/// The form of wide guests' structures, or of those that are the same in both forms.
pub const WIDE: bool = true;
/// The form of narrow guests' structures.
pub const NARROW: bool = false;

/// The offset of a field in the guest's form of an ABI structure, in bytes. The structure is named by its module and its
/// name, as its narrow form has the same name in `guest_pv_abi::narrow`.
macro_rules! offset_in {
    ($width:expr, $module:ident::$structure:ident, $($field:tt)+) => {
        match $width {
            ::guest_pv_abi::Width::Wide => ::core::mem::offset_of!($module::$structure, $($field)+) as u64,
            ::guest_pv_abi::Width::Narrow => {
                ::core::mem::offset_of!(::guest_pv_abi::narrow::$structure, $($field)+) as u64
            }
        }
    };
}
pub(crate) use offset_in;

/// A number of a list whose elements are the guest's `unsigned long`s: a frame number, mostly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
#[repr(transparent)]
pub struct Long(pub u64);

impl Form for Long {
    type Narrow = u32;
    const SAME: bool = false;
    fn widen(narrow: u32) -> Self {
        Self(narrow.into())
    }
    fn narrow(&self) -> u32 {
        self.0 as u32
    }
}

impl Guest<'_> {
    /// The memory of the vCPU that runs on this CPU, which has this width.
    #[inline(always)] // only moves a word
    pub const fn loaded(width: Width) -> Self {
        Self {
            width,
            loaded: PhantomData,
        }
    }

    /// The same in one form, [`WIDE`] or [`NARROW`], for a function that has an instance for each.
    #[inline(always)] // a constant
    pub const fn in_form<const FORM: bool>() -> Self {
        Self::loaded(if FORM == WIDE {
            Width::Wide
        } else {
            Width::Narrow
        })
    }

    /// The width of the guest.
    pub const fn width(self) -> Width {
        self.width
    }

    /// The size of an ABI structure in the guest's memory.
    #[inline(always)] // a constant for most
    pub fn size<T: Form>(self) -> u64 {
        T::size(self.width) as u64
    }

    /// Reads an ABI structure.
    #[inline(always)] // the test is needed for few structures
    pub fn read<T: Form>(self, at: Vaddr) -> Result<T, Fault> {
        if T::SAME || self.width == Width::Wide {
            return self.read_as_is(at);
        }
        self.read_narrow(at)
    }

    #[inline(never)] // off the path of wide guests
    fn read_narrow<T: Form>(self, at: Vaddr) -> Result<T, Fault> {
        self.read_as_is(at).map(T::widen)
    }

    /// Reads a structure that has this form in the guest's memory. One of a few words is read through registers.
    #[inline(always)] // one instruction for each word
    pub fn read_as_is<T: FromBytes + IntoBytes>(self, at: Vaddr) -> Result<T, Fault> {
        if raw::is_loaded::<T>() {
            return raw::load(at);
        }
        let mut value = T::new_zeroed();
        self.read_bytes(value.as_mut_bytes(), at)?;
        Ok(value)
    }

    /// Writes an ABI structure. On a fault, the bytes written before it stay. A narrow guest gets the low halves of
    /// values that it has no room for.
    #[inline(always)] // the test is needed for few structures
    pub fn write<T: Form>(self, at: Vaddr, value: &T) -> Result<(), Fault> {
        if T::SAME || self.width == Width::Wide {
            return self.write_as_is(at, value);
        }
        self.write_narrow(at, value)
    }

    #[inline(never)] // off the path of wide guests
    fn write_narrow<T: Form>(self, at: Vaddr, value: &T) -> Result<(), Fault> {
        self.write_as_is(at, &value.narrow())
    }

    /// Writes a structure that has this form in the guest's memory. One of a few words is written through registers.
    #[inline(always)] // one instruction for each word
    fn write_as_is<T: IntoBytes + Immutable>(self, at: Vaddr, value: &T) -> Result<(), Fault> {
        if raw::is_stored::<T>() {
            return raw::store(at, value);
        }
        self.write_bytes(at, value.as_bytes())
    }

    /// Reads element `index` of an ABI array.
    #[inline(always)] // for the reason given at `read`
    pub fn read_at<T: Form>(self, array: Vaddr, index: u64) -> Result<T, Fault> {
        self.read(self.element::<T>(array, index)?)
    }

    /// Writes element `index` of an ABI array.
    #[inline(always)] // for the reason given at `write`
    pub fn write_at<T: Form>(self, array: Vaddr, index: u64, value: &T) -> Result<(), Fault> {
        self.write(self.element::<T>(array, index)?, value)
    }

    /// Returns the address of element `index` of an array of `T`.
    fn element<T: Form>(self, array: Vaddr, index: u64) -> Result<Vaddr, Fault> {
        let offset = index.checked_mul(self.size::<T>()).ok_or(Fault)?;
        array.checked_add(offset).ok_or(Fault)
    }

    /// Fills `out`. On a fault, the bytes read before it stay in `out`.
    pub fn read_bytes(self, out: &mut [u8], at: Vaddr) -> Result<(), Fault> {
        check(at, out.len())?;
        match raw::copy_from(at, out) {
            0 => Ok(()),
            _ => Err(Fault),
        }
    }

    /// Writes `bytes`. On a fault, the bytes written before it stay.
    pub fn write_bytes(self, at: Vaddr, bytes: &[u8]) -> Result<(), Fault> {
        check(at, bytes.len())?;
        match raw::copy_to(at, bytes) {
            0 => Ok(()),
            _ => Err(Fault),
        }
    }

    /// Fills `out` until a fault, and returns the number of missing bytes.
    pub fn read_partly(self, out: &mut [u8], at: Vaddr) -> usize {
        match check(at, out.len()) {
            Ok(()) => raw::copy_from(at, out),
            Err(Fault) => out.len(),
        }
    }

    /// Writes `bytes` until a fault, and returns the number of bytes left.
    pub fn write_partly(self, at: Vaddr, bytes: &[u8]) -> usize {
        match check(at, bytes.len()) {
            Ok(()) => raw::copy_to(at, bytes),
            Err(Fault) => bytes.len(),
        }
    }
}

#[inline]
fn check(at: Vaddr, bytes: usize) -> Result<(), Fault> {
    if layout::guest_range(at, bytes as u64) {
        Ok(())
    } else {
        Err(Fault)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VA: Vaddr = Vaddr(0x5000_0000);

    #[test]
    fn copies_and_faults() {
        map_fake(VA, 2);
        let (end, guest) = (Vaddr(VA.0 + 0x2000), Guest::loaded(Width::Wide));
        guest.write(VA, &0x1122_3344_5566_7788u64).unwrap();
        assert_eq!(guest.read::<u32>(Vaddr(VA.0 + 4)).unwrap(), 0x1122_3344);
        guest.write(Vaddr(VA.0 + 2), &0xaabb_u16).unwrap();
        assert_eq!(guest.read::<u64>(VA), Ok(0x1122_3344_aabb_7788));
        assert_eq!(guest.write(end, &1_u16), Err(Fault));
        guest.write_at(VA, 1023, &7u64).unwrap();
        assert_eq!(guest.read_at::<u64>(VA, 1023), Ok(7));
        assert_eq!(guest.read_at::<u64>(VA, 1024), Err(Fault));
        assert_eq!(guest.read_at::<u64>(VA, u64::MAX / 8), Err(Fault));
        guest.write(VA, &[1_u64, 2, 3, 4, 5]).unwrap();
        assert_eq!(guest.read::<[u64; 5]>(VA), Ok([1, 2, 3, 4, 5]));
        assert_eq!(guest.read::<[u64; 2]>(Vaddr(end.0 - 8)), Err(Fault));
        assert_eq!(guest.write(Vaddr(end.0 - 8), &[6_u64, 7]), Err(Fault));
        assert_eq!(guest.write_partly(Vaddr(end.0 - 3), &[1; 8]), 5);
        assert_eq!(guest.read_partly(&mut [0; 8], Vaddr(end.0 - 3)), 5);
    }

    #[test]
    fn the_hypervisor_is_out_of_reach() {
        let (m2p, guest) = (Vaddr(layout::M2P), Guest::loaded(Width::Wide));
        assert_eq!(guest.read::<u64>(m2p), Err(Fault));
        assert_eq!(guest.write(Vaddr(layout::DIRECT_MAP), &0u64), Err(Fault));
        assert_eq!(guest.read::<u64>(Vaddr(0x8000_0000_0000)), Err(Fault));
        assert_eq!(guest.write(m2p, &0_u64), Err(Fault));
        assert_eq!(guest.read_bytes(&mut [], m2p), Err(Fault));
        assert_eq!(guest.read::<[u64; 64]>(m2p), Err(Fault));
        assert_eq!(guest.write(m2p, &[0_u64; 64]), Err(Fault));
    }
}
