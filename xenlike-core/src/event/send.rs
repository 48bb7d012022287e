//! Sending: the hot path. Sending to a masked port costs two uncontended locks and one atomic bit.

use crate::kit::atomic::Ordering;

use super::channel::{Channel, State};
use super::delivery::Raised;
use super::{EventError, Notice, SharedWords, Table};
use crate::kit::{Port, VcpuId};

impl<P: SharedWords> Table<P> {
    /// Sends an event through the domain's own `port` (`EVTCHNOP_send`): to the peer, or to the vCPU of an IPI. A port
    /// that waits for its peer discards it.
    ///
    /// # Errors
    /// [`EventError::BadPort`] if the port is not open, or is bound to an IRQ.
    #[inline(always)] // into the hypercall that does nothing else
    pub fn send(&self, port: Port) -> Result<Notice, EventError> {
        let channel = self.channel(port).ok_or(EventError::BadPort)?;
        // Held until the event is delivered, because that keeps the peer's port connected with this one.
        let state = channel.state.lock();
        let (table, port) = match &*state {
            State::Interdomain { remote, port } => (&**remote, *port),
            State::Ipi => (self, port),
            State::Unbound { .. } => return Ok(Notice::nobody(self.dom())),
            State::Free | State::Reserved | State::Virq(_) | State::Pirq(_) => {
                return Err(EventError::BadPort);
            }
        };
        Ok(table.raise(port))
    }

    /// Raises `virq`: a per-vCPU one for `vcpu`, a domain-wide one with `vcpu` 0.
    pub fn send_virq(&self, vcpu: VcpuId, virq: u32) -> Notice {
        self.virq_port(vcpu, virq)
            .and_then(|port| self.send_if(port, |s| matches!(s, State::Virq(v) if *v == virq)))
            .unwrap_or(Notice::nobody(self.dom()))
    }

    /// Raises the physical IRQ `pirq`, if it is still bound to `port`.
    pub fn send_pirq(&self, port: Port, pirq: u32) -> Notice {
        self.send_if(port, |s| matches!(s, State::Pirq(p) if *p == pirq))
            .unwrap_or(Notice::nobody(self.dom()))
    }

    fn send_if(&self, port: Port, is: impl Fn(&State<P>) -> bool) -> Option<Notice> {
        let channel = self.channel(port)?;
        let state = channel.state.lock();
        is(&state).then(|| self.raise_on(port, channel))
    }

    /// Makes `port` of this table pending.
    #[inline(always)] // part of `send`
    pub(super) fn raise(&self, port: Port) -> Notice {
        self.channel(port)
            .map_or(Notice::nobody(self.dom()), |ch| self.raise_on(port, ch))
    }

    #[inline(always)] // part of every send
    fn raise_on(&self, port: Port, channel: &Channel<P>) -> Notice {
        let Raised { news, upcall } = self.delivery.lock().set_pending(port, channel);
        // The port was made pending before the pollers are read; a poller is counted before it looks at its ports. One
        // of the two sees the other (both are sequentially consistent).
        let polled = (news && self.pollers.load(Ordering::SeqCst) != 0).then_some(port);
        Notice {
            dom: self.dom(),
            upcall,
            polled,
        }
    }

    /// Unmasks `port`, and notifies if it is pending (`EVTCHNOP_unmask`).
    ///
    /// # Errors
    /// [`EventError::BadPort`] if the port was never allocated.
    #[inline(always)] // as for `send`
    pub fn unmask(&self, port: Port) -> Result<Notice, EventError> {
        let channel = self.channel(port).ok_or(EventError::BadPort)?;
        let upcall = self.delivery.lock().unmask(port, channel);
        Ok(Notice {
            dom: self.dom(),
            upcall,
            polled: None,
        })
    }
}
