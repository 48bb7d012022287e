//! `syscall` with the number in rax and the arguments in rdi, rsi, rdx, r10, r8.
//!
//! The instruction clobbers rcx and r11, and a hypercall that continues itself changes its argument registers
//! (Xen's public header `arch-x86/xen-x86_64.h`).

#![expect(unsafe_code, reason = "the hypercall instruction")]

use core::arch::asm;

/// Makes a hypercall without arguments.
///
/// # Safety
/// The caller is responsible for what the call does to its memory and registers.
#[inline]
pub unsafe fn hypercall0(number: u64) -> i64 {
    let ret: i64;
    // SAFETY: the caller's promise; rcx, r11 and flags are declared as clobbered.
    unsafe {
        asm!("syscall", inlateout("rax") number => ret, lateout("rcx") _, lateout("r11") _);
    }
    ret
}

macro_rules! hypercalls {
    ($($name:ident, $doc:literal, ($($arg:ident $reg:tt),*);)*) => { $(
        #[doc = $doc]
        ///
        /// # Safety
        /// The caller is responsible for what the call does to its memory and registers. Pointers among the arguments
        /// must be valid for what the call reads and writes.
        #[inline]
        pub unsafe fn $name(number: u64, $($arg: u64),*) -> i64 {
            let ret: i64;
            // SAFETY: the caller's promise; all registers that the call changes are declared.
            unsafe {
                asm!(
                    "syscall",
                    inlateout("rax") number => ret,
                    $(inlateout($reg) $arg => _,)*
                    lateout("rcx") _,
                    lateout("r11") _,
                );
            }
            ret
        }
    )* };
}

hypercalls! {
    hypercall1, "A hypercall with one argument.", (a "rdi");
    hypercall2, "A hypercall with two arguments.", (a "rdi", b "rsi");
    hypercall3, "A hypercall with three arguments.", (a "rdi", b "rsi", c "rdx");
    hypercall4, "A hypercall with four arguments.", (a "rdi", b "rsi", c "rdx", d "r10");
    hypercall5, "A hypercall with five arguments.", (a "rdi", b "rsi", c "rdx", d "r10", e "r8");
}
