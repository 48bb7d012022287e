//! The entry point and the ELF notes.

#![expect(unsafe_code, reason = "the entry point")]

use core::arch::global_asm;

use guest_pv_abi::elfnote;

use crate::cpu::{BOOT_STACK, CPU_BLOCK_BYTES, STACK_BYTES};
use crate::start::start;

// The notes by which a builder recognises a PV kernel (public header elfnote.h): owner "Xen", 4-byte aligned.
global_asm!(
    r#"
    .macro xen_note type, value:vararg
        .balign 4
        .long 4
        .long 5f - 4f
        .long \type
        .asciz "Xen"
    4:  \value
    5:  .balign 4
    .endm

    .pushsection .note.Xen, "a", @note
    xen_note {guest_os}, .asciz "xenlike-rt"
    xen_note {guest_version}, .asciz "1"
    xen_note {xen_version}, .asciz "xen-3.0"
    xen_note {loader}, .asciz "generic"
    xen_note {virt_base}, .quad VIRT_BASE
    xen_note {paddr_offset}, .quad 0
    xen_note {entry}, .quad _start
    xen_note {features}, .asciz "!writable_page_tables|pae_pgdir_above_4gb"
    xen_note {pae_mode}, .asciz "yes"
    .popsection

    .pushsection .text.start, "ax", @progbits
    .global _start
    _start:
        cld
        xor ebp, ebp
        mov rdi, rsi
        mov rsi, rsp
        rdtsc
        shl rdx, 32
        or rdx, rax
        lea rsp, [rip + {stack} + {stack_top}]
        call {start}
        ud2
    .popsection
    "#,
    guest_os = const elfnote::XEN_ELFNOTE_GUEST_OS,
    guest_version = const elfnote::XEN_ELFNOTE_GUEST_VERSION,
    xen_version = const elfnote::XEN_ELFNOTE_XEN_VERSION,
    loader = const elfnote::XEN_ELFNOTE_LOADER,
    virt_base = const elfnote::XEN_ELFNOTE_VIRT_BASE,
    paddr_offset = const elfnote::XEN_ELFNOTE_PADDR_OFFSET,
    entry = const elfnote::XEN_ELFNOTE_ENTRY,
    features = const elfnote::XEN_ELFNOTE_FEATURES,
    pae_mode = const elfnote::XEN_ELFNOTE_PAE_MODE,
    stack = sym BOOT_STACK,
    stack_top = const STACK_BYTES - CPU_BLOCK_BYTES,
    start = sym start,
);
