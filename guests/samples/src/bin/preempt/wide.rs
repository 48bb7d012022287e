//! The process of a 64-bit guest.

use core::arch::global_asm;

use crate::EXIT;

// System calls: number in rax, argument in rdi. The argument is the number of looks that are left when a register has
// changed, and 0 if none has.
global_asm!(
    r#"
    .pushsection .text.process, "ax", @progbits
    .balign 4096
    .global preempt_start
    preempt_start:
        mov esi, [rsp]
        mov edi, [rsp + 4]
        movd xmm0, esi
        movd xmm15, esi
        fninit
        fild dword ptr [rsp]
    2:  movd eax, xmm0
        cmp eax, esi
        jne 3f
        movd eax, xmm15
        cmp eax, esi
        jne 3f
        fist dword ptr [rsp - 4]
        cmp [rsp - 4], esi
        jne 3f
        dec edi
        jnz 2b
    3:  mov eax, {exit}
        syscall
        ud2
    .balign 4096
    .popsection
    "#,
    exit = const EXIT,
);
