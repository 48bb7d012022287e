//! The first instructions: from the loader's 32-bit mode to Rust at the image's address in 64-bit mode.
//!
//! The assembly checks that the CPU has long mode, loads the constant page tables of [`super::tables`], and jumps.
//! Everything else is Rust.
//!
//! The image is linked for [`LOAD_ADDRESS`], and the loader may move it by any multiple of 2 MiB, because firmware may
//! occupy memory anywhere. Virtual addresses don't change. The section `.boot.moved` lists the words that contain a
//! machine address; the first instructions add the distance to each of them, and to the links in the boot tables.
#![expect(unsafe_code, reason = "the first instructions")]

use core::arch::global_asm;

use super::info::Loader;
use super::tables::{BootTables, TABLES_ADDRESS};
use crate::arch::percpu::{BLOCK_BYTES, CpuInfo, FRAME_FROM_TOP, UNUSED};
use crate::kit::Maddr;
use crate::kit::atomic::{AtomicU32, Ordering};
use crate::mm::layout::IMAGE;

/// The machine address for which the image is linked, that of `layout::IMAGE` unless the loader moves it.
pub const LOAD_ADDRESS: u64 = 0x20_0000;
/// Where code for real mode is put, once the memory there doesn't matter any more.
const REAL_MODE_CODE: u64 = 0x8000;
/// The distance by which the loader has moved the image. The first instructions set it.
static MOVED: AtomicU32 = AtomicU32::new(0);

/// The magic number by which the loader introduced itself.
static LOADER: AtomicU32 = AtomicU32::new(0);

/// The loader that has loaded the image.
pub fn loader() -> Loader {
    // The first instructions refuse all others.
    if LOADER.load(Ordering::Relaxed) == Loader::Multiboot1 as u32 {
        Loader::Multiboot1
    } else {
        Loader::Multiboot2
    }
}

/// The machine address of an address in the image.
pub fn machine_of(address: u64) -> Maddr {
    Maddr(address - IMAGE_TO_MACHINE + u64::from(MOVED.load(Ordering::Relaxed)))
}

/// The distance from an address in the image to the machine address for which it is linked.
pub const IMAGE_TO_MACHINE: u64 = IMAGE - LOAD_ADDRESS;

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
    // The image may be anywhere below 4 GiB on a boundary of 2 MiB, best at the lowest. An old loader may ignore that.
    .short 10, 1
    .long 24
    .long {load_address}, 0xffffffff, 0x200000, 1
    // Modules on page boundaries.
    .short 6, 0
    .long 8
    .balign 8
    .short 0, 0
    .long 8
multiboot2_header_end:
// Version 1, whose address fields the image doesn't need: it is an ELF. Modules on page boundaries, and a memory map.
    .balign 4
    .long 0x1badb002
    .long 3
    .long -(0x1badb002 + 3)

.section .boot.text, "ax"
.code32
.global boot_start32
boot_start32:
    cli
    cld
    movl %ebx, %esi
    xorl %ebp, %ebp
    movl $(not_multiboot2 - {image_to_machine}), %edi
    cmpl ${multiboot2}, %eax
    je 1f
    cmpl ${multiboot1}, %eax
    jne refuse
1:
// How far the image has been moved, to ebp: a call tells where this is. There is no stack yet, so the return address goes
// to the second word of the loader's information, and what was there is put back.
    movl 4(%ebx), %ecx
    leal 8(%ebx), %esp
    call boot_here
boot_here:
    popl %ebp
    movl %ecx, 4(%ebx)
    subl $(boot_here - {image_to_machine}), %ebp
    movl %eax, ({loader} - {image_to_machine})(%ebp)
    leal (__moved_start - {image_to_machine})(%ebp), %edi
    leal (__moved_end - {image_to_machine})(%ebp), %ecx
1:  cmpl %ecx, %edi
    jae 2f
    movl (%edi), %edx
    addl %ebp, (%edx, %ebp)
    addl $4, %edi
    jmp 1b
// The links in the tables, which come before those without.
2:  leal {tables}(%ebp), %edi
    movl ${link_words}, %ecx
3:  testb $1, (%edi)
    jz 4f
    addl %ebp, (%edi)
4:  addl $8, %edi
    decl %ecx
    jnz 3b

    movl $(no_long_mode - {image_to_machine}), %edi
    movl $0x80000000, %eax
    cpuid
    cmpl $0x80000001, %eax
    jb refuse
    movl $0x80000001, %eax
    cpuid
    btl $29, %edx
    jnc refuse
    movl $0x20, %eax
    movl %eax, %cr4
    leal {tables}(%ebp), %eax
    movl %eax, %cr3
    movl $0xc0000080, %ecx
    rdmsr
    orl $0x100, %eax
    wrmsr
    movl $0x80010033, %eax
    movl %eax, %cr0
    lgdtl (boot_gdt_pointer - {image_to_machine})(%ebp)
