//! The state of a port for queries (`EVTCHNOP_status`).

use super::channel::State;
use super::{EventError, SharedWords, Table};
use crate::kit::{DomId, Port, VcpuId};

/// The kind and connection of a port, as queries report it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatusKind {
    /// The port is not in use.
    Closed,
    /// The port waits for this domain to bind.
    Unbound(DomId),
    /// The port is connected with this port of this domain.
    Interdomain(DomId, Port),
    /// The port is bound to this physical IRQ.
    Pirq(u32),
    /// The port is bound to this virtual IRQ.
    Virq(u32),
    /// The port is an IPI of the domain.
    Ipi,
}

/// The state of a port and the vCPU that it notifies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// The kind and connection of the port.
    pub kind: StatusKind,
    /// The vCPU that the port notifies.
    pub vcpu: VcpuId,
}

impl<P: SharedWords> Table<P> {
    /// The first open port from `from` on, for iterating over all of them.
    pub fn next_open(&self, from: Port) -> Option<Port> {
        self.book.lock().next_used(from.0.max(1))
    }

    /// The state of `port`.
    ///
    /// # Errors
    /// [`EventError::BadPort`] if the port was never allocated.
    pub fn status(&self, port: Port) -> Result<Status, EventError> {
        let channel = self.channel(port).ok_or(EventError::BadPort)?;
        let kind = match &*channel.state.lock() {
            State::Free | State::Reserved => StatusKind::Closed,
            State::Unbound { remote } => StatusKind::Unbound(*remote),
            State::Interdomain { remote, port } => StatusKind::Interdomain(remote.dom(), *port),
            State::Pirq(pirq) => StatusKind::Pirq(*pirq),
            State::Virq(virq) => StatusKind::Virq(*virq),
            State::Ipi => StatusKind::Ipi,
        };
        Ok(Status {
            kind,
            vcpu: channel.notify(),
        })
    }
}
