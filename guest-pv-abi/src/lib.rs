//! Xen's public ABI, as used between a PV guest, a toolstack and the hypervisor.
//!
//! Each file is one public header of Xen 4.20 (domctl 0x17, sysctl 0x15) and named after it. Constants have the
//! header's name in capitals (`EVTCHNOP_send` is [`event_channel::EVTCHNOP_SEND`]; hypercall numbers lose their
//! prefix: [`hypercall::MMU_UPDATE`]). Structures have the header's name in Rust's case, without a prefix that the
//! module's name contains (`struct xen_domctl_createdomain` is [`domctl::CreateDomain`]).
//!
//! Structures are plain bytes: every bit pattern is a valid value, padding is a field (hidden in the docs;
//! `..Default::default()` fills it with zeros), unions are [`Payload`]s or words, and pointers are [`GuestHandle`]s.
//! An assertion under each structure checks its size and offsets, and a test compares all of them with the C headers.
//! The feature `call` adds the hypercall instruction; without it the crate has no unsafe code.

#![no_std]

pub mod arch_x86;
#[cfg(feature = "call")]
pub mod call;
pub mod callback;
pub mod cpufeatureset;
pub mod cpuid;
pub mod domctl;
pub mod elfnote;
pub mod errno;
pub mod event_channel;
pub mod features;
pub mod grant_table;
mod handle;
pub mod hvm_params;
pub mod hvm_start_info;
pub mod io_console;
pub mod io_ring;
pub mod io_xenbus;
pub mod layout;
pub mod mca;
pub mod memory;
pub mod nmi;
pub mod others;
mod payload;
pub mod physdev;
pub mod platform;
pub mod sched;
pub mod sysctl;
pub mod trace;
pub mod vcpu;
pub mod version;
pub mod xen;
pub mod xenlike;

pub use errno::Errno;
pub use handle::GuestHandle;
pub use payload::Payload;
pub use xen::hypercall;

/// Size of a page in bytes.
pub const PAGE_SIZE: usize = 4096;
/// Number of bits in a page offset.
pub const PAGE_SHIFT: u32 = 12;
