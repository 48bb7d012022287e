//! User mode of a 64-bit guest. Kernel and user mode share ring 3: the hypervisor separates them by two base tables and
//! switches tables at each entry and exit. The user table maps nothing of the kernel.

#![expect(unsafe_code, reason = "switches modes")]

use core::arch::global_asm;

use guest_pv_abi::arch_x86::{FLAT_KERNEL_SS64, FLAT_USER_CS32, FLAT_USER_CS64, FLAT_USER_SS64};
use guest_pv_abi::call::hypercall2;
use guest_pv_abi::xen::{MMUEXT_NEW_USER_BASEPTR, MMUEXT_PIN_L4_TABLE, MmuextOp};
use guest_pv_abi::{Errno, errno, hypercall};

use crate::paging::Free;
use crate::tables::{self, Source};
use crate::user::AddressSpace;
use crate::{cpu, hyper};

/// The request that pins a root table.
pub(crate) const PIN_ROOT: u32 = MMUEXT_PIN_L4_TABLE;

global_asm!(
    r#"
    .pushsection .text.user, "ax", @progbits
    // enter(rip, rsp, slot, cs): runs user code; returns what `leave` is given.
    .global xenlike_rt_user_enter
    xenlike_rt_user_enter:
        push rbp
        push rbx
        push r12
        push r13
        push r14
        push r15
        push rdx
        mov [rdx], rsp
        mov rbx, rdi
        mov rbp, rsi
        mov r12, rcx
        mov rdi, rsp
        call {set_kernel_stack}
        push {user_ss}
        push rbp
        push 0x202
        push r12
        push rbx
        push 0
        push 0
        push 0
        push 0
        xor ebx, ebx
        xor ebp, ebp
        xor edi, edi
        xor esi, esi
        xor edx, edx
        xor r8d, r8d
        xor r9d, r9d
        xor r10d, r10d
        xor r12d, r12d
        xor r13d, r13d
        xor r14d, r14d
        xor r15d, r15d
        mov eax, {iret}
        syscall
        ud2

    // leave(value, saved stack)
    .global xenlike_rt_user_leave
    xenlike_rt_user_leave:
        mov rax, rdi
        mov rsp, rsi
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
    set_kernel_stack = sym set_kernel_stack,
    user_ss = const FLAT_USER_SS64,
    iret = const hypercall::IRET,
);

unsafe extern "C" {
    fn xenlike_rt_user_enter(rip: u64, rsp: u64, slot: *mut u64, cs: u64) -> u64;
    pub(crate) fn xenlike_rt_user_leave(value: u64, saved: u64) -> !;
}

/// Makes entries from user mode push their frame below `stack`, by `stack_switch`.
extern "C" fn set_kernel_stack(stack: u64) {
    // SAFETY: no pointer is passed; the stack below is free while user code runs.
    let answer = unsafe {
        hypercall2(
            hypercall::STACK_SWITCH,
            u64::from(FLAT_KERNEL_SS64),
            stack & !15,
        )
    };
    assert!(answer == 0, "stack_switch: {answer}");
}

/// Makes the root table of an empty address space; returns its address in the direct mapping.
pub(crate) fn new_root() -> Result<u64, Errno> {
    let root = Free.take().ok_or(errno::ENOMEM)?;
    // SAFETY: the page is zeroed and has no other user; it is a table from now on.
    unsafe { tables::make_read_only(root) }?;
    Ok(root)
}

/// Notes that the kernel's table at `table` has a new entry. User tables map nothing of the kernel.
pub(crate) fn kernel_entry_added(_table: u64, _index: usize, _entry: u64) {}

impl AddressSpace {
    /// Runs user code at `rip` on the stack `rsp`, with upcalls unmasked, until a handler calls
    /// [`leave`](crate::user::leave); returns the value of that call.
    ///
    /// # Errors
    /// The errno of the hypercall that sets the user base table.
    pub fn run(&self, rip: u64, rsp: u64) -> Result<u64, Errno> {
        self.enter(rip, rsp, FLAT_USER_CS64)
    }

    /// Like [`Self::run`], for 32-bit code.
    ///
    /// # Errors
    /// As for [`Self::run`].
    pub fn run32(&self, rip: u32, rsp: u32) -> Result<u64, Errno> {
        self.enter(rip.into(), rsp.into(), FLAT_USER_CS32)
    }

    fn enter(&self, rip: u64, rsp: u64, cs: u16) -> Result<u64, Errno> {
        self.request(MMUEXT_NEW_USER_BASEPTR)?;
        // SAFETY: the slot belongs to the running vCPU; `leave` returns through it.
        Ok(unsafe { xenlike_rt_user_enter(rip, rsp, cpu::user_slot(), cs.into()) })
    }

    /// Makes sure that no CPU uses the address space.
    pub(crate) fn retire(&self) {
        let none = MmuextOp {
            cmd: MMUEXT_NEW_USER_BASEPTR,
            ..MmuextOp::default()
        };
        // SAFETY: no user code is running.
        let _ = unsafe { hyper::mmuext_op(&[none]) };
    }
}
