//! Entries of a 64-bit guest.
//!
//! The hypervisor bounces an exception to the guest kernel with rcx, r11 and the interrupt frame on
//! the kernel's stack (public header `arch-x86/xen-x86_64.h`). The handler returns by the iret hypercall,
//! which also restores the event mask from the saved IF.

#![expect(unsafe_code, reason = "entry points in assembly")]

use core::arch::global_asm;

use guest_pv_abi::arch_x86::{FLAT_KERNEL_CS64, FLAT_KERNEL_SS64, VGCF_IN_SYSCALL};
use guest_pv_abi::callback::{
    CALLBACKOP_REGISTER, CALLBACKTYPE_EVENT, CALLBACKTYPE_FAILSAFE, CALLBACKTYPE_SYSCALL,
    CALLBACKTYPE_SYSCALL32, CALLBACKTYPE_SYSENTER, CallbackRegister,
};
use guest_pv_abi::{Errno, hypercall};

use crate::hyper;
use crate::traps::{EVENT, FAILSAFE, SYSCALL, SYSCALL32, SYSENTER, SYSTEM_CALL_GATE, dispatch};

/// Code selector of the entry points.
pub(crate) const CODE: u16 = FLAT_KERNEL_CS64;

/// RFLAGS.IF: in a saved frame, events were unmasked.
const INTERRUPT_FLAG: u64 = 1 << 9;

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

    /// The exception vector, or a number above 255 for a callback.
    #[must_use]
    pub const fn vector_number(&self) -> u64 {
        self.vector
    }

    /// The error code; 0 if the exception has none.
    #[must_use]
    pub const fn error_code(&self) -> u64 {
        self.error
    }

    /// The address of the interrupted instruction, or of the one after it.
    #[must_use]
    pub const fn instruction(&self) -> u64 {
        self.rip
    }

    /// Makes the interrupted code continue at `address`.
    pub const fn resume_at(&mut self, address: u64) {
        self.rip = address;
    }

    /// Number and first two arguments of a system call: rax, rdi, rsi.
    #[must_use]
    pub const fn call(&self) -> [u64; 3] {
        [self.rax, self.rdi, self.rsi]
    }

    /// Sets the result of a system call, in rax.
    pub const fn set_result(&mut self, result: u64) {
        self.rax = result;
    }

    /// Makes kernel code under `traps::attempt` end: it continues at the landing, with the stack pointer that
    /// `attempt` saved.
    pub(crate) fn land(&mut self, saved_stack: u64) {
        // Whichever selectors were loaded at the fault, the landing needs the kernel's own.
        self.rip = address(&xenlike_rt_try_landing);
        self.rsp = saved_stack;
        self.cs = u64::from(FLAT_KERNEL_CS64 & !3);
        self.ss = u64::from(FLAT_KERNEL_SS64);
        self.rflags &= INTERRUPT_FLAG;
        self.rax = self.vector + 1;
    }
}

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
    pub(crate) fn xenlike_rt_try(
        function: extern "C" fn(usize),
        argument: usize,
        slot: *mut u64,
    ) -> usize;
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

/// Address of the entry point of a vector below 32.
pub(crate) fn vector_entry(vector: usize) -> u64 {
    address(&xenlike_rt_trap_entries) + vector as u64 * 16
}

/// Address of the entry point of `int 0x80`.
pub(crate) fn gate_entry() -> u64 {
    address(&xenlike_rt_gate_entry)
}

/// Registers the callbacks for the running vCPU.
pub(crate) fn register_callbacks() -> Result<(), Errno> {
    let types = [
        CALLBACKTYPE_EVENT,
        CALLBACKTYPE_FAILSAFE,
        CALLBACKTYPE_SYSCALL,
    ];
    for (kind, address) in types.into_iter().zip(callbacks()) {
        register(kind, address)?;
    }
    Ok(())
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

/// Common handler of all entries. It leaves the flags word of the iret hypercall in `frame.error`.
extern "C" fn trap(frame: &mut TrapFrame) {
    let vector = frame.vector;
    dispatch(frame);
    // While rcx and r11 are still as the syscall instruction left them, the fast return restores neither.
    let fast = vector == SYSCALL && frame.rcx == frame.rip && frame.r11 == frame.rflags;
    frame.error = if fast { VGCF_IN_SYSCALL } else { 0 };
}
