//! Exceptions, event upcalls and system calls: the virtual IDT, the callbacks, and the return from them.
//!
//! The entry points and the frames that they make are in `arch`.

#![expect(unsafe_code, reason = "calls handlers by their addresses")]

use core::sync::atomic::{AtomicUsize, Ordering};

use guest_pv_abi::arch_x86::TrapInfo;
use guest_pv_abi::call::hypercall1;
use guest_pv_abi::{Errno, GuestHandle, Long, hypercall};

use crate::arch::{from_long, traps as arch};
use crate::{cpu, events};

pub use crate::arch::traps::{TrapFrame, take_system_calls_of_32_bits};

/// Vectors with an entry stub: all below 32, which are the CPU's exceptions and can be raised by `int n`.
pub const VECTORS: usize = 32;

/// `TrapFrame::vector` of an event upcall.
pub(crate) const EVENT: u64 = 0x100;
/// `TrapFrame::vector` of a system call by `syscall` of 64-bit code.
pub(crate) const SYSCALL: u64 = 0x101;
/// `TrapFrame::vector` of the failsafe callback.
pub(crate) const FAILSAFE: u64 = 0x102;
/// `TrapFrame::vector` of a system call by `syscall` of 32-bit code.
pub const SYSCALL32: u64 = 0x103;
/// `TrapFrame::vector` of a system call by `sysenter`. The instruction saves neither return address nor
/// stack pointer, so the process must pass both in registers.
pub const SYSENTER: u64 = 0x104;
/// The vector of 32-bit Linux's system calls (`int 0x80`), which user mode may raise.
pub const SYSTEM_CALL_GATE: u64 = 0x80;

/// Vector of a page fault (Intel SDM vol. 3, table 6-1).
pub const PAGE_FAULT: u8 = 14;
/// Vector of a general protection fault.
pub const GENERAL_PROTECTION: u8 = 13;
/// Vector of an invalid opcode exception.
pub const INVALID_OPCODE: u8 = 6;
/// Vector of a breakpoint exception (`int3`).
pub const BREAKPOINT: u8 = 3;
/// Vector of a divide error.
pub const DIVIDE_ERROR: u8 = 0;

/// A handler of an exception or system call. The frame's registers are restored when it returns.
pub type Handler = fn(&mut TrapFrame);

static HANDLERS: [AtomicUsize; VECTORS] = [const { AtomicUsize::new(0) }; VECTORS];
static SYSCALL_HANDLER: AtomicUsize = AtomicUsize::new(0);

/// The virtual IDT. User mode may raise breakpoint, overflow and the system call gate by `int n`; the other
/// vectors are for exceptions alone.
#[must_use]
pub fn table() -> [TrapInfo; VECTORS + 2] {
    let mut table = [TrapInfo::default(); VECTORS + 2];
    for (vector, entry) in table.iter_mut().enumerate().take(VECTORS) {
        entry.vector = vector as u8;
        entry.flags = if vector == 3 || vector == 4 { 3 } else { 0 };
        entry.cs = arch::CODE;
        entry.address = arch::vector_entry(vector) as Long;
    }
    table[VECTORS] = TrapInfo {
        vector: SYSTEM_CALL_GATE as u8,
        flags: 3,
        cs: arch::CODE,
        address: arch::gate_entry() as Long,
        ..TrapInfo::default()
    };
    table
}

/// Registers the trap table and the callbacks for the running vCPU.
pub(crate) fn init() {
    let table = table();
    let set = |table: &[TrapInfo]| {
        // SAFETY: the hypervisor only reads the table.
        Errno::check(unsafe { hypercall1(hypercall::SET_TRAP_TABLE, GuestHandle::of(table).0) })
    };
    assert!(set(&table).is_ok(), "the trap table is refused");
    let registered = arch::register_callbacks();
    assert!(registered.is_ok(), "a callback is refused: {registered:?}");
}

/// Sets the handler of an exception on all vCPUs.
///
/// # Panics
/// If `vector` is above 31.
pub fn on(vector: u8, handler: Handler) {
    HANDLERS[usize::from(vector)].store(handler as usize, Ordering::Relaxed);
}

/// Sets the handler of system calls from user mode.
pub fn on_syscall(handler: Handler) {
    SYSCALL_HANDLER.store(handler as usize, Ordering::Relaxed);
}

fn handler_in(slot: &AtomicUsize) -> Option<Handler> {
    match slot.load(Ordering::Relaxed) {
        0 => None,
        // SAFETY: `on` and `on_syscall` store only handlers.
        address => Some(unsafe { core::mem::transmute::<usize, Handler>(address) }),
    }
}

/// The faulting address of the last page fault on this vCPU (CR2).
#[must_use]
pub fn fault_address() -> u64 {
    let info = cpu::vcpu_info();
    // SAFETY: the vCPU's own part of the shared info page.
    from_long(unsafe { (&raw const (*info).arch.cr2).read_volatile() })
}

/// Handles an entry of any kind; `arch` returns from it.
pub(crate) fn dispatch(frame: &mut TrapFrame) {
    match frame.vector_number() {
        EVENT => events::upcall(),
        SYSCALL | SYSCALL32 | SYSENTER | SYSTEM_CALL_GATE => system_call(frame),
        vector => exception(vector, frame),
    }
}

fn system_call(frame: &mut TrapFrame) {
    match handler_in(&SYSCALL_HANDLER) {
        Some(handler) => handler(frame),
        None => panic!("a system call, and no handler: {frame:#x?}"),
    }
}

fn exception(vector: u64, frame: &mut TrapFrame) {
    let slot = cpu::recovery_slot();
    // SAFETY: the running vCPU's own words.
    let (recovery, user) = unsafe { (slot.read(), cpu::user_slot().read()) };
    // Without a process, a frame of user mode is one to which `attempt`'s action tried to return.
    if recovery != 0 && (user == 0 || !frame.from_user()) {
        frame.land(recovery);
        cpu::set_last_error(frame.error_code());
        return;
    }
    let handler = HANDLERS.get(vector as usize).and_then(handler_in);
    match handler {
        Some(handler) => handler(frame),
        None => panic!(
            "exception {vector}, address {:#x}: {frame:#x?}",
            fault_address()
        ),
    }
}

/// An exception that [`attempt`] caught.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caught {
    /// Which exception it was; above 255 for the failsafe callback.
    pub vector: u64,
    /// The exception's error code.
    pub error: u64,
}

/// Runs code that may fault. A fault ends `action` without running its destructors.
///
/// # Errors
/// The exception that ended `action`.
pub fn attempt<F: FnMut()>(mut action: F) -> Result<(), Caught> {
    extern "C" fn run<F: FnMut()>(action: usize) {
        // SAFETY: `attempt` passes its own closure, which outlives this call.
        let action = unsafe { &mut *core::ptr::with_exposed_provenance_mut::<F>(action) };
        action();
    }
    let pointer = core::ptr::from_mut(&mut action).expose_provenance();
    let slot = cpu::recovery_slot();
    // SAFETY: the closure outlives the call; the slot is the running vCPU's own.
    match unsafe { arch::xenlike_rt_try(run::<F>, pointer, slot) } {
        0 => Ok(()),
        n => Err(Caught {
            vector: n as u64 - 1,
            error: cpu::last_error(),
        }),
    }
}
