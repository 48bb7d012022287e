//! Copies from and to guest virtual addresses, in the address space that is loaded: the running
//! vCPU's. A guest pointer is a claim; if its page is not there, or not writable, the copy stops at
//! the fault and tells so: the faulting instruction is in the exception table (section `.extable`,
//! pairs of 32-bit offsets from their own places: fault address, landing address).
//!
//! An address that is not the guest's becomes [`layout::NOWHERE`] by arithmetic, so that speculation
//! can't pass the check by; a few words need no other check, since the access then faults.
#![cfg_attr(
    target_os = "none",
    expect(
        unsafe_code,
        reason = "copies by instructions that may fault, with landings in .extable"
    )
)]

mod bare;
pub mod frames;

use zerocopy::{FromBytes, IntoBytes};

use crate::kit::Vaddr;
use crate::mm::layout;

/// A guest pointer that leads nowhere: not a guest address, not mapped, or not writable. -EFAULT.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fault;

/// Fills `out` from guest memory at `va`. On a fault, what was copied before it stays.
pub fn copy_from_guest(out: &mut [u8], va: Vaddr) -> Result<(), Fault> {
    check(va, out.len())?;
    match raw::from_guest(va, out) {
        0 => Ok(()),
        _ => Err(Fault),
    }
}

/// Writes `bytes` to guest memory at `va`. On a fault, what was copied before it stays.
pub fn copy_to_guest(va: Vaddr, bytes: &[u8]) -> Result<(), Fault> {
    check(va, bytes.len())?;
    match raw::to_guest(va, bytes) {
        0 => Ok(()),
        _ => Err(Fault),
    }
}

/// As [`copy_from_guest`], and tells how many bytes could not be copied, 0 being all well.
pub fn copy_from_guest_partly(out: &mut [u8], va: Vaddr) -> usize {
    match check(va, out.len()) {
        Ok(()) => raw::from_guest(va, out),
        Err(Fault) => out.len(),
    }
}

/// As [`copy_to_guest`], and tells how many bytes could not be copied, 0 being all well.
pub fn copy_to_guest_partly(va: Vaddr, bytes: &[u8]) -> usize {
    match check(va, bytes.len()) {
        Ok(()) => raw::to_guest(va, bytes),
        Err(Fault) => bytes.len(),
    }
}

/// Reads a 32-bit word.
#[inline]
pub fn read_u32(va: Vaddr) -> Result<u32, Fault> {
    raw::u32_from_guest(va).ok_or(Fault)
}

/// A multicall entry's number and its first four arguments: no call has more.
#[inline]
pub fn read_call(va: Vaddr) -> Result<(u64, [u64; 4]), Fault> {
    raw::call_from_guest(va).ok_or(Fault)
}

/// Reads a small structure that is made of 64-bit words: a handler's first look at the guest.
#[inline]
pub fn read_words<T: FromBytes + IntoBytes>(va: Vaddr) -> Result<T, Fault> {
    const { assert!(size_of::<T>().is_multiple_of(8)) }
    if are_few_words::<T>() {
        return bare::load(va);
    }
    let mut value = T::new_zeroed();
    match raw::words_from_guest(va, value.as_mut_bytes()) {
        0 => Ok(value),
        _ => Err(Fault),
    }
}

/// Writes some 64-bit words.
#[inline]
pub fn write_words(va: Vaddr, words: &[u64]) -> Result<(), Fault> {
    if words.len() <= bare::MOST {
        return bare::store(va, words);
    }
    match raw::words_to_guest(va, words.as_bytes()) {
        0 => Ok(()),
        _ => Err(Fault),
    }
}

/// Writes a 16-bit word: a status, mostly.
#[inline]
pub fn write_u16(va: Vaddr, value: u16) -> Result<(), Fault> {
    bare::store_u16(va, value)
}

/// Reads a structure of the ABI.
pub fn read<T: FromBytes + IntoBytes>(va: Vaddr) -> Result<T, Fault> {
    if are_few_words::<T>() {
        return bare::load(va);
    }
    let mut value = T::new_zeroed();
    let out = value.as_mut_bytes();
    check(va, out.len())?;
    let left = if size_of::<T>().is_multiple_of(8) {
        raw::words_from_guest(va, out)
    } else {
        raw::from_guest(va, out)
    };
    if left == 0 { Ok(value) } else { Err(Fault) }
}