to_start64:
    ljmpl $8, $(boot_start64 - {image_to_machine})

// Writes the sentence linked for edi to COM1 and to the screen, and stops. Only a BIOS machine gets here
// (a 64-bit UEFI has a 64-bit CPU): the BIOS makes the screen a text screen, whatever GRUB left.
refuse:
    addl %ebp, %edi
    movl %edi, %esi
1:  lodsb
    movb %al, %cl
    testb %al, %al
    jz 3f
    movl $0x10000, %ebx
    movl $0x3fd, %edx
2:  inb %dx, %al
    testb $0x20, %al
    jnz 4f
    decl %ebx
    jnz 2b
4:  movl $0x3f8, %edx
    movb %cl, %al
    outb %al, %dx
    jmp 1b
3:  movl %edi, %ebx
    leal (text_mode - {image_to_machine})(%ebp), %esi
    movl ${low}, %edi
    movl $(text_mode_end - text_mode), %ecx
    rep movsb
    lgdtl (boot_gdt_pointer - {image_to_machine})(%ebp)
    ljmpl $0x20, ${low}
5:  movl $0x10, %eax
    movl %eax, %ds
    movl $0xb8000, %edi
6:  movb (%ebx), %al
    cmpb $0x20, %al
    jb 7f
    movb %al, (%edi)
    movb $0x4f, 1(%edi)
    addl $2, %edi
    incl %ebx
    jmp 6b
7:  hlt
    jmp 7b

// Runs at {low}: from 16-bit protected mode to real mode, video mode 3, and back.
.code16
text_mode:
    movw $0x28, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    lidtl real_mode_idt - text_mode + {low}
    movl %cr0, %eax
    andl $~1, %eax
    movl %eax, %cr0
    ljmpl $0, $(8f - text_mode + {low})
8:  xorw %ax, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    movw ${low}, %sp
    pushl %ebx
    movw $3, %ax
    int $0x10
    popl %ebx
    cli
    movl %cr0, %eax
    orl $1, %eax
    movl %eax, %cr0
from_text_mode:
    ljmpl $0x18, $(5b - {image_to_machine})
real_mode_idt:
    .short 0x3ff
    .long 0
text_mode_end:

.code64
boot_start64:
    movabsq $boot_start_high, %rax
    jmpq *%rax
boot_start_high:
    movl %ebp, {moved}(%rip)
    // All of the block but its `CpuInfo` is marked as not used yet: `percpu::stack_used` looks at that.
    movabsq ${block}, %rdi
    movl $(({block_bytes} - {info_bytes}) / 8), %ecx
    movabsq ${unused}, %rax
    rep stosq
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
    .quad 0x00009b000000ffff
    .quad 0x000093000000ffff
boot_gdt_pointer:
    .short boot_gdt_pointer - boot_gdt - 1
    .long boot_gdt - {image_to_machine}
    .long 0
// Behind the opcodes: the operands of far jumps. (`ljmpl` in 16-bit code begins with a prefix.)
.pushsection .boot.moved, "a"
    .long to_start64 + 1 - {image_to_machine}
    .long from_text_mode + 2 - {image_to_machine}
    .long boot_gdt_pointer + 2 - {image_to_machine}
.popsection
not_multiboot2:
    .asciz "xenlike: the boot loader does not speak multiboot: in GRUB, load it with 'multiboot2'.\r\n"
no_long_mode:
    .asciz "xenlike can't run here: this CPU has no 64-bit mode.\r\n"
"#,
    image_to_machine = const IMAGE_TO_MACHINE,
    low = const REAL_MODE_CODE,
    load_address = const LOAD_ADDRESS,
    tables = const TABLES_ADDRESS,
    link_words = const super::tables::LINK_WORDS,
    moved = sym MOVED,
    loader = sym LOADER,
    multiboot1 = const Loader::Multiboot1 as u32,
    multiboot2 = const Loader::Multiboot2 as u32,
    block = sym super::stack::BLOCK,
    info_bytes = const size_of::<CpuInfo>(),
    unused = const UNUSED,
    block_bytes = const BLOCK_BYTES,
    frame_from_top = const FRAME_FROM_TOP,
    rust_start = sym super::order::rust_start,
    options(att_syntax),
);

const _: () = assert!(TABLES_ADDRESS == LOAD_ADDRESS + 4096);
const _: () = assert!(size_of::<BootTables>().is_multiple_of(4096));
