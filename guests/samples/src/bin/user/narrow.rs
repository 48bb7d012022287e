//! The process of a 32-bit guest.

use core::arch::global_asm;

use xenlike_rt::memory;
use xenlike_rt::traps::TrapFrame;

use crate::{CALLS, EXIT, GET_ID, MISSING, WRITE};

// System calls: number in eax, arguments in ebx and ecx, result in eax. ebp is where to continue after a fault on
// memory that isn't the process's.
global_asm!(
    r#"
    .pushsection .text.process, "ax", @progbits
    .balign 4096
    .global process_start
    process_start:
        // Position-independent: the code is mapped at another address than where it is linked.
        call 4f
        .ascii "a process in ring 3 says hello\n"
    4:  pop ebx
        mov ecx, 31
        mov eax, {write}
        int 0x80

        xor esi, esi
        mov edx, {calls}
    2:  mov eax, {get_id}
        int 0x80
        add esi, eax
        dec edx
        jnz 2b

        // A page that the kernel gives on demand.
        mov eax, {missing}
        mov dword ptr [eax], 5
        add esi, [eax]

        // The kernel's own memory: mapped, and not for us.
        call 5f
    3:  mov ebx, esi
        mov eax, {exit}
        int 0x80
        ud2
    5:  pop ebp
        mov eax, {kernel}
        mov eax, [eax]
        mov esi, 666
        jmp 3b
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
    frame.ebp.into()
}
