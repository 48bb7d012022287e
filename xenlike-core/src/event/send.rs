//! Sending: the hot path. A masked send costs two uncontended locks and one atomic bit.

use crate::kit::atomic::Ordering;

use super::channel::{Channel, State};
use super::delivery::Raised;
use super::{EventError, Notice, SharedWords, Table};
use crate::kit::{Port, VcpuId};

impl<P: SharedWords> Table<P> {
    /// Sends along the domain's own `port` (`EVTCHNOP_send`): to the peer, or for an IPI to its vCPU.
    /// A port that waits for its peer swallows it.
    ///
    /// # Errors
    /// [`EventError::BadPort`].
    #[inline(always)] // into the hypercall that is nothing else
    pub fn send(&self, port: Port) -> Result<Notice, EventError> {
        let channel = self.channel(port).ok_or(EventError::BadPort)?;
        // Held till the event is delivered: as long as it is, the peer's port stays ours.
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

    /// Raises `virq` for `vcpu`: those of each vCPU there, the domain's own for vCPU 0.
    pub fn send_virq(&self, vcpu: VcpuId, virq: u32) -> Notice {
        self.virq_port(vcpu, virq)
            .and_then(|port| self.send_if(port, |s| matches!(s, State::Virq(v) if *v == virq)))
            .unwrap_or(Notice::nobody(self.dom()))
    }

    /// Raises the physical IRQ `pirq`, bound to `port`.
    pub fn send_pirq(&self, port: Port, pirq: u32) -> Notice {
        self.send_if(port, |s| matches!(s, State::Pirq(p) if *p == pirq))
            .unwrap_or(Notice::nobody(self.dom()))
    }

    fn send_if(&self, port: Port, is: impl Fn(&State<P>) -> bool) -> Option<Notice> {
        let channel = self.channel(port)?;
        let state = channel.state.lock();
        is(&state).then(|| self.raise_on(port, channel))
    }

    /// Makes `port` pending.
    #[inline(always)] // a part of `send`
    pub(super) fn raise(&self, port: Port) -> Notice {
        self.channel(port)
            .map_or(Notice::nobody(self.dom()), |ch| self.raise_on(port, ch))
    }

    #[inline(always)] // a part of whatever sends
    fn raise_on(&self, port: Port, channel: &Channel<P>) -> Notice {
        let Raised { news, upcall } = self.delivery.lock().set_pending(port, channel);
        let polled = (news && self.pollers.load(Ordering::SeqCst) != 0).then_some(port);
        Notice {
            dom: self.dom(),
            upcall,
            polled,
        }
    }

    /// Takes the mask off `port`, and notifies if it is pending (`EVTCHNOP_unmask`).
    ///
    /// # Errors
    /// [`EventError::BadPort`].
    #[inline(always)] // as `send`
    pub fn unmask(&self, port: Port) -> Result<Notice, EventError> {
        let channel = self.channel(port).ok_or(EventError::BadPort)?;
        let upcall = self.delivery.lock().unmask(port, channel);
        Ok(Notice {
            dom: self.dom(),
            upcall,
            polled: None,
        })
    }

    /// Sets the upcall flag of `vcpu` without any event: what a newly registered info page needs.
    pub fn upcall(&self, vcpu: VcpuId) -> Notice {
        let upcall = self.delivery.lock().upcall(vcpu);
        Notice {
            dom: self.dom(),
            upcall,
            polled: None,
        }
    }
}
