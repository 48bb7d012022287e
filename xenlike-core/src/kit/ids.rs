//! Numbers that name things: domains, virtual CPUs, physical CPUs, event-channel ports. Each kind is a type of its own.

use core::fmt;

/// The number of physical CPUs that the core supports.
pub const MAX_CPUS: usize = 64;

/// The id of a domain (`domid_t` in xen.h).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DomId(pub u16);

impl DomId {
    /// Domain 0, the control domain and hardware domain.
    pub const DOM0: Self = Self(0);
    /// The boot domain (`guests/bootdom`). Guests can't name this id.
    pub const BOOT: Self = Self(0x7fe0);
    /// The first reserved id (DOMID_FIRST_RESERVED in xen.h).
    pub const FIRST_RESERVED: Self = Self(0x7ff0);
    /// The id by which a caller names itself (DOMID_SELF in xen.h).
    pub const SELF: Self = Self(0x7ff0);
    /// The owner of I/O memory (DOMID_IO in xen.h).
    pub const IO: Self = Self(0x7ff1);
    /// The owner of pages that the hypervisor shares (DOMID_XEN in xen.h).
    pub const XEN: Self = Self(0x7ff2);
    /// The id that no domain has (DOMID_INVALID in xen.h).
    pub const INVALID: Self = Self(0x7ff4);
    /// The domain of the idle vCPUs (DOMID_IDLE in xen.h).
    pub const IDLE: Self = Self(0x7fff);
}

/// The number of a virtual CPU within its domain.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VcpuId(pub u32);

/// A physical CPU. Numbers start at 0, in the order in which the CPUs were brought up.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CpuId(pub u32);

/// The number of an event-channel port within its domain.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Port(pub u32);

impl CpuId {
    /// The number as an index into a per-CPU array.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Debug for DomId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "d{}", self.0)
    }
}
impl fmt::Debug for VcpuId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v{}", self.0)
    }
}
impl fmt::Debug for CpuId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CPU{}", self.0)
    }
}
impl fmt::Debug for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "port {}", self.0)
    }
}
