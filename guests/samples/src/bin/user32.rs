//! Claim: a 32-bit process runs under a kernel of either width and makes system calls in each way that its CPU supports:
//! `int 0x80` on all CPUs, `sysenter` on Intel's, `syscall` on AMD's.

#![no_std]
#![no_main]
#![expect(unsafe_code, reason = "the process is a piece of assembly")]

use core::arch::global_asm;
#[cfg(target_pointer_width = "32")]
use core::arch::x86::__cpuid;
#[cfg(target_pointer_width = "64")]
use core::arch::x86_64::__cpuid;
use core::sync::atomic::{AtomicU64, Ordering};

use xenlike_rt::paging::Access;
use xenlike_rt::traps::{self, TrapFrame};
use xenlike_rt::user::{AddressSpace, Use};
use xenlike_rt::{memory, println, user};

xenlike_rt::entry!(main);

const CODE: u32 = 0x40_0000;
const STACK_TOP: u32 = 0x80_0000;
const PAGE: u32 = 4096;

const GET_ID: u32 = 2;
const EXIT: u32 = 3;
const ID: u64 = 7;
const CALLS: u32 = 1000;

/// Bits of the word on top of the process's stack: the instructions to use.
const HAS_SYSENTER: u32 = 1;
const HAS_SYSCALL: u32 = 2;

/// The mode of the assembler for the guest's own code.
#[cfg(target_pointer_width = "32")]
macro_rules! kernel_code {
    () => {
        ".code32"
    };
}
#[cfg(target_pointer_width = "64")]
macro_rules! kernel_code {
    () => {
        ".code64"
    };
}

// System calls: number in eax, result in eax. The first argument is in ebx and edi, the second in ecx and esi, where the
// kernels of both widths look for them. `sysenter` saves neither eip nor esp: the former is its second argument, the
// process keeps the latter in ebp. `syscall` saves eip in ecx.
global_asm!(
    r#"
    .pushsection .text.process, "ax", @progbits
    .balign 4096
    .global process32_start
    process32_start:
    .code32
        xor edi, edi
        mov ebx, {calls}
    2:  mov eax, {get_id}
        int 0x80
        add edi, eax
        dec ebx
        jnz 2b

        test dword ptr [esp], {has_sysenter}
        jz 4f
        mov ebx, {calls}
    3:  call 8f
        add edi, eax
        dec ebx
        jnz 3b
        jmp 4f
    8:  mov ebp, esp
        call 9f
        mov esp, ebp
        ret
    9:  pop esi
        mov ecx, esi
        mov eax, {get_id}
        sysenter
        ud2

    4:  test dword ptr [esp], {has_syscall}
        jz 6f
        mov ebx, {calls}
    7:  mov eax, {get_id}
        syscall
        add edi, eax
        dec ebx
        jnz 7b

    6:  mov ebx, edi
        mov eax, {exit}
        int 0x80
        ud2
    .balign 4096
    "#,
    kernel_code!(),
    ".popsection",
    calls = const CALLS,
    get_id = const GET_ID,
    exit = const EXIT,
    has_sysenter = const HAS_SYSENTER,
    has_syscall = const HAS_SYSCALL,
);

unsafe extern "C" {
    safe static process32_start: u8;
}

static BY_GATE: AtomicU64 = AtomicU64::new(0);
static BY_SYSENTER: AtomicU64 = AtomicU64::new(0);
static BY_SYSCALL: AtomicU64 = AtomicU64::new(0);

fn system_call(frame: &mut TrapFrame) {
    let [number, first, second] = frame.call();
    let way = match frame.vector_number() {
        traps::SYSENTER => {
            frame.resume_at(second);
            &BY_SYSENTER
        }
        traps::SYSCALL32 => &BY_SYSCALL,
        _ => &BY_GATE,
    };
    way.fetch_add(1, Ordering::Relaxed);
    match number as u32 {
        GET_ID => frame.set_result(ID),
        EXIT => user::leave(first),
        number => panic!("system call {number}: {frame:#x?}"),
    }
}

/// The instructions that the CPU has for 32-bit code in long mode besides `int 0x80` (APM vol. 3, SYSENTER;
/// SDM vol. 2, SYSCALL).
fn ways() -> u32 {
    match &__cpuid(0).ebx.to_le_bytes() {
        b"Genu" => HAS_SYSENTER,
        b"Auth" => HAS_SYSCALL,
        _ => 0,
    }
}

fn main() {
    traps::on_syscall(system_call);
    traps::take_system_calls_of_32_bits().expect("the callbacks");
    let space = AddressSpace::new().expect("an address space");
    let stack = memory::allocate_page().expect("a page");
    let code = &raw const process32_start;
    space.map(CODE.into(), code, Use::Code).expect("code");
    let bottom = u64::from(STACK_TOP - PAGE);
    space
        .map(bottom, stack, Use::Data(Access::ReadWrite))
        .expect("a stack");
    let (top, ways) = (STACK_TOP - 16, ways());
    // SAFETY: inside the page of the stack, which the kernel also owns.
    unsafe { stack.add(PAGE as usize - 16).cast::<u32>().write(ways) };

    let sum = space.run32(CODE, top).expect("user mode");
    let counts = [&BY_GATE, &BY_SYSENTER, &BY_SYSCALL].map(|way| way.load(Ordering::Relaxed));
    println!(
        "int 0x80 {}, sysenter {}, syscall {}",
        counts[0], counts[1], counts[2]
    );
    let calls = u64::from(CALLS);
    let expected = [
        calls + 1,
        if ways & HAS_SYSENTER != 0 { calls } else { 0 },
        if ways & HAS_SYSCALL != 0 { calls } else { 0 },
    ];
    if counts == expected && sum == ID * (counts.iter().sum::<u64>() - 1) {
        println!("PASS user32");
    } else {
        println!("FAIL user32: {counts:?} instead of {expected:?}, the sum is {sum}");
    }
}
