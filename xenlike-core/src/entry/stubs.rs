//! The ways into ring 0 and the one way out: the only assembly on a guest's path.
//!
//! Each stub establishes the same state: all registers are in a [`TrapFrame`], the registers are cleared so that a guest's
//! values can't steer speculation, and the direction and alignment flags are clear. Then it calls Rust: one of
//! [`super::traps::HANDLERS`], or [`super::syscall::handle_syscall`].
//!
//! Stacks: a trap from a guest pushes its frame at the top of the CPU's block (TSS.RSP0). A trap from ring 0 (in the idle
//! loop, or a guest copy that faults) nests below. #DB, NMI, #DF and #MC have their own stacks inside the same block,
//! because they can be raised before a stub has switched stacks (`mov ss` before `syscall`; an NMI at the first
//! instruction). If they interrupted a guest, all but #DF move to the top frame, as only the ordinary exit may return to a
//! guest.
#![expect(unsafe_code, reason = "the stubs themselves")]

use core::arch::global_asm;
use core::mem::offset_of;

use super::harden::{self, Steps};
use crate::arch::frame::{TrapFrame, load_registers, save_registers};
use crate::arch::percpu::{BLOCK_BYTES, CpuInfo, FRAME_FROM_TOP};
use crate::arch::speculation::choice::path;
use crate::kit::MAX_CPUS;

/// Where the CPU's syscall stub keeps the guest's rsp for two instructions, until it is pushed, and the stack to which it
/// switches. Each CPU has stubs of its own that address it relative to rip, so that GS stays the guest's.
#[repr(C, align(16))]
pub struct SyscallScratch {
    /// The guest's rsp, for two instructions.
    pub guest_rsp: crate::kit::atomic::AtomicU64,
    /// The end of the CPU's top frame, where the stack begins.
    pub stack: crate::kit::atomic::AtomicU64,
}

#[expect(
    clippy::declare_interior_mutable_const,
    reason = "the initial value of an array of atomics"
)]
const EMPTY: SyscallScratch = SyscallScratch {
    guest_rsp: crate::kit::atomic::AtomicU64::new(0),
    stack: crate::kit::atomic::AtomicU64::new(0),
};
/// One for each CPU. [`super::init_cpu`] writes it, the stubs read it.
pub static SYSCALL_SCRATCH: [SyscallScratch; MAX_CPUS] = [EMPTY; MAX_CPUS];

/// The distance between the syscall stubs of two CPUs, in bytes.
pub const SYSCALL_STUB_BYTES: usize = 64;
/// The distance between the stubs of two vectors, in bytes.
pub const VECTOR_STUB_BYTES: usize = 16;

unsafe extern "C" {
    /// 256 stubs, at a distance of [`VECTOR_STUB_BYTES`].
    pub static vector_stubs: u8;
    /// `MAX_CPUS` stubs for LSTAR, at a distance of [`SYSCALL_STUB_BYTES`].
    pub static syscall_stubs: u8;
    /// The stubs for CSTAR, likewise.
    pub static syscall32_stubs: u8;
    /// The stubs for IA32_SYSENTER_EIP, likewise.
    pub static sysenter_stubs: u8;
    /// The IRET that leaves ring 0 to a guest. It may fault.
    pub static iret_to_guest: u8;
    /// Leaves ring 0 with the frame at the top of the CPU's block.
    pub fn leave_to_guest() -> !;
}

