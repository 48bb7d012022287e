//! Exceptions, event upcalls and system calls: the virtual IDT, the callbacks, and the return from them.
//!
//! The hypervisor bounces an exception to the guest kernel with rcx, r11 and the interrupt frame on
//! the kernel's stack (public header `arch-x86/xen-x86_64.h`). The handler returns by the iret hypercall,
//! which also restores the event mask from the saved IF.

#![expect(unsafe_code, reason = "entry points in assembly")]

use core::arch::global_asm;
use core::sync::atomic::{AtomicUsize, Ordering};

use guest_pv_abi::arch_x86::{FLAT_KERNEL_CS64, FLAT_KERNEL_SS64, TrapInfo, VGCF_IN_SYSCALL};
use guest_pv_abi::call::hypercall1;
use guest_pv_abi::callback::{
    CALLBACKOP_REGISTER, CALLBACKTYPE_EVENT, CALLBACKTYPE_FAILSAFE, CALLBACKTYPE_SYSCALL,
    CALLBACKTYPE_SYSCALL32, CALLBACKTYPE_SYSENTER, CallbackRegister,
};
use guest_pv_abi::{Errno, GuestHandle, hypercall};

use crate::{cpu, events, hyper};

/// Vectors with an entry stub: all below 32, which are the CPU's exceptions and can be raised by `int n`.
pub const VECTORS: usize = 32;

/// `TrapFrame::vector` of an event upcall.
const EVENT: u64 = 0x100;
/// `TrapFrame::vector` of a system call.
const SYSCALL: u64 = 0x101;
/// `TrapFrame::vector` of the failsafe callback.
const FAILSAFE: u64 = 0x102;
/// `TrapFrame::vector` of a system call by `syscall` of 32-bit code.
pub const SYSCALL32: u64 = 0x103;
/// `TrapFrame::vector` of a system call by `sysenter`. The instruction saves neither return address nor
/// stack pointer, so the process must pass both in registers.
pub const SYSENTER: u64 = 0x104;
/// The vector of 32-bit Linux's system calls (`int 0x80`), which user mode may raise.
pub const SYSTEM_CALL_GATE: u64 = 0x80;

/// RFLAGS.IF: in a saved frame, events were unmasked.
const INTERRUPT_FLAG: u64 = 1 << 9;

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

/// The interrupted registers, in the order in which the entry code pushes them. A handler may change them.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
#[expect(missing_docs, reason = "registers")]
pub struct TrapFrame {
    pub r15: u64,
    pub r14: u64,
    pub r13: u64,
    pub r12: u64,
    pub rbp: u64,
    pub rbx: u64,
    pub r11: u64,
    pub r10: u64,
    pub r9: u64,
    pub r8: u64,
    pub rax: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rsi: u64,
    pub rdi: u64,
    /// Exception vector, or a number above 255 for a callback.
    pub vector: u64,
    /// Error code; 0 if the exception has none.
    pub error: u64,
    pub rip: u64,
    /// Code selector in the low half; the saved event mask above it.
    pub cs: u64,
    pub rflags: u64,
    pub rsp: u64,
    pub ss: u64,
}

impl TrapFrame {
    /// Whether user mode was interrupted.
    #[must_use]
    pub const fn from_user(&self) -> bool {
        self.cs & 3 == 3
    }
}

/// A handler of an exception or system call. The frame's registers are restored when it returns.
pub type Handler = fn(&mut TrapFrame);

static HANDLERS: [AtomicUsize; VECTORS] = [const { AtomicUsize::new(0) }; VECTORS];
static SYSCALL_HANDLER: AtomicUsize = AtomicUsize::new(0);

