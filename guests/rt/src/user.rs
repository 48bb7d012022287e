//! User mode: a separate address space in ring 3, entered by the iret hypercall and left by
//! system calls and exceptions.
//!
//! A 64-bit PV kernel and its user mode share ring 3. The hypervisor separates them by two base tables
//! and switches tables at each entry and exit. The user table maps nothing of the kernel.

#![expect(unsafe_code, reason = "switches modes")]

use core::arch::global_asm;

use guest_pv_abi::arch_x86::{FLAT_KERNEL_SS64, FLAT_USER_CS32, FLAT_USER_CS64, FLAT_USER_SS64};
use guest_pv_abi::call::hypercall2;
use guest_pv_abi::xen::{
    DOMID_SELF, MMUEXT_NEW_USER_BASEPTR, MMUEXT_PIN_L4_TABLE, MMUEXT_UNPIN_TABLE, MmuextOp,
};
use guest_pv_abi::{Errno, errno, hypercall};

use crate::memory::{mfn_of, pfn_of};
use crate::paging::Free;
use crate::tables::{self, Access, NO_EXECUTE, RAM_FLAGS, READ_ONLY_FLAGS, Source};
use crate::{cpu, hyper};

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
    fn xenlike_rt_user_leave(value: u64, saved: u64) -> !;
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

/// An address space for user code.
#[derive(Debug)]
pub struct AddressSpace {
    /// The L4 table, in the direct mapping.
    root: u64,
}

/// The rights of user code on a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// The page can be read and executed.
    Code,
    /// The page can't be executed; it can be read, or read and written.
    Data(Access),
}

impl AddressSpace {
    /// Makes an empty address space with a pinned L4 table.
    ///
    /// # Errors
    /// ENOMEM, or the errno that the hypervisor returned.
    pub fn new() -> Result<Self, Errno> {
        let root = Free.take().ok_or(errno::ENOMEM)?;
        let space = Self { root };
        // SAFETY: the page is zeroed and has no other user; it is a table from now on.
        unsafe { tables::make_read_only(root) }?;
        space.request(MMUEXT_PIN_L4_TABLE)?;
        Ok(space)
    }

    fn request(&self, cmd: u32) -> Result<(), Errno> {
        let mfn = mfn_of(pfn_of(self.root)).ok_or(errno::EINVAL)?;
        let request = MmuextOp {
            cmd,
            arg1: mfn,
            ..MmuextOp::default()
        };
        // SAFETY: the table belongs to this address space, which maps nothing of the kernel's.
        unsafe { hyper::mmuext_op(&[request]) }?;
        Ok(())
    }

    /// Maps a page of the kernel (an address in the direct mapping) at a user address as well.
    ///
    /// # Errors
    /// ENOMEM, or the errno that the hypervisor returned.
    pub fn map(&self, address: u64, page: *const u8, usage: Use) -> Result<(), Errno> {
        let mfn = mfn_of(pfn_of(page.addr() as u64)).ok_or(errno::EINVAL)?;
        let flags = match usage {
            Use::Code => READ_ONLY_FLAGS,
            Use::Data(Access::ReadOnly) => READ_ONLY_FLAGS | NO_EXECUTE,
            Use::Data(Access::ReadWrite) => RAM_FLAGS | NO_EXECUTE,
        };
        let entry = |_| Some((mfn << 12) | flags);
        // SAFETY: no reference of the kernel points to a user address.
        unsafe { tables::set_range(self.root, address, 1, DOMID_SELF, &entry, &mut Free) }
    }

    /// Runs user code at `rip` on the stack `rsp`, with upcalls unmasked, until a handler calls [`leave`];
    /// returns the value of that call.
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
}

impl Drop for AddressSpace {
    /// Unpins the table. Its pages stay allocated.
    fn drop(&mut self) {
        let none = MmuextOp {
            cmd: MMUEXT_NEW_USER_BASEPTR,
            ..MmuextOp::default()
        };
        // SAFETY: no user code is running.
        let _ = unsafe { hyper::mmuext_op(&[none]) };
        let _ = self.request(MMUEXT_UNPIN_TABLE);
    }
}

/// Ends user code from inside a system call's or exception's handler: [`AddressSpace::run`] returns
/// `value`.
///
/// # Panics
/// If no user code runs on this vCPU.
pub fn leave(value: u64) -> ! {
    // SAFETY: the word belongs to the running vCPU.
    let saved = unsafe { cpu::user_slot().read() };
    assert!(saved != 0, "no user code to leave");
    // SAFETY: `saved` is the stack pointer of the `run` that waits on this vCPU.
    unsafe { xenlike_rt_user_leave(value, saved) }
}