/// Writes a structure of the ABI.
pub fn write<T: IntoBytes + zerocopy::Immutable>(va: Vaddr, value: &T) -> Result<(), Fault> {
    let bytes = value.as_bytes();
    if are_few_words::<T>() {
        return bare::store_value(va, value);
    }
    check(va, bytes.len())?;
    let left = if size_of::<T>().is_multiple_of(8) {
        raw::words_to_guest(va, bytes)
    } else {
        raw::to_guest(va, bytes)
    };
    if left == 0 { Ok(()) } else { Err(Fault) }
}

/// Reads element `index` of an array of the ABI.
pub fn read_at<T: FromBytes + IntoBytes>(array: Vaddr, index: u64) -> Result<T, Fault> {
    read(element::<T>(array, index)?)
}

/// Writes element `index` of an array of the ABI.
pub fn write_at<T: IntoBytes + zerocopy::Immutable>(
    array: Vaddr,
    index: u64,
    value: &T,
) -> Result<(), Fault> {
    write(element::<T>(array, index)?, value)
}

/// Whether `T` is what [`bare`] are for.
const fn are_few_words<T>() -> bool {
    let bytes = size_of::<T>();
    bytes != 0 && bytes.is_multiple_of(8) && bytes <= bare::MOST * 8
}

/// The address of element `index` of an array of `T`.
pub fn element<T>(array: Vaddr, index: u64) -> Result<Vaddr, Fault> {
    let offset = index.checked_mul(size_of::<T>() as u64).ok_or(Fault)?;
    array.checked_add(offset).ok_or(Fault)
}

#[inline]
fn check(va: Vaddr, bytes: usize) -> Result<(), Fault> {
    if layout::guest_range(va, bytes as u64) {
        Ok(())
    } else {
        Err(Fault)
    }
}

#[cfg(target_os = "none")]
mod raw {
    use core::arch::asm;
    use core::mem::offset_of;

    use guest_pv_abi::xen::MulticallEntry;

    use crate::kit::Vaddr;
    use crate::mm::layout::guest_or_nowhere;

    /// Runs `access` with guest memory open to it, where SMAP keeps it shut.
    #[inline(always)] // so that nothing but the access is between the two instructions
    fn with_access<R>(access: impl FnOnce() -> R) -> R {
        // SAFETY: opens guest memory to ring 0, which takes nothing from anybody.
        unsafe { asm!(crate::open_guest_memory!(), options(nomem, nostack)) };
        let result = access();
        // SAFETY: closes it.
        unsafe { asm!(crate::close_guest_memory!(), options(nomem, nostack)) };
        result
    }

    /// Copies `bytes` from `from` to `to`; tells how many bytes were left at a fault.
    ///
    /// # Safety
    /// The hypervisor's side of the copy is `bytes` long and its own; the other is a guest range.
    #[inline(always)] // so that the guest's address is bounded in the function that uses it
    unsafe fn copy(from: u64, to: u64, bytes: usize) -> usize {
        // Whole words first: a fault there leaves rcx words; then the odd bytes.
        // SAFETY: the caller's promise; a fault on the guest's side lands at the label given in the
        // exception table. The direction flag is clear by the ABI.
        with_access(|| unsafe {
            let left: usize;
            asm!(
                "2: rep movsq",
                "mov ecx, {odd:e}",
                "3: rep movsb",
                "4:",
                ".pushsection .text.guest_copy_fixup, \"ax\"",
                "5: lea rcx, [{odd} + rcx * 8]",
                "jmp 4b",
                ".popsection",
                crate::extable!("2b", "5b"),
                crate::extable!("3b", "4b"),
                odd = in(reg) bytes & 7,
                inout("rcx") bytes >> 3 => left,
                inout("rsi") from => _,
                inout("rdi") to => _,
                options(nostack),
            );
            left
        })
    }

    /// As [`copy`], for whole words; tells how many were left.
    ///
    /// # Safety
    /// As [`copy`].
    #[inline(always)] // likewise
    unsafe fn copy_words(from: u64, to: u64, words: usize) -> usize {
        // SAFETY: as in `copy`.
        with_access(|| unsafe {
            let left: usize;
            asm!(
                "2: rep movsq",
                "3:",
                crate::extable!("2b", "3b"),
                inout("rcx") words => left,
                inout("rsi") from => _,
                inout("rdi") to => _,
                options(nostack),
            );
            left
        })
    }

