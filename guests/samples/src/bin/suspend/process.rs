//! A process, which makes system calls in all ways that the CPU has.

use core::arch::global_asm;
use core::sync::atomic::{AtomicU32, Ordering};

use xenlike_rt::memory::{self, PAGE_BYTES};
use xenlike_rt::paging::Access;
use xenlike_rt::traps::{self, TrapFrame};
use xenlike_rt::user::{self, AddressSpace, Use};

const CODE: u64 = 0x40_0000;
const STACK_TOP: u64 = 0x80_0000;

const COUNT: u64 = 1;
const EXIT: u64 = 2;
const RESULT: u64 = 7;

// Position-independent, as the code is mapped at another address than where it is linked. The result is where a 64-bit
// kernel looks for the first argument, and where a 32-bit one does.
global_asm!(
    r#"
    .pushsection .text.process, "ax", @progbits
    .balign 4096
    .global process_start
    process_start:
        mov eax, {count}
        int 0x80
        mov eax, {count}
        syscall
        mov edi, {result}
        mov ebx, {result}
        mov eax, {exit}
        int 0x80
        ud2
    .balign 4096
    .popsection
    "#,
    count = const COUNT,
    exit = const EXIT,
    result = const RESULT,
);

unsafe extern "C" {
    safe static process_start: u8;
}

static CALLS: AtomicU32 = AtomicU32::new(0);

fn system_call(frame: &mut TrapFrame) {
    match frame.call() {
        [COUNT, ..] => _ = CALLS.fetch_add(1, Ordering::Relaxed),
        [EXIT, result, _] => user::leave(result),
        other => panic!("system call {other:?}"),
    }
}

/// Skips `syscall` where 32-bit code doesn't have it.
fn invalid_opcode(frame: &mut TrapFrame) {
    assert!(frame.from_user(), "an invalid opcode: {frame:x?}");
    frame.resume_at(frame.instruction() + 2);
}

/// An address space with the process.
#[derive(Debug)]
pub struct Process {
    space: AddressSpace,
    /// How many system calls it makes before its end.
    pub calls: u32,
}

impl Process {
    /// Makes the process and runs it once.
    pub fn new() -> Result<Self, &'static str> {
        traps::on_syscall(system_call);
        traps::on(traps::INVALID_OPCODE, invalid_opcode);
        traps::take_system_calls_of_32_bits().map_err(|_| "a handler is refused")?;
        let space = AddressSpace::new().map_err(|_| "no address space")?;
        let stack = memory::allocate_page().ok_or("no page is left")?;
        let code = space.map(CODE, &raw const process_start, Use::Code);
        code.map_err(|_| "the process's code can't be mapped")?;
        let stack_at = STACK_TOP - PAGE_BYTES as u64;
        let data = space.map(stack_at, stack, Use::Data(Access::ReadWrite));
        data.map_err(|_| "the process's stack can't be mapped")?;
        let mut process = Self { space, calls: 0 };
        process.calls = process.run()?;
        Ok(process)
    }

    /// Runs the process; it must make as many system calls as at first.
    pub fn runs(&self) -> Result<(), &'static str> {
        if self.run()? == self.calls {
            Ok(())
        } else {
            Err("a system call of the process is lost")
        }
    }

    fn run(&self) -> Result<u32, &'static str> {
        let before = CALLS.load(Ordering::Relaxed);
        match self.space.run(CODE, STACK_TOP) {
            Ok(RESULT) => Ok(CALLS.load(Ordering::Relaxed) - before),
            Ok(_) => Err("the process ends with another result"),
            Err(_) => Err("the process can't run"),
        }
    }
}
