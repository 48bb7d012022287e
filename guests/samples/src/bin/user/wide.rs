//! The process of a 64-bit guest.

use core::arch::global_asm;

use xenlike_rt::memory;
use xenlike_rt::traps::TrapFrame;

use crate::{CALLS, EXIT, GET_ID, MISSING, WRITE};

// System calls: number in rax, arguments in rdi and rsi, result in rax. r15 is where to continue after a fault on
// memory that isn't the process's.
global_asm!(
    r#"
    .pushsection .text.process, "ax", @progbits
    .balign 4096
    .global process_start
    process_start:
        mov eax, {write}
        lea rdi, [rip + 5f]
        lea rsi, [rip + 6f]
        sub rsi, rdi
        syscall

        xor r12d, r12d
        mov ebx, {calls}
    2:  mov eax, {get_id}
        syscall
        add r12, rax
        dec ebx
        jnz 2b

        // A page that the kernel gives on demand.
        mov rax, {missing}
        mov qword ptr [rax], 5
        add r12, [rax]

        // The kernel's own memory: not there for us.
        lea r15, [rip + 3f]
        mov rax, {kernel}
        mov rax, [rax]
        mov r12d, 666
    3:
        mov rdi, r12
        mov eax, {exit}
        syscall
        ud2
    5:  .ascii "a process in ring 3 says hello\n"
    6:
    .balign 4096
    .popsection
    "#,
    write = const WRITE,
    get_id = const GET_ID,
    exit = const EXIT,
    calls = const CALLS,
    missing = const MISSING,
    kernel = const memory::VIRT_BASE,
);

/// Where the process wants to continue after a fault on memory that isn't its own.
pub fn landing(frame: &TrapFrame) -> u64 {
    frame.r15
}
