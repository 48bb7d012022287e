//! Polling (`SCHEDOP_poll`): a vCPU sleeps until one of some ports is pending, masked or not.
//!
//! The hold that keeps a polling vCPU from running is set before [`Table::begin_poll`], and is removed after
//! [`Table::end_poll`]. So if a CPU is late in ending one poll, and thereby ends the next poll of the same vCPU, it
//! wakes the vCPU too early, which is harmless. In any other order, the vCPU could stay asleep without being recorded
//! as polling, and the next event would not wake it.

use crate::kit::atomic::Ordering::SeqCst;

use super::channel::State;
use super::{EventError, SharedWords, Table};
use crate::kit::{Port, VcpuId};

/// The value of `polls` for a vCPU that polls for more than one port.
pub(super) const ANY: u32 = u32::MAX;

impl<P: SharedWords> Table<P> {
    /// Whether `port`, which must be open, is pending.
    ///
    /// # Errors
    /// [`EventError::BadPort`] if the port is not open.
    pub fn is_pending(&self, port: Port) -> Result<bool, EventError> {
        let channel = self.channel(port).ok_or(EventError::BadPort)?;
        if matches!(*channel.state.lock(), State::Free | State::Reserved) {
            return Err(EventError::BadPort);
        }
        Ok(self.delivery.lock().is_pending(port, channel))
    }

    /// Records that `vcpu` sleeps until `port` is pending, or any port if none is given. The caller checks the ports
    /// after this; code that wakes the vCPU calls [`Table::end_poll`] first.
    pub fn begin_poll(&self, vcpu: VcpuId, port: Option<Port>) {
        // Port 0 doesn't exist, and its number would mean that the vCPU doesn't poll.
        let what = port.filter(|port| port.0 != 0).map_or(ANY, |port| port.0);
        if let Ok(own) = self.vcpu(vcpu)
            && own.polls.swap(what, SeqCst) == 0
        {
            self.pollers.fetch_add(1, SeqCst);
        }
    }

    /// Records that `vcpu` doesn't poll any more. Does nothing if it didn't.
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
