//! One port: what it is connected to, and what delivery needs to know about it.

use crate::kit::atomic::{AtomicBool, AtomicU32, Ordering};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::fifo::{PRIORITY_DEFAULT, QueueId};
use super::{EventError, Table};
use crate::kit::{DomId, Lock, Port, Rank, VcpuId};
use crate::mm::heap;

/// Ports that are allocated together.
pub(super) const BUCKET_PORTS: u32 = 64;

/// What a port is.
pub(super) enum State<P> {
    /// Not in use.
    Free,
    /// Port 0, which is never given out.
    Reserved,
    /// Waits for `remote` to bind to it.
    Unbound { remote: DomId },
    /// Connected with `port` of another table, or of this one.
    Interdomain { remote: Arc<Table<P>>, port: Port },
    /// A virtual IRQ.
    Virq(u32),
    /// From one vCPU of the domain to another.
    Ipi,
    /// A physical IRQ that the domain handles.
    Pirq(u32),
}

/// One port.
pub(super) struct Channel<P> {
    /// What it is.
    pub state: Lock<State<P>>,
    /// The vCPU to notify.
    notify: AtomicU32,
    /// FIFO: priority of the next linking.
    priority: AtomicU32,
    /// FIFO: the queue it was linked on last; changes under the delivery lock.
    last_queue: AtomicU32,
    /// FIFO: became pending before the guest gave the page of its event word.
    pub early: AtomicBool,
}

impl<P> Channel<P> {
    fn new(state: State<P>) -> Self {
        Self {
            state: Lock::new(Rank::EventChannel, state),
            notify: AtomicU32::new(0),
            priority: AtomicU32::new(PRIORITY_DEFAULT),
            last_queue: AtomicU32::new(QueueId::default().to_raw()),
            early: AtomicBool::new(false),
        }
    }

    /// The vCPU to notify.
    pub fn notify(&self) -> VcpuId {
        VcpuId(self.notify.load(Ordering::Relaxed))
    }
    pub fn set_notify(&self, vcpu: VcpuId) {
        self.notify.store(vcpu.0, Ordering::Relaxed);
    }
    /// The queue that its next linking goes to.
    pub fn queue(&self) -> QueueId {
        QueueId {
            vcpu: self.notify(),
            priority: self.priority.load(Ordering::Relaxed),
        }
    }
    pub fn set_priority(&self, priority: u32) {
        self.priority.store(priority, Ordering::Relaxed);
    }
    /// Remembers the queue it is linked on now; returns the one before.
    pub fn swap_last_queue(&self, queue: QueueId) -> QueueId {
        let before = self.last_queue.load(Ordering::Relaxed);
        self.last_queue.store(queue.to_raw(), Ordering::Relaxed);
        QueueId::from_raw(before)
    }
    /// Back to what a fresh port is, but for its state.
    pub fn set_defaults(&self) {
        self.set_notify(VcpuId(0));
        self.set_priority(PRIORITY_DEFAULT);
        self.early.store(false, Ordering::Relaxed);
    }
}

/// A bucket of free ports; the one with port 0 has that reserved.
pub(super) fn new_bucket<P>(first: Port) -> Result<Box<[Channel<P>]>, EventError> {
    if !heap::can_grow(u64::from(BUCKET_PORTS).saturating_mul(size_of::<Channel<P>>() as u64)) {
        return Err(EventError::NoMemory);
    }
    let mut bucket = Vec::new();
    bucket
        .try_reserve_exact(BUCKET_PORTS as usize)
        .map_err(|_| EventError::NoMemory)?;
    for i in 0..BUCKET_PORTS {
        let reserved = first.0 == 0 && i == 0;
        bucket.push(Channel::new(if reserved {
            State::Reserved
        } else {
            State::Free
        }));
    }
    Ok(bucket.into_boxed_slice())
}
