//! Entries of a 32-bit guest.
//!
//! The hypervisor bounces an exception to ring 1 with the frame that the CPU would push there: error code (if there is
//! one), eip, cs, eflags, and from ring 3 also esp and ss. The saved event mask is in the upper half of cs. The handler
//! returns by the iret hypercall, which also restores the event mask from the saved IF.

#![expect(unsafe_code, reason = "entry points in assembly")]

use core::arch::global_asm;

use guest_pv_abi::arch_x86::{Callback, FLAT_KERNEL_CS, FLAT_KERNEL_DS, HYPERCALL_VECTOR};
use guest_pv_abi::callback::{
    CALLBACKOP_REGISTER, CALLBACKTYPE_EVENT, CALLBACKTYPE_FAILSAFE, CALLBACKTYPE_SYSCALL32,
    CALLBACKTYPE_SYSENTER, CallbackRegister,
};
use guest_pv_abi::{Errno, hypercall};

use crate::hyper;
use crate::traps::{EVENT, FAILSAFE, SYSCALL32, SYSENTER, SYSTEM_CALL_GATE, dispatch};

/// Code selector of the entry points.
pub(crate) const CODE: u16 = FLAT_KERNEL_CS;

/// EFLAGS.IF: in a saved frame, events were unmasked.
const INTERRUPT_FLAG: u32 = 1 << 9;

/// The interrupted registers, in the order in which the entry code pushes them. A handler may change them.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
#[expect(missing_docs, reason = "registers")]
pub struct TrapFrame {
    pub edi: u32,
    pub esi: u32,
    pub ebp: u32,
    pub ebx: u32,
    pub edx: u32,
    pub ecx: u32,
    pub eax: u32,
    pub ds: u32,
    pub es: u32,
    /// Exception vector, or a number above 255 for a callback.
    pub vector: u32,
    /// Error code; 0 if the exception has none.
    pub error: u32,
    pub eip: u32,
    pub cs: u16,
    /// The event mask before the entry.
    pub saved_upcall_mask: u16,
    pub eflags: u32,
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
        self.vector as u64
    }

    /// The error code; 0 if the exception has none.
    #[must_use]
    pub const fn error_code(&self) -> u64 {
        self.error as u64
    }

    /// The address of the interrupted instruction, or of the one after it.
    #[must_use]
    pub const fn instruction(&self) -> u64 {
        self.eip as u64
    }

    /// Makes the interrupted code continue at `address`.
    pub const fn resume_at(&mut self, address: u64) {
        self.eip = address as u32;
    }

    /// Number and first two arguments of a system call: eax, ebx, ecx.
    #[must_use]
    pub const fn call(&self) -> [u64; 3] {
        [self.eax as u64, self.ebx as u64, self.ecx as u64]
    }

    /// Sets the result of a system call, in eax.
    pub const fn set_result(&mut self, result: u64) {
        self.eax = result as u32;
    }

    /// Makes kernel code under `traps::attempt` end: it continues at the landing, which takes the stack pointer that
    /// `attempt` saved from ecx, as a return to the same ring doesn't change the stack.
    pub(crate) fn land(&mut self, saved_stack: u64) {
        self.eip = address(&xenlike_rt_try_landing) as u32;
        self.cs = CODE;
        self.eflags &= INTERRUPT_FLAG;
        self.ecx = saved_stack as u32;
        self.eax = self.vector + 1;
    }
}

