//! User mode of a 32-bit guest. The kernel is mapped in each address space, where ring 3 can't use its pages.
//!
//! The hypervisor's own entries are in the L2 table of the last GiB, which therefore can't be shared: each address space
//! has a copy, which shares the kernel's L1 tables and receives the entries that the kernel's table gets later.

#![expect(unsafe_code, reason = "switches modes")]

use core::arch::global_asm;

use guest_pv_abi::arch_x86::{
    FLAT_KERNEL_SS, FLAT_USER_CS, FLAT_USER_DS, FLAT_USER_SS, HYPERCALL_VECTOR, VIRT_START,
};
use guest_pv_abi::call::hypercall2;
use guest_pv_abi::xen::{DOMID_SELF, MMUEXT_NEW_BASEPTR, MMUEXT_PIN_L3_TABLE, MmuUpdate, MmuextOp};
use guest_pv_abi::{Errno, errno, hypercall};

use super::from_long;
use crate::frames::{mfn_of, pfn_of};
use crate::info::start_info;
use crate::paging::Free;
use crate::sync::Lock;
use crate::tables::{self, PRESENT, Source};
use crate::user::AddressSpace;
use crate::{cpu, hyper};

/// The request that pins a root table.
pub(crate) const PIN_ROOT: u32 = MMUEXT_PIN_L3_TABLE;

/// L3 entry of the kernel and the hypervisor.
const KERNEL_SLOT: usize = 3;
/// Entries of that slot's L2 table below the hypervisor's range.
const KERNEL_ENTRIES: usize = (VIRT_START as usize >> 21) & 511;

/// The copies of the kernel's L2 table that exist; 0 where there is none.
static COPIES: Lock<[u64; 16]> = Lock::new([0; 16]);

global_asm!(
    r#"
    .pushsection .text.user, "ax", @progbits
    // enter(eip, esp, slot): runs user code; returns what `leave` is given.
    .global xenlike_rt_user_enter
    xenlike_rt_user_enter:
        push ebp
        push ebx
        push esi
        push edi
        mov ebx, [esp + 20]
        mov ebp, [esp + 24]
        mov edx, [esp + 28]
        push edx
        mov [edx], esp
        mov edi, esp
        and esp, -16
        sub esp, 12
        push edi
        call {set_kernel_stack}
        mov esp, edi
        push {user_ss}
        push ebp
        push 0x202
        push {user_cs}
        push ebx
        push 0
        mov eax, {user_ds}
        mov ds, eax
        mov es, eax
        xor ebx, ebx
        xor ecx, ecx
        xor edx, edx
        xor esi, esi
        xor edi, edi
        xor ebp, ebp
        mov eax, {iret}
        int {hypercall_vector}
        ud2

    // leave(value, saved stack)
    .global xenlike_rt_user_leave_to
    xenlike_rt_user_leave_to:
        mov eax, [esp + 4]
        mov esp, [esp + 8]
        pop edx
        mov dword ptr [edx], 0
        pop edi
        pop esi
        pop ebx
        pop ebp
        cld
        ret
    .popsection
    "#,
    set_kernel_stack = sym set_kernel_stack,
    user_ss = const FLAT_USER_SS,
    user_cs = const FLAT_USER_CS,
    user_ds = const FLAT_USER_DS,
    iret = const hypercall::IRET,
    hypercall_vector = const HYPERCALL_VECTOR,
);

unsafe extern "C" {
    fn xenlike_rt_user_enter(eip: u32, esp: u32, slot: *mut u64) -> u32;
    fn xenlike_rt_user_leave_to(value: u32, saved: u32) -> !;
}

/// Returns `value` from the [`AddressSpace::run`] whose stack pointer is `saved`.
///
/// # Safety
/// `saved` belongs to a `run` that waits on this vCPU.
pub(crate) unsafe fn xenlike_rt_user_leave(value: u64, saved: u64) -> ! {
    // SAFETY: the caller's promise.
    unsafe { xenlike_rt_user_leave_to(value as u32, saved as u32) }
}

