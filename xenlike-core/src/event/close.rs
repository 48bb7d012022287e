//! Closing ports: one port, all ports (`EVTCHNOP_reset`), or all ports for good when the domain is destroyed.

use crate::kit::atomic::Ordering;
use alloc::sync::Arc;

use super::channel::{Channel, State};
use super::table::{Book, Use};
use super::{EventError, SharedWords, Table, is_per_vcpu};
use crate::kit::{Port, VcpuId};

/// What the caller must do after a port was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed {
    /// The physical IRQ that was bound to the port and has no handler now.
    pub pirq: Option<u32>,
}

/// How far the closing of all ports has got.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sweep {
    /// All ports are closed.
    Done,
    /// Interrupted by urgent work: call again.
    Again,
}

/// The number of ports that are closed between two checks for urgent work.
const SWEEP_STEP: u32 = 16;

impl<P: SharedWords> Table<P> {
    /// Closes `port` (`EVTCHNOP_close`). Its peer becomes unbound, waiting for this domain.
    ///
    /// # Errors
    /// [`EventError::BadPort`] if the port is not open.
    pub fn close(&self, port: Port) -> Result<Closed, EventError> {
        let channel = self.channel(port).ok_or(EventError::BadPort)?;
        loop {
            // Declared before the books, so dropped after them: the peer's table must outlive the guard of its book.
            let peer = peer_of(channel);
            let mut books = self.lock_books(peer.as_ref().map_or(self, |(remote, _)| remote));
            if !same_peer(&peer, &peer_of(channel)) {
                continue;
            }
            if let Some((remote, remote_port)) = &peer
                && let Some(other) = remote.channel(*remote_port)
            {
                // From now on no peer sends to `port`: a sender holds this lock until it has delivered.
                *other.state.lock() = State::Unbound { remote: self.dom() };
            }
            return self.free(&mut books.own, port, channel);
        }
    }

    /// Frees `port`, which has no peer any more.
    fn free(
        &self,
        book: &mut Book,
        port: Port,
        channel: &Channel<P>,
    ) -> Result<Closed, EventError> {
        let mut state = channel.state.lock();
        let mut closed = Closed { pirq: None };
        match *state {
            State::Free | State::Reserved => return Err(EventError::BadPort),
            State::Virq(virq) => {
                let vcpu = if is_per_vcpu(virq) {
                    channel.notify()
                } else {
                    VcpuId(0)
                };
                if let Some(slot) = self.vcpu(vcpu)?.virqs.get(virq as usize) {
                    slot.store(0, Ordering::Release);
                }
            }
            State::Pirq(pirq) => {
                book.pirqs.retain(|(bound, _)| *bound != pirq);
                closed.pirq = Some(pirq);
            }
            State::Unbound { .. } | State::Interdomain { .. } | State::Ipi => {}
        }
        *state = State::Free;
        drop(state);
        self.delivery.lock().clear_pending(port, channel);
        channel.set_defaults();
        book.set_used(port, Use::Freed);
        Ok(closed)
    }

    /// Closes all ports and returns to the 2-level ABI (`EVTCHNOP_reset`). `urgent` is called now and then and says
    /// whether to stop; `unbound` is called with each physical IRQ that loses its port.
    pub fn reset(&self, urgent: &mut dyn FnMut() -> bool, unbound: &mut dyn FnMut(u32)) -> Sweep {
        if self.close_all(urgent, unbound) == Sweep::Again {
            return Sweep::Again;
        }
        let book = self.book.lock();
        if book.next_used(1).is_some() {
            // Another vCPU of the domain has bound a port meanwhile.
            return Sweep::Again;
        }
        self.delivery.lock().leave_fifo();
        Sweep::Done
    }

    /// Closes all ports for good and releases all pages of the guest. Called until it is done.
    pub fn destroy(&self, urgent: &mut dyn FnMut() -> bool, unbound: &mut dyn FnMut(u32)) -> Sweep {
        self.book.lock().dying = true;
        if self.close_all(urgent, unbound) == Sweep::Again {
            return Sweep::Again;
        }
        let mut delivery = self.delivery.lock();
        delivery.leave_fifo();
        delivery.forget_infos();
        Sweep::Done
    }

    fn close_all(&self, urgent: &mut dyn FnMut() -> bool, unbound: &mut dyn FnMut(u32)) -> Sweep {
        let mut from = 1u32;
        let mut left = SWEEP_STEP;
        loop {
            let Some(port) = self.book.lock().next_used(from) else {
                return Sweep::Done;
            };
            if let Ok(Closed { pirq: Some(pirq) }) = self.close(port) {
                unbound(pirq);
            }
            from = port.0.saturating_add(1);
            left = left.saturating_sub(1);
            if left == 0 {
                left = SWEEP_STEP;
                if urgent() {
                    return Sweep::Again;
                }
            }
        }
    }
}

fn peer_of<P>(channel: &Channel<P>) -> Option<(Arc<Table<P>>, Port)> {
    match &*channel.state.lock() {
        State::Interdomain { remote, port } => Some((Arc::clone(remote), *port)),
        _ => None,
    }
}

fn same_peer<P>(a: &Option<(Arc<Table<P>>, Port)>, b: &Option<(Arc<Table<P>>, Port)>) -> bool {
    match (a, b) {
        (Some((ta, pa)), Some((tb, pb))) => Arc::ptr_eq(ta, tb) && pa == pb,
        (None, None) => true,
        _ => false,
    }
}
