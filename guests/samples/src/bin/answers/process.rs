//! A process: a page of code with the instructions that a check tries in user mode.

use core::sync::atomic::{AtomicU64, Ordering};

use xenlike_rt::memory;
use xenlike_rt::paging::Access;
use xenlike_rt::traps::{self, TrapFrame};
use xenlike_rt::user::{self, AddressSpace, Use};

const PAGE: u64 = 4096;
const STACK_TOP: u64 = 0x80_0000;
/// Address of the code, `process_start`.
pub const CODE: u64 = 0x40_0000;

unsafe extern "C" {
    safe static process_start: u8;
}

/// Address of the instruction whose exception ended the process.
pub static WHERE: AtomicU64 = AtomicU64::new(0);

/// Ends the process. Its result is the exception's vector.
fn exception(frame: &mut TrapFrame) {
    let (vector, address) = (frame.vector_number(), frame.instruction());
    assert!(
        frame.from_user(),
        "exception {vector} in the kernel at {address:#x}"
    );
    WHERE.store(address, Ordering::Relaxed);
    user::leave(vector);
}

/// A process, whose #UD and #GP end it.
pub struct Process {
    space: AddressSpace,
}

impl Process {
    pub fn new() -> Self {
        for vector in [traps::INVALID_OPCODE, traps::GENERAL_PROTECTION] {
            traps::on(vector, exception);
        }
        let space = AddressSpace::new().expect("an address space");
        let stack = memory::allocate_page().expect("a page");
        let code = &raw const process_start;
        space.map(CODE, code, Use::Code).expect("code");
        let data = Use::Data(Access::ReadWrite);
        space.map(STACK_TOP - PAGE, stack, data).expect("a stack");
        Self { space }
    }

    /// Runs the code from the byte `offset` on. Returns the exception's vector, or what a system call's handler returned.
    pub fn run(&self, offset: u64) -> u64 {
        let left = self.space.run(CODE + offset, STACK_TOP);
        left.expect("user mode")
    }
}
