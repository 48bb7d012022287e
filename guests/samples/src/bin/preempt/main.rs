//! Claim: a process that the hypervisor preempts finds its x87 and SSE registers as they were, whoever ran in between.
//! `seed=N` chooses their contents, so that several of these guests on one CPU differ. `loops=N` sets how often it looks.

#![no_std]
#![no_main]
#![expect(unsafe_code, reason = "the process is a piece of assembly")]

use xenlike_rt::paging::Access;
use xenlike_rt::traps::{self, TrapFrame};
use xenlike_rt::user::{AddressSpace, Use};
use xenlike_rt::{args, memory, println, user};

#[cfg(target_pointer_width = "32")]
#[path = "narrow.rs"]
mod process;
#[cfg(target_pointer_width = "64")]
#[path = "wide.rs"]
mod process;

xenlike_rt::entry!(main);

const CODE: u64 = 0x40_0000;
const STACK_TOP: u64 = 0x80_0000;
const PAGE: u64 = 4096;
/// The process begins with its stack pointer here: at the seed, above which the number of loops lies.
const FIRST_STACK: u64 = STACK_TOP - 16;

const EXIT: u64 = 3;

unsafe extern "C" {
    safe static preempt_start: u8;
}

fn system_call(frame: &mut TrapFrame) {
    let [number, left, _] = frame.call();
    assert!(number == EXIT, "system call {number}");
    user::leave(left);
}

fn main() {
    traps::on_syscall(system_call);
    let (seed, loops) = (args::number("seed", 1), args::number("loops", 10_000_000));
    let space = AddressSpace::new().expect("an address space");
    let stack = memory::allocate_page().expect("a page");
    space
        .map(CODE, &raw const preempt_start, Use::Code)
        .expect("code");
    space
        .map(STACK_TOP - PAGE, stack, Use::Data(Access::ReadWrite))
        .expect("a stack");
    // SAFETY: inside the page of the stack, which the kernel also owns.
    unsafe {
        stack
            .add((FIRST_STACK % PAGE) as usize)
            .cast::<[u32; 2]>()
            .write([seed as u32, loops as u32]);
    }
    println!("the process looks {loops} times for {seed}");
    let left = space.run(CODE, FIRST_STACK).expect("user mode");
    if left == 0 {
        println!("PASS preempt");
    } else {
        println!("FAIL preempt: a register had changed with {left} looks left");
    }
}
