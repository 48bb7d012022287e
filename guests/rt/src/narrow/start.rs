//! The entry point.

#![expect(unsafe_code, reason = "the entry point")]

use core::arch::global_asm;

use crate::cpu::{BOOT_STACK, CPU_BLOCK_BYTES, STACK_BYTES};
use crate::start::start;

global_asm!(
    r#"
    .pushsection .text.start, "ax", @progbits
    .global _start
    _start:
        cld
        xor ebp, ebp
        mov ecx, esp
        rdtsc
        mov esp, offset {stack} + {stack_top}
        push edx
        push eax
        push ecx
        push esi
        call {start}
        ud2
    .popsection
    "#,
    stack = sym BOOT_STACK,
    stack_top = const STACK_BYTES - CPU_BLOCK_BYTES,
    start = sym start,
);
