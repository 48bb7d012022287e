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
//!
//! The structures are those of a 64-bit guest. [`Form`] relates them to those of a 32-bit guest, which are in
//! [`narrow`]. Compiled for a 32-bit target, the crate has the latter under the former's names.
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
mod form;
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
#[cfg(target_pointer_width = "64")]
pub mod narrow;
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
pub use form::{Form, Width};
#[cfg(target_pointer_width = "32")]
pub use handle::GuestHandle32 as GuestHandle;
#[cfg(target_pointer_width = "64")]
pub use handle::GuestHandle64 as GuestHandle;
pub use handle::{GuestHandle32, GuestHandle64};
pub use payload::Payload;
pub use xen::hypercall;

/// `unsigned long` of the guest for which the crate is compiled.
#[cfg(target_pointer_width = "64")]
pub type Long = u64;
/// `unsigned long` of the guest for which the crate is compiled.
#[cfg(target_pointer_width = "32")]
pub type Long = u32;

/// Size of a page in bytes.
pub const PAGE_SIZE: usize = 4096;
/// Number of bits in a page offset.
pub const PAGE_SHIFT: u32 = 12;
