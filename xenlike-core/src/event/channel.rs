//! One port: what it is connected with, and what delivery needs to know about it.

use crate::kit::atomic::{AtomicBool, AtomicU32, Ordering};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::fifo::{PRIORITY_DEFAULT, QueueId};
use super::{EventError, Table};
use crate::kit::{DomId, Lock, Port, Rank, VcpuId};
use crate::mm::heap;

/// The number of ports that are allocated together.
pub(super) const BUCKET_PORTS: u32 = 64;

/// The kind and connection of a port.
pub(super) enum State<P> {
    /// Not in use; may be allocated.
    Free,
    /// Port 0, which is never allocated.
    Reserved,
    /// Waits for domain `remote` to bind to it.
    Unbound { remote: DomId },
    /// Connected with `port` of table `remote`, which may be this one.
    Interdomain { remote: Arc<Table<P>>, port: Port },
    /// Bound to this virtual IRQ.
    Virq(u32),
    /// An IPI: from any vCPU of the domain to the one that it notifies.
    Ipi,
    /// Bound to this physical IRQ, which the domain handles.
    Pirq(u32),
}

/// One port of a table.
pub(super) struct Channel<P> {
    /// The kind and connection. A sender holds this lock until the event is delivered.
    pub state: Lock<State<P>>,
    /// The vCPU that the port notifies.
    notify: AtomicU32,
    /// FIFO: the priority with which it is linked next.
    priority: AtomicU32,
    /// FIFO: the queue on which it was linked last. Changes under the delivery lock.
    last_queue: AtomicU32,
    /// FIFO: whether it became pending before the guest provided the page of its event word.
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

    /// The vCPU that the port notifies.
    pub fn notify(&self) -> VcpuId {
        VcpuId(self.notify.load(Ordering::Relaxed))
    }
    pub fn set_notify(&self, vcpu: VcpuId) {
        self.notify.store(vcpu.0, Ordering::Relaxed);
    }
    /// FIFO: the queue on which it is linked next.
    pub fn queue(&self) -> QueueId {
        QueueId {
            vcpu: self.notify(),
            priority: self.priority.load(Ordering::Relaxed),
        }
    }
    pub fn set_priority(&self, priority: u32) {
        self.priority.store(priority, Ordering::Relaxed);
    }
    /// Records the queue on which it is linked now; returns the previous one.
    pub fn swap_last_queue(&self, queue: QueueId) -> QueueId {
        let before = self.last_queue.load(Ordering::Relaxed);
        self.last_queue.store(queue.to_raw(), Ordering::Relaxed);
        QueueId::from_raw(before)
    }
    /// Resets everything but the state to the values of a fresh port.
    pub fn set_defaults(&self) {
        self.set_notify(VcpuId(0));
        self.set_priority(PRIORITY_DEFAULT);
        self.early.store(false, Ordering::Relaxed);
    }
}

/// Allocates a bucket of free ports. In the bucket of port 0, that port is reserved.
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
