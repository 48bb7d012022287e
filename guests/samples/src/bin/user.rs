//! Claim: a ring-3 process runs in its own address space, makes system calls, takes page faults that its kernel
//! handles, and can't read the kernel's memory.

#![no_std]
#![no_main]
#![expect(unsafe_code, reason = "the process is a piece of assembly")]

use core::arch::global_asm;
use core::sync::atomic::{AtomicU64, Ordering};

use xenlike_rt::paging::Access;
use xenlike_rt::traps::{self, TrapFrame};
use xenlike_rt::user::{AddressSpace, Use};
use xenlike_rt::{memory, print, println, time, user};

xenlike_rt::entry!(main);

const CODE: u64 = 0x40_0000;
const STACK_TOP: u64 = 0x80_0000;
const MISSING: u64 = 0x60_0000;
const PAGE: u64 = 4096;

const WRITE: u64 = 1;
const GET_ID: u64 = 2;
const EXIT: u64 = 3;
const ID: u64 = 7;
const CALLS: u64 = 10_000;

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

unsafe extern "C" {
    safe static process_start: u8;
}

static SPACE: AtomicU64 = AtomicU64::new(0);
static KERNEL_READS: AtomicU64 = AtomicU64::new(0);
static STARTED: AtomicU64 = AtomicU64::new(0);
static CALLS_NS: AtomicU64 = AtomicU64::new(0);

fn system_call(frame: &mut TrapFrame) {
    match frame.rax {
        WRITE => {
            // The process's code page is mapped in the kernel too, and is copied from there.
            let offset = frame.rdi.wrapping_sub(CODE);
            let length = frame.rsi;
            if offset.checked_add(length).is_some_and(|end| end <= PAGE) {
                for n in offset..offset + length {
                    // SAFETY: inside the code page, which stays mapped.
                    let byte = unsafe { (&raw const process_start).add(n as usize).read() };
                    print!("{}", char::from(byte));
                }
            }
            STARTED.store(time::now_ns(), Ordering::Relaxed);
        }
        GET_ID => frame.rax = ID,
        EXIT => user::leave(frame.rdi),
        number => panic!("system call {number}"),
    }
}

fn page_fault(frame: &mut TrapFrame) {
    let address = traps::fault_address();
    assert!(
        frame.from_user(),
        "the kernel faults at {:#x}, address {address:#x}",
        frame.rip
    );
    if address == MISSING {
        CALLS_NS.store(
            time::now_ns() - STARTED.load(Ordering::Relaxed),
            Ordering::Relaxed,
        );
        let page = memory::allocate_page().expect("a page");
        let pointer = SPACE.load(Ordering::Relaxed) as usize;
        // SAFETY: `main` waits in `run` while its address space is alive.
        let space = unsafe { &*core::ptr::with_exposed_provenance::<AddressSpace>(pointer) };
        space
            .map(MISSING, page, Use::Data(Access::ReadWrite))
            .expect("a mapping");
    } else {
        KERNEL_READS.fetch_add(1, Ordering::Relaxed);
        println!(
            "the process may not touch {address:#x} (error code {:#x})",
            frame.error
        );
        frame.rip = frame.r15;
    }
}

fn main() {
    traps::on_syscall(system_call);
    traps::on(traps::PAGE_FAULT, page_fault);

    let space = AddressSpace::new().expect("an address space");
    SPACE.store(
        core::ptr::from_ref(&space).expose_provenance() as u64,
        Ordering::Relaxed,
    );
    let stack = memory::allocate_page().expect("a page");
    space
        .map(CODE, &raw const process_start, Use::Code)
        .expect("code");
    space
        .map(STACK_TOP - PAGE, stack, Use::Data(Access::ReadWrite))
        .expect("a stack");

    let result = space.run(CODE, STACK_TOP).expect("user mode");
    let nanoseconds = CALLS_NS.load(Ordering::Relaxed) / CALLS;
    println!("{CALLS} system calls, {nanoseconds} ns each");
    if result == CALLS * ID + 5 && KERNEL_READS.load(Ordering::Relaxed) == 1 {
        println!("PASS user");
    } else {
        println!("FAIL user: the process ended with {result}");
    }
}
