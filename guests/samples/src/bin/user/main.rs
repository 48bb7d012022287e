//! Claim: a ring-3 process runs in its own address space, makes system calls, takes page faults that its kernel
//! handles, and can't read the kernel's memory.

#![no_std]
#![no_main]
#![expect(unsafe_code, reason = "the process is a piece of assembly")]

use core::sync::atomic::{AtomicU64, Ordering};

use xenlike_rt::paging::Access;
use xenlike_rt::traps::{self, TrapFrame};
use xenlike_rt::user::{AddressSpace, Use};
use xenlike_rt::{memory, print, println, time, user};

#[cfg(target_pointer_width = "32")]
#[path = "narrow.rs"]
mod process;
#[cfg(target_pointer_width = "64")]
#[path = "wide.rs"]
mod process;

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

unsafe extern "C" {
    safe static process_start: u8;
}

static SPACE: AtomicU64 = AtomicU64::new(0);
static KERNEL_READS: AtomicU64 = AtomicU64::new(0);
static STARTED: AtomicU64 = AtomicU64::new(0);
static CALLS_NS: AtomicU64 = AtomicU64::new(0);

fn system_call(frame: &mut TrapFrame) {
    let [number, first, second] = frame.call();
    match number {
        WRITE => {
            // The process's code page is mapped in the kernel too, and is copied from there.
            let offset = first.wrapping_sub(CODE);
            let length = second;
            if offset.checked_add(length).is_some_and(|end| end <= PAGE) {
                for n in offset..offset + length {
                    // SAFETY: inside the code page, which stays mapped.
                    let byte = unsafe { (&raw const process_start).add(n as usize).read() };
                    print!("{}", char::from(byte));
                }
            }
            STARTED.store(time::now_ns(), Ordering::Relaxed);
        }
        GET_ID => frame.set_result(ID),
        EXIT => user::leave(first),
        number => panic!("system call {number}"),
    }
}

fn page_fault(frame: &mut TrapFrame) {
    let address = traps::fault_address();
    assert!(
        frame.from_user(),
        "the kernel faults at {:#x}, address {address:#x}",
        frame.instruction()
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
            frame.error_code()
        );
        frame.resume_at(process::landing(frame));
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
