//! `int 0x82` with the number in eax and the arguments in ebx, ecx, edx, esi, edi.
//!
//! A hypercall that continues itself changes its argument registers (Xen's public header `arch-x86/xen-x86_32.h`).

#![expect(unsafe_code, reason = "the hypercall instruction")]

use core::arch::asm;

use crate::arch_x86::HYPERCALL_VECTOR;

/// Makes a hypercall without arguments.
///
/// # Safety
/// The caller is responsible for what the call does to its memory and registers.
#[inline]
pub unsafe fn hypercall0(number: u64) -> i64 {
    let ret: i32;
    // SAFETY: the caller's promise.
    unsafe {
        asm!("int {}", const HYPERCALL_VECTOR, inlateout("eax") number as u32 => ret);
    }
    ret.into()
}

macro_rules! hypercalls {
    ($($name:ident, $doc:literal, ($($arg:ident $reg:tt),*);)*) => { $(
        #[doc = $doc]
        ///
        /// # Safety
        /// The caller is responsible for what the call does to its memory and registers. Pointers among the arguments
        /// must be valid for what the call reads and writes.
        #[inline]
        pub unsafe fn $name(number: u64, $($arg: u32),*) -> i64 {
            let ret: i32;
            // SAFETY: the caller's promise; all registers that the call changes are declared.
            unsafe {
                asm!(
                    "int {}",
                    const HYPERCALL_VECTOR,
                    inlateout("eax") number as u32 => ret,
                    $(inlateout($reg) $arg => _,)*
                );
            }
            ret.into()
        }
    )* };
}

hypercalls! {
    hypercall1, "A hypercall with one argument.", (a "ebx");
    hypercall2, "A hypercall with two arguments.", (a "ebx", b "ecx");
    hypercall3, "A hypercall with three arguments.", (a "ebx", b "ecx", c "edx");
}

/// A hypercall with four arguments.
///
/// # Safety
/// As for [`hypercall3`].
#[inline]
pub unsafe fn hypercall4(number: u64, a: u32, b: u32, c: u32, d: u32) -> i64 {
    // SAFETY: the caller's promise; a fifth argument is ignored.
    unsafe { hypercall5(number, a, b, c, d, 0) }
}

/// A hypercall with five arguments.
///
/// # Safety
/// As for [`hypercall3`].
#[inline]
pub unsafe fn hypercall5(number: u64, a: u32, b: u32, c: u32, d: u32, e: u32) -> i64 {
    // The compiler keeps esi for itself, and no other register is left: eax points to the number and the fourth
    // argument.
    let number_and_d = [number as u32, d];
    let ret: i32;
    // SAFETY: the caller's promise; all registers that the call changes are declared or restored.
    unsafe {
        asm!(
            "push esi",
            "mov esi, [eax + 4]",
            "mov eax, [eax]",
            "int {}",
            "pop esi",
            const HYPERCALL_VECTOR,
            inlateout("eax") number_and_d.as_ptr() => ret,
            inlateout("ebx") a => _,
            inlateout("ecx") b => _,
            inlateout("edx") c => _,
            inlateout("edi") e => _,
        );
    }
    ret.into()
}
