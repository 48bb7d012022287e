//! What a port is, for those who ask (`EVTCHNOP_status`).

use super::channel::State;
use super::{EventError, SharedWords, Table};
use crate::kit::{DomId, Port, VcpuId};

/// A port's state as it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatusKind {
    /// Not in use.
    Closed,
    /// Waits for the domain to bind.
    Unbound(DomId),
    /// Connected with that domain's port.
    Interdomain(DomId, Port),
    /// That physical IRQ.
    Pirq(u32),
    /// That virtual IRQ.
    Virq(u32),
    /// An IPI.
    Ipi,
}

/// A port's state and the vCPU it notifies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// What it is.
    pub kind: StatusKind,
    /// Whom it notifies.
    pub vcpu: VcpuId,
}

impl<P: SharedWords> Table<P> {
    /// The first open port from `from` on, for who looks at all of them.
    pub fn next_open(&self, from: Port) -> Option<Port> {
        self.book.lock().next_used(from.0.max(1))
    }

    /// The state of `port`.
    ///
    /// # Errors
    /// [`EventError::BadPort`].
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