// The stubs complete a bounce frame to a `TrapFrame`. The iret hypercall takes eax, eip, cs, eflags and, for a return to
// ring 3, esp and ss.
global_asm!(
    r#"
    .macro trap_entry vector
    .balign 16
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

    .macro callback_entry name, vector
    .global \name
    \name:
        push 0
        push \vector
        jmp xenlike_rt_trap_common
    .endm
    callback_entry xenlike_rt_event_entry, {event}
    callback_entry xenlike_rt_syscall32_entry, {syscall32}
    callback_entry xenlike_rt_sysenter_entry, {sysenter}
    callback_entry xenlike_rt_gate_entry, {gate}

    // The four data selectors lie above the interrupt frame here.
    .global xenlike_rt_failsafe_entry
    xenlike_rt_failsafe_entry:
        add esp, 16
        push 0
        push {failsafe}

    xenlike_rt_trap_common:
        push 0
        mov word ptr [esp], es
        push 0
        mov word ptr [esp], ds
        push eax
        push ecx
        push edx
        push ebx
        push ebp
        push esi
        push edi
        cld
        mov eax, {data}
        mov ds, eax
        mov es, eax
        mov ebp, esp
        and esp, -16
        sub esp, 12
        push ebp
        call {trap}
        mov esp, ebp
        pop edi
        pop esi
        pop ebp
        pop ebx
        pop edx
        pop ecx
        pop eax
        mov ds, word ptr [esp]
        mov es, word ptr [esp + 4]
        add esp, 16
        push eax
        mov eax, {iret}
        int {hypercall_vector}
        ud2

    // try(function, argument, recovery slot): 0, or vector + 1 of the exception that ended it.
    .global xenlike_rt_try
    xenlike_rt_try:
        push ebp
        push ebx
        push esi
        push edi
        mov edx, [esp + 28]
        push edx
        mov [edx], esp
        mov ebp, esp
        mov eax, [esp + 28]
        mov ecx, [esp + 24]
        and esp, -16
        sub esp, 12
        push eax
        call ecx
        xor eax, eax
        mov esp, ebp
    3:  pop edx
        mov dword ptr [edx], 0
        pop edi
        pop esi
        pop ebx
        pop ebp
        cld
        ret
    .global xenlike_rt_try_landing
    xenlike_rt_try_landing:
        // Whichever selectors were loaded at the fault, the caller needs the kernel's own.
        mov edx, {data}
        mov ds, edx
        mov es, edx
        mov ss, edx
        mov esp, ecx
        jmp 3b
    .popsection
    "#,
    with_error = const 0x6022_7d00u32,
    event = const EVENT,
    failsafe = const FAILSAFE,
    syscall32 = const SYSCALL32,
    sysenter = const SYSENTER,
    gate = const SYSTEM_CALL_GATE,
    data = const FLAT_KERNEL_DS,
    iret = const hypercall::IRET,
    hypercall_vector = const HYPERCALL_VECTOR,
    trap = sym trap,
);

unsafe extern "C" {
    safe static xenlike_rt_trap_entries: u8;
    safe static xenlike_rt_event_entry: u8;
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

/// The event and failsafe entry points, in this order.
pub(crate) fn callbacks() -> [Callback; 2] {
    [
        entry_point(&xenlike_rt_event_entry),
        entry_point(&xenlike_rt_failsafe_entry),
    ]
}

fn entry_point(symbol: &'static u8) -> Callback {
    Callback {
        cs: CODE.into(),
        eip: address(symbol) as u32,
    }
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
    let [event, failsafe] = callbacks();
    register(CALLBACKTYPE_EVENT, event)?;
    register(CALLBACKTYPE_FAILSAFE, failsafe)
}

fn register(kind: u32, address: Callback) -> Result<(), Errno> {
    let mut request = CallbackRegister {
        type_: kind as u16,
        address,
        ..CallbackRegister::default()
    };
    hyper::callback_op(CALLBACKOP_REGISTER, &mut request).map(|_| ())
}

/// Also handles `syscall` and `sysenter` from processes on the running vCPU; `int 0x80` is always handled.
///
/// # Errors
/// The errno that the hypervisor returned.
pub fn take_system_calls_of_32_bits() -> Result<(), Errno> {
    register(
        CALLBACKTYPE_SYSCALL32,
        entry_point(&xenlike_rt_syscall32_entry),
    )?;
    register(
        CALLBACKTYPE_SYSENTER,
        entry_point(&xenlike_rt_sysenter_entry),
    )
}

/// Common handler of all entries.
extern "C" fn trap(frame: &mut TrapFrame) {
    dispatch(frame);
}
