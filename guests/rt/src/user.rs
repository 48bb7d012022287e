//! User mode: an address space for code in ring 3, entered by the iret hypercall and left by system calls and
//! exceptions. How it is kept apart from the kernel is in `arch`.

#![expect(unsafe_code, reason = "maps pages for user code")]

use guest_pv_abi::xen::{DOMID_SELF, MMUEXT_UNPIN_TABLE, MmuextOp};
use guest_pv_abi::{Errno, Long, errno};

use crate::arch::user as arch;
use crate::memory::{mfn_of, pfn_of};
use crate::paging::Free;
use crate::tables::{self, Access, NO_EXECUTE, RAM_FLAGS, READ_ONLY_FLAGS, USER};
use crate::{cpu, hyper};

/// An address space for user code.
#[derive(Debug)]
pub struct AddressSpace {
    /// The root table, in the direct mapping.
    pub(crate) root: u64,
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
    /// Makes an empty address space with a pinned root table.
    ///
    /// # Errors
    /// ENOMEM, or the errno that the hypervisor returned.
    pub fn new() -> Result<Self, Errno> {
        let space = Self {
            root: arch::new_root()?,
        };
        space.request(arch::PIN_ROOT)?;
        Ok(space)
    }

    pub(crate) fn request(&self, cmd: u32) -> Result<(), Errno> {
        let mfn = mfn_of(pfn_of(self.root)).ok_or(errno::EINVAL)?;
        let request = MmuextOp {
            cmd,
            arg1: mfn as Long,
            ..MmuextOp::default()
        };
        // SAFETY: the table belongs to this address space, in which the kernel goes on to run.
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
        let entry = |_| Some((mfn << 12) | flags | USER);
        // SAFETY: no reference of the kernel points to a user address.
        unsafe { tables::set_range(self.root, address, 1, DOMID_SELF, &entry, &mut Free) }
    }
}

impl Drop for AddressSpace {
    /// Unpins the table. Its pages stay allocated.
    fn drop(&mut self) {
        self.retire();
        let _ = self.request(MMUEXT_UNPIN_TABLE);
    }
}

/// Ends user code from inside a system call's or exception's handler: `AddressSpace::run` returns `value`.
///
/// # Panics
/// If no user code runs on this vCPU.
pub fn leave(value: u64) -> ! {
    // SAFETY: the word belongs to the running vCPU.
    let saved = unsafe { cpu::user_slot().read() };
    assert!(saved != 0, "no user code to leave");
    // SAFETY: `saved` is the stack pointer of the `run` that waits on this vCPU.
    unsafe { arch::xenlike_rt_user_leave(value, saved) }
}