    #[inline]
    pub(super) fn u32_from_guest(va: Vaddr) -> Option<u32> {
        /// What no 32-bit word is.
        const NO_WORD: u64 = u64::MAX;
        let va = guest_or_nowhere(va);
        // SAFETY: `va` is outside the hypervisor's slots; a fault lands where the value says so.
        let value = with_access(|| unsafe {
            let value: u64;
            asm!(
                "2: mov {value:e}, dword ptr [{at}]",
                "3:",
                ".pushsection .text.guest_copy_fixup, \"ax\"",
                "4: mov {value}, -1",
                "jmp 3b",
                ".popsection",
                crate::extable!("2b", "4b"),
                value = lateout(reg) value,
                at = in(reg) va.0,
                options(nostack, preserves_flags, readonly),
            );
            value
        });
        (value != NO_WORD).then_some(value as u32)
    }

    /// For so few words a string instruction takes longer to begin than to run.
    #[inline]
    pub(super) fn call_from_guest(va: Vaddr) -> Option<(u64, [u64; 4])> {
        /// What the address becomes at a fault: one that is not a guest's.
        const NOWHERE: i64 = i64::MIN;
        let va = guest_or_nowhere(va);
        // SAFETY: `va` is outside the hypervisor's slots, which a run of a few words from there does not
        // reach; a fault lands where the address says so.
        let (at, number, args) = with_access(|| unsafe {
            let (at, number): (u64, u64);
            let (first, second, third, fourth): (u64, u64, u64, u64);
            asm!(
                "20: mov {number}, [{at} + {op}]",
                "21: mov {first}, [{at} + {args}]",
                "22: mov {second}, [{at} + {args} + 8]",
                "23: mov {third}, [{at} + {args} + 16]",
                "24: mov {fourth}, [{at} + {args} + 24]",
                "25:",
                ".pushsection .text.guest_copy_fixup, \"ax\"",
                "26: movabs {at}, {nowhere}",
                "jmp 25b",
                ".popsection",
                crate::extable!("20b", "26b"),
                crate::extable!("21b", "26b"),
                crate::extable!("22b", "26b"),
                crate::extable!("23b", "26b"),
                crate::extable!("24b", "26b"),
                at = inout(reg) va.0 => at,
                op = const offset_of!(MulticallEntry, op),
                args = const offset_of!(MulticallEntry, args),
                nowhere = const NOWHERE,
                number = out(reg) number,
                first = out(reg) first,
                second = out(reg) second,
                third = out(reg) third,
                fourth = out(reg) fourth,
                options(nostack, preserves_flags, readonly),
            );
            (at, number, [first, second, third, fourth])
        });
        (at != NOWHERE as u64).then_some((number, args))
    }

    #[inline]
    pub(super) fn words_from_guest(va: Vaddr, out: &mut [u8]) -> usize {
        // SAFETY: `out` is writable for its length; `va` was checked to be outside the
        // hypervisor's slots.
        unsafe {
            copy_words(
                guest_or_nowhere(va).0,
                out.as_mut_ptr() as u64,
                out.len() / 8,
            )
        }
    }

    #[inline]
    pub(super) fn words_to_guest(va: Vaddr, words: &[u8]) -> usize {
        // SAFETY: `words` is readable; `va` was checked to be outside the hypervisor's slots.
        unsafe {
            copy_words(
                words.as_ptr() as u64,
                guest_or_nowhere(va).0,
                words.len() / 8,
            )
        }
    }

    pub(super) fn from_guest(va: Vaddr, out: &mut [u8]) -> usize {
        // SAFETY: `out` is writable for its length; `va` was checked to be outside the
        // hypervisor's slots.
        unsafe { copy(guest_or_nowhere(va).0, out.as_mut_ptr() as u64, out.len()) }
    }

    pub(super) fn to_guest(va: Vaddr, bytes: &[u8]) -> usize {
        // SAFETY: `bytes` is readable for its length; `va` was checked to be outside the
        // hypervisor's slots, so that this writes no memory of the hypervisor's.
        unsafe { copy(bytes.as_ptr() as u64, guest_or_nowhere(va).0, bytes.len()) }
    }
}

#[cfg(not(target_os = "none"))]
mod raw {
    use guest_pv_abi::xen::MulticallEntry;
    use zerocopy::{FromZeros, IntoBytes};

    use crate::kit::Vaddr;
    use crate::mm::host::with_guest_byte;

    pub(super) fn u32_from_guest(va: Vaddr) -> Option<u32> {
        let mut word = [0; 4];
        (from_guest(va, &mut word) == 0).then_some(u32::from_le_bytes(word))
    }

