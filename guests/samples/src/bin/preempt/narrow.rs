//! The process of a 32-bit guest.

use core::arch::global_asm;

use crate::EXIT;

// System calls: number in eax, argument in ebx. The argument is the number of looks that are left when a register has
// changed, and 0 if none has.
global_asm!(
    r#"
    .pushsection .text.process, "ax", @progbits
    .balign 4096
    .global preempt_start
    preempt_start:
        mov esi, [esp]
        mov ebx, [esp + 4]
        movd xmm0, esi
        movd xmm7, esi
        fninit
        fild dword ptr [esp]
    2:  movd eax, xmm0
        cmp eax, esi
        jne 3f
        movd eax, xmm7
        cmp eax, esi
        jne 3f
        fist dword ptr [esp - 4]
        cmp [esp - 4], esi
        jne 3f
        dec ebx
        jnz 2b
    3:  mov eax, {exit}
        int 0x80
        ud2
    .balign 4096
    .popsection
    "#,
    exit = const EXIT,
);
