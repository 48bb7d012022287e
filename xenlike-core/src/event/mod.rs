//! Event channels: one-bit notifications between domains, from the machine, or among the vCPUs of a domain.
//!
//! A [`Table`] contains the channels of one domain, and knows no domain (docs/adr/0004). Key types:
//! [`channel::Channel`] (the state of one port), [`delivery::Delivery`] (how the guest sees events: 2-level bits or
//! FIFO queues), [`Notice`] (which vCPUs the caller must wake). Neighbours: `domain` owns a table behind an `Arc` and
//! acts on notices; `hypercall::event_channel` decodes calls; `life` closes all ports at the end.
//!
//! Invariants:
//! - If port p of A is interdomain with port q of B, then port q of B is interdomain with p of A.
//! - A port that the table records for a virtual IRQ is in that state, and vice versa.
//! - A port is marked as used exactly when its state is not free.
//! - A channel's state changes only under its table's book (both books if it has a peer) and the channel's own lock;
//!   sending takes the channel's own lock and the delivery lock, but no book.
//!
//! Lock order: books by address, then a channel, then a delivery. Words that the guest can write are read once, and no
//! link that the guest wrote is followed.
#![warn(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::arithmetic_side_effects
)]

#[cfg(feature = "audit")]
mod audit;
mod bind;
mod channel;
mod close;
mod control;
mod delivery;
mod fifo;
#[cfg(all(test, loom))]
mod models;
mod poll;
mod send;
mod status;
mod table;
#[cfg(test)]
mod tests;
mod two_level;

use guest_pv_abi::event_channel::EVTCHN_2L_NR_CHANNELS;
use guest_pv_abi::xen;

use crate::kit::{DomId, Port, SharedWords, VcpuId};

pub use close::{Closed, Sweep};
pub use delivery::in_shared_info;
pub use status::StatusKind;
pub use table::{Limits, Table};

/// The number of virtual IRQs (`NR_VIRQS` in xen.h).
pub const NR_VIRQS: usize = xen::NR_VIRQS as usize;
/// The number of ports of the 2-level ABI with 64 bits (`EVTCHN_2L_NR_CHANNELS`).
pub const TWO_LEVEL_PORTS: u32 = EVTCHN_2L_NR_CHANNELS;
/// The number of ports of the FIFO ABI (`EVTCHN_FIFO_NR_CHANNELS`).
pub const FIFO_PORTS: u32 = 1 << fifo::LINK_BITS;
/// The width of the link field of an event word (`EVTCHN_FIFO_LINK_BITS`).
pub const FIFO_LINK_BITS: u8 = fifo::LINK_BITS as u8;

/// Why an operation on event channels was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventError {
    /// The port doesn't exist, or its state doesn't allow the operation.
    BadPort,
    /// An argument is out of range.
    BadArgument,
    /// The domain has no such vCPU.
    NoVcpu,
    /// The virtual or physical IRQ is bound already.
    Exists,
    /// No port is left below the domain's limit.
    NoSpace,
    /// The hypervisor has no memory for another port.
    NoMemory,
    /// The domain is being destroyed.
    Dying,
    /// The domain uses the 2-level ABI, which doesn't have the operation.
    TwoLevel,
    /// The port is free, so it has no priority to set.
    Unused,
}

/// Which vCPUs the caller must wake after an event became pending.
#[must_use = "a vCPU sleeps on if nobody acts on the notice"]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Notice {
    /// The domain that received the event.
    pub dom: DomId,
    /// The vCPU whose upcall flag went from 0 to 1.
    pub upcall: Option<VcpuId>,
    /// The port for which vCPUs of the domain may be polling ([`Table::pollers_of`]).
    pub polled: Option<Port>,
}

impl Notice {
    /// A notice without any vCPU to wake.
    pub const fn nobody(dom: DomId) -> Self {
        Self {
            dom,
            upcall: None,
            polled: None,
        }
    }
    /// Whether there is no vCPU to wake.
    pub const fn is_nobody(self) -> bool {
        self.upcall.is_none() && self.polled.is_none()
    }
}

/// Whether each vCPU has this virtual IRQ of its own, as opposed to the domain (the list in xen.h).
pub const fn is_per_vcpu(virq: u32) -> bool {
    matches!(
        virq,
        xen::VIRQ_TIMER | xen::VIRQ_DEBUG | xen::VIRQ_XENOPROF | xen::VIRQ_XENPMU
    )
}
