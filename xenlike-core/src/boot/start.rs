//! The first instructions: from GRUB's 32-bit mode to Rust at the image's address in 64-bit mode.
//!
//! The assembly checks that there is a long mode with NX, loads the constant page tables of
//! [`super::tables`], and jumps. Everything else is Rust.
#![expect(unsafe_code, reason = "the first instructions")]

use core::arch::global_asm;

use super::tables::{BootTables, TABLES_ADDRESS};
use crate::arch::percpu::{BLOCK_BYTES, FRAME_FROM_TOP};
use crate::mm::layout::IMAGE;

/// Where GRUB loads the image: the machine address of `layout::IMAGE`.
pub const LOAD_ADDRESS: u64 = 0x20_0000;
/// From an address of the image to the machine address it is loaded at.
pub const IMAGE_TO_MACHINE: u64 = IMAGE - LOAD_ADDRESS;

/// The boot CPU's first stack, shaped like a per-CPU block: all zero, its `CpuInfo` is CPU 0's.
#[repr(C, align(65536))]
struct BootBlock(core::cell::UnsafeCell<[u8; BLOCK_BYTES]>);
// SAFETY: only the boot CPU uses it, as its stack.
unsafe impl Sync for BootBlock {}
static BOOT_BLOCK: BootBlock = BootBlock(core::cell::UnsafeCell::new([0; BLOCK_BYTES]));

global_asm!(
    r#"
.section .boot.header, "a"
.balign 8
multiboot2_header:
    .long 0xe85250d6
    .long 0
    .long multiboot2_header_end - multiboot2_header
    .long -(0xe85250d6 + multiboot2_header_end - multiboot2_header)
    // Entry address.
    .short 3, 0
    .long 12
    .long boot_start32 - {image_to_machine}
    .balign 8
    // A linear frame buffer is as welcome as text mode, in any size.
    .short 5, 1
    .long 20
    .long 0, 0, 0
    .balign 8
    // Modules on page boundaries.
    .short 6, 0
    .long 8
    .balign 8
    .short 0, 0
    .long 8
multiboot2_header_end:

.section .boot.text, "ax"
.code32
.global boot_start32
boot_start32:
    cli
    cld
    movl %ebx, %esi
    movl $(not_multiboot2 - {image_to_machine}), %ebp
    cmpl $0x36d76289, %eax
    jne refuse
    movl $(no_long_mode - {image_to_machine}), %ebp
    movl $0x80000000, %eax
    cpuid
    cmpl $0x80000001, %eax
    jb refuse
    movl $0x80000001, %eax
    cpuid
    btl $29, %edx
    jnc refuse
    movl $(no_nx - {image_to_machine}), %ebp
    btl $20, %edx
    jnc refuse
    movl $0x20, %eax
    movl %eax, %cr4
    movl ${tables}, %eax
    movl %eax, %cr3
    movl $0xc0000080, %ecx
    rdmsr
    orl $0x900, %eax
    wrmsr
    movl $0x80010033, %eax
    movl %eax, %cr0
    lgdtl (boot_gdt_pointer - {image_to_machine})
    ljmpl $8, $(boot_start64 - {image_to_machine})

// Writes the sentence at ebp to COM1 and to the text screen, and stops.
refuse:
    movl $0xb8000, %edi
1:  movzbl (%ebp), %ecx
    testl %ecx, %ecx
    jz 3f
    movb %cl, (%edi)
    movb $0x4f, 1(%edi)
    addl $2, %edi
    movl $0x10000, %ebx
2:  movl $0x3fd, %edx
    inb %dx, %al
    decl %ebx
    jz 4f
    testb $0x20, %al
    jz 2b
4:  movl $0x3f8, %edx
    movl %ecx, %eax
    outb %al, %dx
    incl %ebp
    jmp 1b
3:  hlt
    jmp 3b

.code64
boot_start64:
    movabsq $boot_start_high, %rax
    jmpq *%rax
boot_start_high:
    movabsq $({block} + {block_bytes} - {frame_from_top}), %rsp
    andq $-16, %rsp
    xorl %eax, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %fs
    movl %eax, %gs
    movl %eax, %ss
    xorl %ebp, %ebp
    movl %esi, %edi
    callq {rust_start}
    ud2

.balign 8
boot_gdt:
    .quad 0
    .quad 0x00af9b000000ffff
    .quad 0x00cf93000000ffff
    .quad 0x00cf9b000000ffff
boot_gdt_pointer:
    .short boot_gdt_pointer - boot_gdt - 1
    .long boot_gdt - {image_to_machine}
    .long 0
not_multiboot2:
    .asciz "xenlike: the boot loader does not speak multiboot2: in GRUB, load it with 'multiboot2'.\r\n"
no_long_mode:
    .asciz "xenlike: this CPU has no 64-bit mode.\r\n"
no_nx:
    .asciz "xenlike: this CPU has no NX (execute disable), or the firmware has turned it off.\r\n"
"#,
    image_to_machine = const IMAGE_TO_MACHINE,
    tables = const TABLES_ADDRESS,
    block = sym BOOT_BLOCK,
    block_bytes = const BLOCK_BYTES,
    frame_from_top = const FRAME_FROM_TOP,
    rust_start = sym super::order::rust_start,
    options(att_syntax),
);

const _: () = assert!(TABLES_ADDRESS == LOAD_ADDRESS + 4096);
const _: () = assert!(size_of::<BootTables>() % 4096 == 0);