global_asm!(
    harden::macros!(),
    ".macro CLOSE_GUEST_MEMORY",
    crate::close_guest_memory!(),
    ".endm",
    r#"
.macro SAVE_REGISTERS
"#,
    save_registers!(),
    r#"
.endm

// The steps against speculation are in a section of their own. The name at its start keeps them apart from the code
// that the linker puts before them, for `xtask frames` and for disassemblers.
.pushsection .text.harden, "ax"
hardened_ways:
.popsection

// Clears the registers, so that a guest's values don't steer speculation in ring 0.
.macro CLEAR_REGISTERS
    xor eax, eax
    xor ecx, ecx
    xor edx, edx
    xor esi, esi
    xor r8d, r8d
    xor r9d, r9d
    xor r10d, r10d
    xor r11d, r11d
    xor ebx, ebx
    xor ebp, ebp
    xor r12d, r12d
    xor r13d, r13d
    xor r14d, r14d
    xor r15d, r15d
.endm

// An interrupt gate doesn't clear DF and AC (APM vol. 2 8.9.1).
.macro CLEAN_FLAGS
    cld
    CLOSE_GUEST_MEMORY
.endm

// Page-table isolation would change the address space here: all ways into ring 0 and the way out have the place.
.macro ENTER_ADDRESS_SPACE
.endm
.macro LEAVE_ADDRESS_SPACE
.endm

// Rust is called with rsp at a multiple of 16, for which this word is below the frame. It stays there until the exit, so
// frames are loaded from above it.
.macro ALIGN_STACK
    sub rsp, 8
.endm

// Loads the registers that SYSRET doesn't, from the frame above the word.
.macro LOAD_REGISTERS
"#,
    load_registers!(),
    r#"
.endm

// Loads all registers, and leaves rsp where IRET takes the rest from.
.macro LOAD_FOR_IRET
    LOAD_REGISTERS
    mov r11, [rsp + 56]
    mov rcx, [rsp + 96]
    add rsp, 8 + {rip}
.endm

.section .text.entry, "ax", @progbits
.balign 64
.global vector_stubs
vector_stubs:
.set v, 0
.rept 256
    .balign 16
    .if v == 17
    jmp error_stub_17
    .elseif v == 21
    jmp error_stub_21
    .elseif v == 29
    jmp error_stub_29
    .elseif v == 30
    jmp error_stub_30
    .else
    .if (v != 8) && (v != 10) && (v != 11) && (v != 12) && (v != 13) && (v != 14)
    push 0
    .endif
    mov dword ptr [rsp + 4], v
    .if (v == 1) || (v == 2) || (v == 18)
    jmp trap_ist
    .else
    jmp trap_common
    .endif
    .endif
    .set v, v + 1
.endr

// Exceptions with an error code whose vectors devices can use, too; an interrupt pushes no error code. The CPU pushes its
// five words below a multiple of 16 (APM vol. 2 §8.9.3), so without an error code rsp is at an odd multiple of 8.
.irp number, 17, 21, 29, 30
.balign 16
error_stub_\number:
    test spl, 8
    jz 1f
    push 0
1:  mov dword ptr [rsp + 4], \number
    jmp trap_common
.endr

.balign 16
dispatch_trap:
    movzx eax, byte ptr [rdi + {vector}]
    mov rcx, [rip + {trap_handlers}]
    jmp qword ptr [rcx + rax * 8]

.balign 64
trap_common:
    ENTER_ADDRESS_SPACE
    SAVE_REGISTERS
    CLEAN_FLAGS
    mov rdi, rsp
    CLEAR_REGISTERS
    ALIGN_STACK
    CALL_RUST dispatch_trap
    test byte ptr [rsp + 8 + {cs}], 3
    jnz exit_to_guest
    jmp .Lrestore_and_iret

// #DB, NMI and #MC, which have their own stacks. From a guest they move to the top frame, because a return to a guest may
// fault, and must do the work of the ordinary exit. From ring 0 they stay, as the main stack may not be in use yet.
trap_ist:
    ENTER_ADDRESS_SPACE
    SAVE_REGISTERS
    CLEAN_FLAGS
    CLEAR_REGISTERS
    test byte ptr [rsp + {cs}], 3
    jz 2f
    mov rsi, rsp
    mov rdi, rsp
    or rdi, {block_mask}
    sub rdi, {frame_from_top} - 1
    mov rdx, rdi
    mov ecx, {frame_words}
    rep movsq
    mov rsp, rdx
    cmp byte ptr [rsp + {vector}], {nmi}
    jne 2f
    // The CPU blocks NMIs until it executes an IRET (APM vol. 2 §8.2.3). This CPU may leave by the SYSRET of another vCPU,
    // or go to sleep, so an IRET to the next instruction ends the blocking here.
    mov rax, rsp
    push 0
    push rax
    pushfq
    push {hypervisor_cs}
    lea rax, [rip + 2f]
    push rax
    iretq
2:  mov rdi, rsp
    ALIGN_STACK
    CALL_RUST dispatch_trap
    test byte ptr [rsp + 8 + {cs}], 3
    jnz exit_to_guest

// Returns to ring 0, to exactly where the trap was raised.
.Lrestore_and_iret:
    LEAVE_RING0 return_hardened, return_tested
    mov rax, [rsp + 8 + {rip}]
return_tested:
    LOAD_FOR_IRET
    iretq

// The trap may have interrupted the exit after its mitigations, which the way in has undone: they are executed again.
.pushsection .text.harden, "ax"
return_hardened:
    mov rax, [rsp + 8 + {rip}]
    lea rcx, [rip + exit_clean]
    cmp rax, rcx
    jb return_tested
    lea rcx, [rip + iret_to_guest]
    cmp rax, rcx
    ja return_tested
    HARDEN_EXIT
    jmp return_tested
.popsection

.balign 64
.global leave_to_guest
leave_to_guest:
    or rsp, {block_mask}
    sub rsp, {frame_from_top} - 1
    ALIGN_STACK
    jmp exit_to_guest

// The frame's error code and vector of a system call.
.balign 8
syscall_vector:
    .long 0, {syscall_vector}

.balign 64
syscall_common:
    push r11
    push {cs64}
    push rcx
    push qword ptr [rip + syscall_vector]
    ENTER_ADDRESS_SPACE
    SAVE_REGISTERS
    mov rdi, rsp
    CLEAR_REGISTERS
    ALIGN_STACK
    CALL_RUST {handle_syscall}
// The top frame begins above the word at rsp. The CPU leaves only if there is neither work for it nor an event for the
// guest.
exit_to_guest:
    cmp dword ptr [rsp + 8 + {work}], 0
    jne exit_slow
    mov rax, [rsp + 8 + {vcpu_info}]
    cmp byte ptr [rax], 0
    jne exit_event
// `return_hardened` relies on it that from here to `iret_to_guest` the CPU only leaves.
exit_clean:
    LEAVE_ADDRESS_SPACE
    LEAVE_RING0 exit_hardened, exit_clean_tested
    test byte ptr [rsp + 8 + {vector} + 1], 1
exit_clean_tested:
    jz exit_iret
    // On Intel, SYSRET faults in ring 0 if RIP isn't canonical (SDM vol. 2, SYSRET), so such a frame leaves by IRET. RIP is
    // canonical if bits 15 to 31 of its upper half are equal: adding 1 to bit 15 then leaves bits 16 to 31 clear.
    mov eax, [rsp + 8 + {rip} + 4]
    add eax, 1 << 15
    shr eax, 16
    jnz exit_iret
    LOAD_REGISTERS
    mov rcx, [rsp + 8 + {rip}]
    mov r11, [rsp + 8 + {rflags}]
    mov rsp, [rsp + 8 + {rsp}]
    sysretq

exit_hardened:
    HARDEN_EXIT
    test byte ptr [rsp + 8 + {vector} + 1], 1
    jmp exit_clean_tested

exit_iret:
    LOAD_FOR_IRET
.global iret_to_guest
iret_to_guest:
    iretq
.pushsection .extable, "a"
    .balign 4
    .long iret_to_guest - .
    .long iret_failed - .
.popsection

exit_event:
    cmp byte ptr [rax + 1], 0
    jne exit_clean
    lea rdi, [rsp + 8]
    call {enter_upcall}
    // One upcall in a pass: another vCPU of the guest may clear the mask again at once, as often as it likes.
    cmp dword ptr [rsp + 8 + {work}], 0
    je exit_clean
exit_slow:
    lea rdi, [rsp + 8]
    call {exit_work}
    jmp exit_to_guest

// IRET could not load the guest's frame. The handler of that fault returns here, with the guest's registers loaded and
// rsp at what IRET takes, so that a trap frame is pushed again.
iret_failed:
    push 0
    SAVE_REGISTERS
    mov rdi, rsp
    CLEAR_REGISTERS
    ALIGN_STACK
    CALL_RUST {handle_iret_fault}
    jmp exit_to_guest

syscall32_common:
    push r11
    push {cs32}
    push rcx
    push 0
    ENTER_ADDRESS_SPACE
    SAVE_REGISTERS
    mov rdi, rsp
    CLEAR_REGISTERS
    ALIGN_STACK
    CALL_RUST {handle_syscall32}
    jmp exit_to_guest

// SYSENTER saves neither rip nor rsp, and clears none of TF, NT, AC and DF (SDM vol. 2, SYSENTER).
sysenter_common:
    push {ss3}
    push 0
    pushfq
    and dword ptr [rsp], {sysenter_keep}
    push 2
    popfq
    or dword ptr [rsp], 0x200
    push 3
    push 0
    push 0
    ENTER_ADDRESS_SPACE
    SAVE_REGISTERS
    mov rdi, rsp
    CLEAR_REGISTERS
    ALIGN_STACK
    CALL_RUST {handle_sysenter}
    jmp exit_to_guest

.macro SYSCALL_STUBS common
.set cpu, 0
.rept {max_cpus}
    .balign {stub_bytes}
    mov [rip + {scratch} + cpu * 16], rsp
    mov rsp, [rip + {scratch} + cpu * 16 + 8]
    push {ss3}
    push qword ptr [rip + {scratch} + cpu * 16]
    jmp \common
    .set cpu, cpu + 1
.endr
.endm

.balign 64
.global syscall_stubs
syscall_stubs:
    SYSCALL_STUBS syscall_common
.balign 64
.global syscall32_stubs
syscall32_stubs:
    SYSCALL_STUBS syscall32_common
.balign 64
.global sysenter_stubs
sysenter_stubs:
.set cpu, 0
.rept {max_cpus}
    .balign {stub_bytes}
    mov rsp, [rip + {scratch} + cpu * 16 + 8]
    jmp sysenter_common
    .set cpu, cpu + 1
.endr

.pushsection .rodata.harden, "a"
.global harden_sites_end
harden_sites_end:
.popsection
"#,
    steps = sym harden::STEPS,
    steps_ring0 = const offset_of!(Steps, ring0),
    steps_guest = const offset_of!(Steps, guest),
    steps_selector = const offset_of!(Steps, selector),
    step_spec_ctrl = const path::SPEC_CTRL,
    step_rsb = const path::RSB,
    step_ibpb = const path::IBPB,
    step_history = const path::HISTORY,
    step_verw = const path::VERW,
    trap_handlers = sym super::traps::HANDLERS,
    handle_iret_fault = sym super::ring0::handle_iret_fault,
    handle_syscall = sym super::syscall::handle_syscall,
    handle_syscall32 = sym super::syscall::handle_syscall32,
    handle_sysenter = sym super::syscall::handle_sysenter,
    enter_upcall = sym super::exit::enter_upcall,
    exit_work = sym super::exit::exit_work,
    scratch = sym SYSCALL_SCRATCH,
    max_cpus = const MAX_CPUS,
    stub_bytes = const SYSCALL_STUB_BYTES,
    cs = const offset_of!(TrapFrame, cs),
    rip = const offset_of!(TrapFrame, rip),
    rflags = const offset_of!(TrapFrame, rflags),
    rsp = const offset_of!(TrapFrame, rsp),
    vector = const offset_of!(TrapFrame, vector),
    work = const offset_of!(CpuInfo, work) - offset_of!(CpuInfo, frame),
    vcpu_info = const offset_of!(CpuInfo, vcpu_info) - offset_of!(CpuInfo, frame),
    block_mask = const BLOCK_BYTES - 1,
    frame_from_top = const FRAME_FROM_TOP,
    frame_words = const size_of::<TrapFrame>() / 8,
    syscall_vector = const TrapFrame::SYSCALL,
    nmi = const crate::arch::exception::NMI,
    hypervisor_cs = const crate::arch::desc::HYPERVISOR_CS,
    cs64 = const crate::arch::desc::FLAT_RING3_CS64,
    cs32 = const crate::arch::desc::FLAT_RING3_CS32,
    ss3 = const crate::arch::desc::FLAT_RING3_SS,
    sysenter_keep = const super::syscall::SYSENTER_KEEP,
);
