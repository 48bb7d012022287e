//! Binding ports: unbound, interdomain, virtual IRQ, IPI, physical IRQ; and the vCPU that a port notifies.

use crate::kit::atomic::Ordering;
use alloc::sync::Arc;

use super::channel::State;
use super::{EventError, NR_VIRQS, Notice, SharedWords, Table, is_per_vcpu};
use crate::kit::{DomId, Port, VcpuId};

impl<P: SharedWords> Table<P> {
    /// Allocates a port to which `remote` may bind (`EVTCHNOP_alloc_unbound`).
    ///
    /// # Errors
    /// [`EventError::NoSpace`] or [`EventError::NoMemory`] if there is no port or memory left, [`EventError::Dying`] if
    /// the domain is being destroyed.
    pub fn alloc_unbound(&self, remote: DomId) -> Result<Port, EventError> {
        let mut book = self.book.lock();
        let port = self.free_port(&mut book)?;
        self.take(&mut book, port, VcpuId(0), State::Unbound { remote });
        Ok(port)
    }

    /// Allocates a port and connects it with the unbound port `remote_port` of `remote`, which may be this very table
    /// (`EVTCHNOP_bind_interdomain`). The port starts pending, because the peer may have sent before.
    ///
    /// # Errors
    /// Those of [`Table::alloc_unbound`]; [`EventError::BadPort`] if the remote port doesn't wait for this domain.
    pub fn bind_interdomain(
        self: &Arc<Self>,
        remote: &Arc<Self>,
        remote_port: Port,
    ) -> Result<(Port, Notice), EventError> {
        let peer = remote.channel(remote_port).ok_or(EventError::BadPort)?;
        let waits =
            || matches!(*peer.state.lock(), State::Unbound { remote } if remote == self.dom());
        // Checked without the book first, so that only a domain for which a port waits can lock its owner's book.
        if !waits() {
            return Err(EventError::BadPort);
        }
        let mut books = self.lock_books(remote);
        let port = self.free_port(&mut books.own)?;
        // Another bind may have taken the remote port before its table's book was locked.
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

    /// Allocates a port for `virq` of `vcpu` (`EVTCHNOP_bind_virq`).
    ///
    /// # Errors
    /// Those of [`Table::alloc_unbound`]; [`EventError::BadArgument`] for a bad number, [`EventError::NoVcpu`] if there
    /// is no such vCPU, [`EventError::Exists`] if it is bound already.
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

    /// Allocates a port by which the domain's vCPUs notify `vcpu` (`EVTCHNOP_bind_ipi`).
    ///
    /// # Errors
    /// Those of [`Table::alloc_unbound`]; [`EventError::NoVcpu`] if there is no such vCPU.
    pub fn bind_ipi(&self, vcpu: VcpuId) -> Result<Port, EventError> {
        self.vcpu(vcpu)?;
        let mut book = self.book.lock();
        let port = self.free_port(&mut book)?;
        self.take(&mut book, port, vcpu, State::Ipi);
        Ok(port)
    }

    /// Allocates a port for the physical IRQ `pirq` (`EVTCHNOP_bind_pirq`). The caller has checked that the domain may
    /// have the IRQ, and routes it.
    ///
    /// # Errors
    /// Those of [`Table::alloc_unbound`]; [`EventError::Exists`] if the IRQ is bound already.
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

    /// The port that is bound to the physical IRQ `pirq`, if there is one.
    pub fn pirq_port(&self, pirq: u32) -> Option<Port> {
        let book = self.book.lock();
        let bound = book.pirqs.iter().find(|(bound, _)| *bound == pirq);
        bound.map(|(_, port)| *port)
    }

    /// Makes `port` notify `vcpu` from now on (`EVTCHNOP_bind_vcpu`).
    ///
    /// # Errors
    /// [`EventError::NoVcpu`] if there is no such vCPU; [`EventError::BadPort`] if the port is not open, or its vCPU is
    /// fixed (IPIs and per-vCPU virtual IRQs).
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