    pub(super) fn call_from_guest(va: Vaddr) -> Option<(u64, [u64; 4])> {
        let mut entry = MulticallEntry::new_zeroed();
        let left = from_guest(va, entry.as_mut_bytes());
        let [args @ .., _, _] = entry.args;
        (left == 0).then_some((entry.op, args))
    }

    pub(super) fn words_from_guest(va: Vaddr, out: &mut [u8]) -> usize {
        from_guest(va, out).div_ceil(8)
    }

    pub(super) fn words_to_guest(va: Vaddr, words: &[u8]) -> usize {
        to_guest(va, words).div_ceil(8)
    }

    pub(super) fn from_guest(va: Vaddr, out: &mut [u8]) -> usize {
        let total = out.len();
        for (n, byte) in out.iter_mut().enumerate() {
            if !with_guest_byte(Vaddr(va.0.wrapping_add(n as u64)), |b| *byte = *b) {
                return total - n;
            }
        }
        0
    }

    pub(super) fn to_guest(va: Vaddr, bytes: &[u8]) -> usize {
        for (n, byte) in bytes.iter().enumerate() {
            if !with_guest_byte(Vaddr(va.0.wrapping_add(n as u64)), |b| *b = *byte) {
                return bytes.len() - n;
            }
        }
        0
    }
}

/// Maps zeroed pages of fake guest memory, for tests; each test takes addresses of its own.
#[cfg(not(target_os = "none"))]
pub fn map_fake(va: Vaddr, pages: u64) {
    crate::mm::host::map_guest(va, pages);
}

#[cfg(test)]
mod tests {
    use super::*;

    const VA: Vaddr = Vaddr(0x5000_0000);

    #[test]
    fn copies_and_faults() {
        map_fake(VA, 2);
        let end = Vaddr(VA.0 + 0x2000);
        write(VA, &0x1122_3344_5566_7788u64).unwrap();
        assert_eq!(read::<u32>(Vaddr(VA.0 + 4)).unwrap(), 0x1122_3344);
        write_u16(Vaddr(VA.0 + 2), 0xaabb).unwrap();
        assert_eq!(read::<u64>(VA), Ok(0x1122_3344_aabb_7788));
        assert_eq!(write_u16(end, 1), Err(Fault));
        write_at(VA, 1023, &7u64).unwrap();
        assert_eq!(read_at::<u64>(VA, 1023), Ok(7));
        assert_eq!(read_at::<u64>(VA, 1024), Err(Fault));
        assert_eq!(read_at::<u64>(VA, u64::MAX / 8), Err(Fault));
        write_words(VA, &[1, 2, 3, 4, 5]).unwrap();
        assert_eq!(read_words::<[u64; 5]>(VA), Ok([1, 2, 3, 4, 5]));
        assert_eq!(read_words::<[u64; 2]>(Vaddr(end.0 - 8)), Err(Fault));
        assert_eq!(write_words(Vaddr(end.0 - 8), &[6, 7]), Err(Fault));
        assert_eq!(copy_to_guest_partly(Vaddr(end.0 - 3), &[1; 8]), 5);
        assert_eq!(copy_from_guest_partly(&mut [0; 8], Vaddr(end.0 - 3)), 5);
    }

    #[test]
    fn a_calls_number_and_arguments() {
        let page = Vaddr(0x5001_0000);
        map_fake(page, 1);
        let words: [u64; 8] = [29, 100, 1, 2, 3, 4, 5, 6];
        write(page, &words).unwrap();
        assert_eq!(read_call(page), Ok((29, [1, 2, 3, 4])));
        assert_eq!(read_call(Vaddr(page.0 + 0x1000)), Err(Fault));
        assert_eq!(read_call(Vaddr(layout::M2P)), Err(Fault));
    }

    #[test]
    fn the_hypervisor_is_out_of_reach() {
        assert_eq!(read::<u64>(Vaddr(layout::M2P)), Err(Fault));
        assert_eq!(write(Vaddr(layout::DIRECT_MAP), &0u64), Err(Fault));
        assert_eq!(read::<u64>(Vaddr(0x8000_0000_0000)), Err(Fault));
        assert_eq!(read_words::<u64>(Vaddr(layout::M2P)), Err(Fault));
        assert_eq!(write_words(Vaddr(layout::M2P), &[0]), Err(Fault));
        assert_eq!(copy_from_guest(&mut [], Vaddr(layout::M2P)), Err(Fault));
    }
}
