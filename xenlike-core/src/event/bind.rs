//! Taking ports: unbound, interdomain, virtual IRQ, IPI, physical IRQ; and which vCPU they notify.

use crate::kit::atomic::Ordering;
use alloc::sync::Arc;

use super::channel::State;
use super::{EventError, NR_VIRQS, Notice, SharedWords, Table, is_per_vcpu};
use crate::kit::{DomId, Port, VcpuId};

impl<P: SharedWords> Table<P> {
    /// A new port that `remote` may bind to (`EVTCHNOP_alloc_unbound`).
    ///
    /// # Errors
    /// No port left, no memory, or the domain is dying.
    pub fn alloc_unbound(&self, remote: DomId) -> Result<Port, EventError> {
        let mut book = self.book.lock();
        let port = self.free_port(&mut book)?;
        self.take(&mut book, port, VcpuId(0), State::Unbound { remote });
        Ok(port)
    }

    /// A new port, connected with the unbound port `remote_port` of `remote`, which may be this very
    /// table (`EVTCHNOP_bind_interdomain`). It starts pending: a peer may have sent before.
    ///
    /// # Errors
    /// As [`Table::alloc_unbound`]; [`EventError::BadPort`] if the remote port does not wait for this domain.
    pub fn bind_interdomain(
        self: &Arc<Self>,
        remote: &Arc<Self>,
        remote_port: Port,
    ) -> Result<(Port, Notice), EventError> {
        let peer = remote.channel(remote_port).ok_or(EventError::BadPort)?;
        let waits =
            || matches!(*peer.state.lock(), State::Unbound { remote } if remote == self.dom());
        // Looked at first: only a domain that is waited for gets hold of the other one's book.
        if !waits() {
            return Err(EventError::BadPort);
        }
        let mut books = self.lock_books(remote);
        let port = self.free_port(&mut books.own)?;
        if !waits() {
            return Err(EventError::BadPort);
        }
        let state = State::Interdomain {
            remote: Arc::clone(remote),
            port: remote_port,
        };
        self.take(&mut books.own, port, VcpuId(0), state);
        *peer.state.lock() = State::Interdomain {
            remote: Arc::clone(self),
            port,
        };
        Ok((port, self.raise(port)))
    }

    /// A new port for `virq` of `vcpu` (`EVTCHNOP_bind_virq`).
    ///
    /// # Errors
    /// As [`Table::alloc_unbound`]; a bad number, no such vCPU, or bound already.
    pub fn bind_virq(&self, virq: u32, vcpu: VcpuId) -> Result<Port, EventError> {
        if virq as usize >= NR_VIRQS || !is_per_vcpu(virq) && vcpu.0 != 0 {
            return Err(EventError::BadArgument);
        }
        let slot = self
            .vcpu(vcpu)?
            .virqs
            .get(virq as usize)
            .ok_or(EventError::BadArgument)?;
        let mut book = self.book.lock();
        if slot.load(Ordering::Relaxed) != 0 {
            return Err(EventError::Exists);
        }
        let port = self.free_port(&mut book)?;
        self.take(&mut book, port, vcpu, State::Virq(virq));
        slot.store(port.0, Ordering::Release);
        Ok(port)
    }

    /// A new port by which the domain's vCPUs notify `vcpu` (`EVTCHNOP_bind_ipi`).
    ///
    /// # Errors
    /// As [`Table::alloc_unbound`]; no such vCPU.
    pub fn bind_ipi(&self, vcpu: VcpuId) -> Result<Port, EventError> {
        self.vcpu(vcpu)?;
        let mut book = self.book.lock();
        let port = self.free_port(&mut book)?;
        self.take(&mut book, port, vcpu, State::Ipi);
        Ok(port)
    }

    /// A new port for the physical IRQ `pirq` (`EVTCHNOP_bind_pirq`); whether the domain may have it,
    /// and routing it, is the caller's affair.
    ///
    /// # Errors
    /// As [`Table::alloc_unbound`]; bound already.
    pub fn bind_pirq(&self, pirq: u32) -> Result<Port, EventError> {
        let mut book = self.book.lock();
        if book.pirqs.iter().any(|(bound, _)| *bound == pirq) {
            return Err(EventError::Exists);
        }
        book.pirqs
            .try_reserve(1)
            .map_err(|_| EventError::NoMemory)?;
        let port = self.free_port(&mut book)?;
        book.pirqs.push((pirq, port));
        self.take(&mut book, port, VcpuId(0), State::Pirq(pirq));
        Ok(port)
    }

    /// The port that is bound to the physical IRQ `pirq`.
    pub fn pirq_port(&self, pirq: u32) -> Option<Port> {
        let book = self.book.lock();
        let bound = book.pirqs.iter().find(|(bound, _)| *bound == pirq);
        bound.map(|(_, port)| *port)
    }

    /// Lets `port` notify `vcpu` from now on (`EVTCHNOP_bind_vcpu`).
    ///
    /// # Errors
    /// No such vCPU, or the port's vCPU is fixed (IPIs and virtual IRQs of one vCPU).
    pub fn bind_vcpu(&self, port: Port, vcpu: VcpuId) -> Result<(), EventError> {
        self.vcpu(vcpu)?;
        let channel = self.channel(port).ok_or(EventError::BadPort)?;
        let _book = self.book.lock();
        match *channel.state.lock() {
            State::Virq(virq) if is_per_vcpu(virq) => return Err(EventError::BadPort),
            State::Free | State::Reserved | State::Ipi => return Err(EventError::BadPort),
            State::Unbound { .. } | State::Interdomain { .. } | State::Virq(_) | State::Pirq(_) => {
                channel.set_notify(vcpu)
            }
        }
        Ok(())
    }
}