// A bounce frame is rcx, r11, [error], rip, cs, rflags, rsp, ss. The stubs convert it to a `TrapFrame`.
// `xenlike_rt_trap_return` converts that to the frame of the iret hypercall, whose fields rcx and flags
// take the places of the vector and the error code.
global_asm!(
    r#"
    .macro trap_entry vector
    .balign 16
        pop rcx
        pop r11
        .if ((1 << \vector) & {with_error}) == 0
        push 0
        .endif
        push \vector
        jmp xenlike_rt_trap_common
    .endm

    .pushsection .text.traps, "ax", @progbits
    .balign 16
    xenlike_rt_trap_entries:
    .irp vector, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
        trap_entry \vector
    .endr

    .global xenlike_rt_event_entry
    xenlike_rt_event_entry:
        pop rcx
        pop r11
        push 0
        push {event}
        jmp xenlike_rt_trap_common

    .global xenlike_rt_syscall_entry
    xenlike_rt_syscall_entry:
        pop rcx
        pop r11
        push 0
        push {syscall}
        jmp xenlike_rt_trap_common

    .macro system_call_entry name, vector
    .global \name
    \name:
        pop rcx
        pop r11
        push 0
        push \vector
        jmp xenlike_rt_trap_common
    .endm
    system_call_entry xenlike_rt_syscall32_entry, {syscall32}
    system_call_entry xenlike_rt_sysenter_entry, {sysenter}
    system_call_entry xenlike_rt_gate_entry, {gate}

    // rcx, r11 and the four data selectors lie above the interrupt frame here.
    .global xenlike_rt_failsafe_entry
    xenlike_rt_failsafe_entry:
        pop rcx
        pop r11
        add rsp, 32
        push 0
        push {failsafe}

    xenlike_rt_trap_common:
        push rdi
        push rsi
        push rdx
        push rcx
        push rax
        push r8
        push r9
        push r10
        push r11
        push rbx
        push rbp
        push r12
        push r13
        push r14
        push r15
        cld
        mov rdi, rsp
        mov rbp, rsp
        and rsp, -16
        call {trap}
        mov rsp, rbp

    xenlike_rt_trap_return:
        pop r15
        pop r14
        pop r13
        pop r12
        pop rbp
        pop rbx
        pop r11
        pop r10
        pop r9
        pop r8
        pop rax
        pop rcx
        pop rdx
        pop rsi
        pop rdi
        mov [rsp], rcx
        push r11
        push rax
        mov eax, {iret}
        syscall
        ud2

    // try(function, argument, recovery slot): 0, or vector + 1 of the exception that ended it.
    .global xenlike_rt_try
    xenlike_rt_try:
        push rbp
        push rbx
        push r12
        push r13
        push r14
        push r15
        push rdx
        mov [rdx], rsp
        mov rax, rdi
        mov rdi, rsi
        call rax
        xor eax, eax
    .global xenlike_rt_try_landing
    xenlike_rt_try_landing:
        pop rdx
        mov qword ptr [rdx], 0
        pop r15
        pop r14
        pop r13
        pop r12
        pop rbx
        pop rbp
        cld
        ret
    .popsection
    "#,
    with_error = const 0x6022_7d00u32,
    event = const EVENT,
    syscall = const SYSCALL,
    failsafe = const FAILSAFE,
    syscall32 = const SYSCALL32,
    sysenter = const SYSENTER,
    gate = const SYSTEM_CALL_GATE,
    iret = const hypercall::IRET,
    trap = sym trap,
);

unsafe extern "C" {
    safe static xenlike_rt_trap_entries: u8;
    safe static xenlike_rt_event_entry: u8;
    safe static xenlike_rt_syscall_entry: u8;
    safe static xenlike_rt_failsafe_entry: u8;
    safe static xenlike_rt_syscall32_entry: u8;
    safe static xenlike_rt_sysenter_entry: u8;
    safe static xenlike_rt_gate_entry: u8;
    safe static xenlike_rt_try_landing: u8;
    fn xenlike_rt_try(function: extern "C" fn(u64), argument: u64, slot: *mut u64) -> u64;
}

fn address(symbol: &'static u8) -> u64 {
    core::ptr::from_ref(symbol).addr() as u64
}

/// Addresses of the event, failsafe and syscall entry points, in this order.
pub(crate) fn callbacks() -> [u64; 3] {
    [
        address(&xenlike_rt_event_entry),
        address(&xenlike_rt_failsafe_entry),
        address(&xenlike_rt_syscall_entry),
    ]
}

