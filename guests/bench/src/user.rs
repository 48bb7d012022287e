//! User mode: a system call and a page fault, from the process to the guest kernel and back.

#![expect(unsafe_code, reason = "the process is written in assembly")]

use xenlike_rt::traps::{self, TrapFrame};
use xenlike_rt::user::{self, AddressSpace, Use};
use xenlike_rt::{memory, paging};

use crate::exceptions::skip_two;
use crate::meter;

/// Repetitions of the operation in a process. The processes are in `width`.
pub const LOOPS: u64 = 1000;
const CODE: u64 = 0x40_0000;
const STACK_TOP: u64 = 0x80_0000;

unsafe extern "C" {
    safe static bench_calling: u8;
    safe static bench_faulting_offset: u8;
}

fn system_call(frame: &mut TrapFrame) {
    if frame.call()[0] == 2 {
        user::leave(0);
    }
}

/// Measures all rows of this module.
pub fn measure() {
    traps::on_syscall(system_call);
    traps::on(traps::PAGE_FAULT, skip_two);
    let space = AddressSpace::new().expect("an address space");
    let stack = memory::allocate_page().expect("a page");
    let code = &raw const bench_calling;
    space.map(CODE, code, Use::Code).expect("code");
    let data = Use::Data(paging::Access::ReadWrite);
    space.map(STACK_TOP - 4096, stack, data).expect("a stack");
    let faulting = CODE + (&raw const bench_faulting_offset).addr() as u64;
    for (name, entry) in [("user_syscall", CODE), ("user_page_fault", faulting)] {
        meter::batch(name, LOOPS, || {
            space.run(entry, STACK_TOP).expect("user mode");
        });
    }
}
