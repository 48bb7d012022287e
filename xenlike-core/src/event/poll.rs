//! Polling (`SCHEDOP_poll`): a vCPU that sleeps until one of some ports is pending, masked or not.
//!
//! The flag that keeps a polling vCPU from running goes up before [`Table::begin_poll`], and comes
//! down after [`Table::end_poll`]. So a CPU that is late with ending one poll, and hits the next one
//! of the same vCPU, wakes it too early; in any other order it could leave it asleep with nothing
//! noted, and the next event would wake nobody.

use crate::kit::atomic::Ordering::SeqCst;

use super::channel::State;
use super::{EventError, SharedWords, Table};
use crate::kit::{Port, VcpuId};

/// What a vCPU polls for when it named more than one port.
pub(super) const ANY: u32 = u32::MAX;

impl<P: SharedWords> Table<P> {
    /// Whether `port`, which must be open, is pending.
    ///
    /// # Errors
    /// [`EventError::BadPort`].
    pub fn is_pending(&self, port: Port) -> Result<bool, EventError> {
        let channel = self.channel(port).ok_or(EventError::BadPort)?;
        if matches!(*channel.state.lock(), State::Free | State::Reserved) {
            return Err(EventError::BadPort);
        }
        Ok(self.delivery.lock().is_pending(port, channel))
    }

    /// Notes that `vcpu` sleeps until `port` is pending, or any port if none is named. The caller looks
    /// at the ports after this, and whoever wakes the vCPU calls [`Table::end_poll`] before.
    pub fn begin_poll(&self, vcpu: VcpuId, port: Option<Port>) {
        // Port 0 never is one, and is written down as not polling.
        let what = port.filter(|port| port.0 != 0).map_or(ANY, |port| port.0);
        if let Ok(own) = self.vcpu(vcpu)
            && own.polls.swap(what, SeqCst) == 0
        {
            self.pollers.fetch_add(1, SeqCst);
        }
    }

    /// Notes that `vcpu` does not poll any more; harmless if it did not.
    pub fn end_poll(&self, vcpu: VcpuId) {
        if let Ok(own) = self.vcpu(vcpu)
            && own.polls.swap(0, SeqCst) != 0
        {
            self.pollers.fetch_sub(1, SeqCst);
        }
    }

    /// The vCPUs that poll for `port`.
    pub fn pollers_of(&self, port: Port) -> impl Iterator<Item = VcpuId> + '_ {
        let polls_for = move |what: u32| what == ANY || what != 0 && what == port.0;
        (0..)
            .zip(&self.vcpus)
            .filter(move |(_, v)| polls_for(v.polls.load(SeqCst)))
            .map(|(n, _)| VcpuId(n))
    }
}
