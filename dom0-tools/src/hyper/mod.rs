//! The toolstack's control hypercalls, over one small trait.
//!
//! Only [`Hypercalls`] differs between the boot domain (the instruction itself) and a Linux Dom0 (privcmd). The calls
//! are written once: `domain` for domctl, `memory`, `machine` for sysctl and xen_version, `event`.

mod args;
pub mod domain;
pub mod event;
#[cfg(test)]
pub(crate) mod fake;
pub mod machine;
pub mod memory;
pub mod tracing;

use alloc::boxed::Box;
use core::fmt;

use guest_pv_abi::Errno;
use guest_pv_abi::errno;

use args::Args;
pub use domain::{DomainInfo, Ending, NewDomain, VcpuInfo};
pub use machine::{Host, Scheduler};
pub use memory::E820Entry;

/// Size of a page in bytes.
pub const PAGE: usize = guest_pv_abi::PAGE_SIZE;

/// The id of a domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DomId(pub u16);

impl DomId {
    /// The id of domain 0.
    pub const ZERO: DomId = DomId(0);
    /// The id by which a domain names itself.
    pub const SELF: DomId = DomId(guest_pv_abi::xen::DOMID_SELF);
}

impl fmt::Display for DomId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The number of a machine frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mfn(pub u64);

/// The number of a frame in a domain's own memory (pseudo-physical).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pfn(pub u64);

/// The number of an event channel port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Port(pub u32);

/// The number of a vCPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VcpuId(pub u32);

/// Memory for hypercall arguments, at least 64 KiB.
#[derive(Debug)]
pub struct Arena<'a> {
    /// Address of the memory in the caller's address space, which the hypervisor uses.
    pub address: u64,
    /// The memory as bytes.
    pub bytes: &'a mut [u8],
}

/// A means of making hypercalls and of accessing other domains' memory.
pub trait Hypercalls {
    /// The memory for arguments. It is the same at every call.
    fn arena(&mut self) -> Arena<'_>;

    /// Makes hypercall `number`. Pointers among the arguments must point into the arena.
    ///
    /// # Errors
    /// The errno that the hypervisor returned.
    fn call(&mut self, number: u64, args: [u64; 5]) -> Result<u64, Errno>;

    /// Maps frames of a domain at consecutive addresses, writable, while `access` runs.
    ///
    /// # Errors
    /// The errno that the mapping returned.
    fn with_frames(
        &mut self,
        dom: DomId,
        frames: &[Mfn],
        access: &mut dyn FnMut(&mut [u8]),
    ) -> Result<(), Errno>;

    /// Like `with_frames`, but maps the frames read-only.
    ///
    /// # Errors
    /// The errno that the mapping returned.
    fn read_frames(
        &mut self,
        dom: DomId,
        frames: &[Mfn],
        look: &mut dyn FnMut(&[u8]),
    ) -> Result<(), Errno>;
}

impl<H: Hypercalls + ?Sized> Hypercalls for Box<H> {
    fn arena(&mut self) -> Arena<'_> {
        (**self).arena()
    }

    fn call(&mut self, number: u64, args: [u64; 5]) -> Result<u64, Errno> {
        (**self).call(number, args)
    }

    fn with_frames(
        &mut self,
        dom: DomId,
        frames: &[Mfn],
        access: &mut dyn FnMut(&mut [u8]),
    ) -> Result<(), Errno> {
        (**self).with_frames(dom, frames, access)
    }

    fn read_frames(
        &mut self,
        dom: DomId,
        frames: &[Mfn],
        look: &mut dyn FnMut(&[u8]),
    ) -> Result<(), Errno> {
        (**self).read_frames(dom, frames, look)
    }
}

/// A hypercall that failed. Prints what was attempted and why it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallError {
    /// What was attempted, such as "create a domain".
    pub what: &'static str,
    /// The errno that the hypervisor returned.
    pub errno: Errno,
}

impl CallError {
    pub(crate) fn of(what: &'static str) -> impl Fn(Errno) -> CallError {
        move |errno| CallError { what, errno }
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let why = match self.errno {
            errno::EPERM => "this domain may not do that",
            errno::ESRCH => "there is no such domain",
            errno::ENOMEM => "not enough memory",
            errno::EINVAL => "the hypervisor finds the request invalid",
            errno::ENOSYS | errno::EOPNOTSUPP => "the hypervisor does not offer that",
            errno::EACCES => "the hypervisor speaks another version of the control interface",
            errno::EBUSY => "it is busy",
            errno::EEXIST => "it exists already",
            errno::ENOSPC => "there is no room left",
            errno::EFAULT => "the hypervisor could not read the request",
            _ => return write!(f, "can't {}: {}", self.what, self.errno),
        };
        write!(f, "can't {}: {why} ({})", self.what, self.errno)
    }
}

impl core::error::Error for CallError {}