/// The virtual IDT. User mode may raise breakpoint, overflow and the system call gate by `int n`; the other
/// vectors are for exceptions alone.
#[must_use]
pub fn table() -> [TrapInfo; VECTORS + 2] {
    let mut table = [TrapInfo::default(); VECTORS + 2];
    for (vector, entry) in table.iter_mut().enumerate().take(VECTORS) {
        entry.vector = vector as u8;
        entry.flags = if vector == 3 || vector == 4 { 3 } else { 0 };
        entry.cs = FLAT_KERNEL_CS64;
        entry.address = address(&xenlike_rt_trap_entries) + vector as u64 * 16;
    }
    table[VECTORS] = TrapInfo {
        vector: SYSTEM_CALL_GATE as u8,
        flags: 3,
        cs: FLAT_KERNEL_CS64,
        address: address(&xenlike_rt_gate_entry),
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
    let types = [
        CALLBACKTYPE_EVENT,
        CALLBACKTYPE_FAILSAFE,
        CALLBACKTYPE_SYSCALL,
    ];
    for (kind, address) in types.into_iter().zip(callbacks()) {
        let registered = register(kind, address);
        assert!(
            registered.is_ok(),
            "callback {kind} is refused: {registered:?}"
        );
    }
}

fn register(kind: u32, address: u64) -> Result<(), Errno> {
    let mut request = CallbackRegister {
        type_: kind as u16,
        address,
        ..CallbackRegister::default()
    };
    hyper::callback_op(CALLBACKOP_REGISTER, &mut request).map(|_| ())
}

/// Also handles `syscall` and `sysenter` from 32-bit processes on the running vCPU; `int
/// 0x80` is always handled.
///
/// # Errors
/// The errno that the hypervisor returned.
pub fn take_system_calls_of_32_bits() -> Result<(), Errno> {
    register(CALLBACKTYPE_SYSCALL32, address(&xenlike_rt_syscall32_entry))?;
    register(CALLBACKTYPE_SYSENTER, address(&xenlike_rt_sysenter_entry))
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
    unsafe { (&raw const (*info).arch.cr2).read_volatile() }
}

/// Common handler of all entries. It leaves the flags word of the iret hypercall in `frame.error`.
extern "C" fn trap(frame: &mut TrapFrame) {
    let mut flags = 0;
    match frame.vector {
        EVENT => events::upcall(),
        SYSCALL32 | SYSENTER | SYSTEM_CALL_GATE => system_call(frame),
        SYSCALL => {
            system_call(frame);
            // rcx and r11 are still as the syscall instruction left them: the fast return restores neither.
            if frame.rcx == frame.rip && frame.r11 == frame.rflags {
                flags = VGCF_IN_SYSCALL;
            }
        }
        vector => exception(vector, frame),
    }
    frame.error = flags;
}

fn system_call(frame: &mut TrapFrame) {
    match handler_in(&SYSCALL_HANDLER) {
        Some(handler) => handler(frame),
        None => panic!("a system call, and no handler: {frame:#x?}"),
    }
}

fn exception(vector: u64, frame: &mut TrapFrame) {
    let slot = cpu::recovery_slot();
    // SAFETY: the running vCPU's own word.
    let recovery = unsafe { slot.read() };
    if recovery != 0 && !frame.from_user() {
        // Whichever selectors were loaded at the fault, the landing needs the kernel's own.
        frame.rip = address(&xenlike_rt_try_landing);
        frame.rsp = recovery;
        frame.cs = u64::from(FLAT_KERNEL_CS64 & !3);
        frame.ss = u64::from(FLAT_KERNEL_SS64);
        frame.rflags &= INTERRUPT_FLAG;
        frame.rax = vector + 1;
        cpu::set_last_error(frame.error);
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
    extern "C" fn run<F: FnMut()>(action: u64) {
        // SAFETY: `attempt` passes its own closure, which outlives this call.
        let action = unsafe { &mut *core::ptr::with_exposed_provenance_mut::<F>(action as usize) };
        action();
    }
    let pointer = core::ptr::from_mut(&mut action).expose_provenance();
    let slot = cpu::recovery_slot();
    // SAFETY: the closure outlives the call; the slot is the running vCPU's own.
    match unsafe { xenlike_rt_try(run::<F>, pointer as u64, slot) } {
        0 => Ok(()),
        n => Err(Caught {
            vector: n - 1,
            error: cpu::last_error(),
        }),
    }
}