/// Makes entries from user mode push their frame below `stack`, by `stack_switch`.
extern "C" fn set_kernel_stack(stack: u32) {
    // SAFETY: no pointer is passed; the stack below is free while user code runs.
    let answer = unsafe { hypercall2(hypercall::STACK_SWITCH, FLAT_KERNEL_SS.into(), stack & !15) };
    assert!(answer == 0, "stack_switch: {answer}");
}

/// Makes the root table of an address space that maps the kernel alone; returns its address in the direct mapping.
pub(crate) fn new_root() -> Result<u64, Errno> {
    let root = Free.take().ok_or(errno::ENOMEM)?;
    let copy = Free.take().ok_or(errno::ENOMEM)?;
    let mfn = mfn_of(pfn_of(copy)).ok_or(errno::EINVAL)?;
    {
        // Held from the copy to the note, so that the copy misses no entry that the kernel's table gets meanwhile.
        let mut copies = COPIES.lock();
        let free = copies.iter_mut().find(|copy| **copy == 0);
        *free.ok_or(errno::ENOSPC)? = copy;
        let from = kernel_table();
        for index in 0..KERNEL_ENTRIES {
            write(copy, index, tables::read(from, index));
        }
        write(root, KERNEL_SLOT, (mfn << 12) | PRESENT);
    }
    // SAFETY: the pages have no other user; they are tables from now on.
    unsafe {
        tables::make_read_only(copy)?;
        tables::make_read_only(root)?;
    }
    Ok(root)
}

/// The kernel's own L2 table.
fn kernel_table() -> u64 {
    tables::table_of(tables::read(from_long(start_info().pt_base), KERNEL_SLOT))
}

/// Writes an entry of a page that isn't a table yet.
fn write(page: u64, index: usize, entry: u64) {
    let page = core::ptr::with_exposed_provenance_mut::<u64>(page as usize);
    // SAFETY: callers pass new pages in the direct mapping, and indices below 512.
    unsafe { page.add(index).write(entry) };
}

/// Notes that the kernel's table at `table` has a new entry: address spaces get it too.
pub(crate) fn kernel_entry_added(table: u64, index: usize, entry: u64) {
    if table != kernel_table() {
        return;
    }
    for copy in COPIES.lock().iter().filter(|copy| **copy != 0) {
        if let Some(ptr) = tables::machine_address(*copy, index) {
            // SAFETY: the entry names a table of the kernel. It isn't used by what runs, so it may fail silently: a use
            // faults then.
            let _ = unsafe { tables::set_entries(&[MmuUpdate { ptr, val: entry }], DOMID_SELF) };
        }
    }
}

impl AddressSpace {
    /// Runs user code at `eip` on the stack `esp`, with upcalls unmasked, until a handler calls
    /// [`leave`](crate::user::leave); returns the value of that call.
    ///
    /// # Errors
    /// The errno of the hypercall that sets the base table.
    pub fn run(&self, eip: u64, esp: u64) -> Result<u64, Errno> {
        self.request(MMUEXT_NEW_BASEPTR)?;
        // SAFETY: the slot belongs to the running vCPU; `leave` returns through it.
        let value = unsafe { xenlike_rt_user_enter(eip as u32, esp as u32, cpu::user_slot()) };
        let root = mfn_of(pfn_of(from_long(start_info().pt_base))).ok_or(errno::EINVAL)?;
        let back = MmuextOp {
            cmd: MMUEXT_NEW_BASEPTR,
            arg1: root as u32,
            ..MmuextOp::default()
        };
        // SAFETY: the builder's tables map the kernel as those of the address space do.
        unsafe { hyper::mmuext_op(&[back]) }?;
        Ok(value.into())
    }

    /// The same: all code of this guest is 32-bit code.
    ///
    /// # Errors
    /// As for [`Self::run`].
    pub fn run32(&self, eip: u32, esp: u32) -> Result<u64, Errno> {
        self.run(eip.into(), esp.into())
    }

    /// Makes sure that no CPU uses the address space.
    pub(crate) fn retire(&self) {
        let copy = tables::table_of(tables::read(self.root, KERNEL_SLOT));
        for slot in COPIES.lock().iter_mut().filter(|slot| **slot == copy) {
            *slot = 0;
        }
    }
}
