//! The FIFO ABI: an event word for each port, and sixteen queues for each vCPU that link the ports of
//! pending events (event_channel.h, "FIFO ABI").
//!
//! The guest takes events off the head of a queue; the hypervisor appends. To append a port, it writes the port into
//! the link field of the queue's last event word, provided that that word is still LINKED. If the guest has taken it
//! off, the queue is empty, and the port becomes its head in the control block.

use crate::kit::atomic::{AtomicU32, Ordering::SeqCst};

use guest_pv_abi::event_channel as abi;

use crate::kit::{Port, VcpuId};

/// The width of the link field (`EVTCHN_FIFO_LINK_BITS`).
pub(super) const LINK_BITS: u32 = abi::EVTCHN_FIFO_LINK_BITS;
const LINK_MASK: u32 = abi::EVTCHN_FIFO_LINK_MASK;
/// The event is pending (`EVTCHN_FIFO_PENDING`).
pub(super) const PENDING: u32 = 1 << abi::EVTCHN_FIFO_PENDING;
/// The guest has masked the event (`EVTCHN_FIFO_MASKED`).
pub(super) const MASKED: u32 = 1 << abi::EVTCHN_FIFO_MASKED;
/// The event is on a queue (`EVTCHN_FIFO_LINKED`).
pub(super) const LINKED: u32 = 1 << abi::EVTCHN_FIFO_LINKED;
/// The hypervisor is changing the word, and the guest waits before it unmasks (`EVTCHN_FIFO_BUSY`).
const BUSY: u32 = 1 << abi::EVTCHN_FIFO_BUSY;

/// The number of queues of a vCPU (`EVTCHN_FIFO_MAX_QUEUES`).
pub(super) const QUEUES: usize = abi::EVTCHN_FIFO_MAX_QUEUES as usize;
/// The priority of a port unless the guest sets another (`EVTCHN_FIFO_PRIORITY_DEFAULT`).
pub(super) const PRIORITY_DEFAULT: u32 = abi::EVTCHN_FIFO_PRIORITY_DEFAULT;
/// The least urgent priority (`EVTCHN_FIFO_PRIORITY_MIN`).
pub(super) const PRIORITY_MIN: u32 = abi::EVTCHN_FIFO_PRIORITY_MIN;

/// The number of event words on a page.
pub(super) const WORDS_PER_PAGE: u32 = 1024;
/// The number of pages that the array of event words can have.
pub(super) const MAX_PAGES: usize = (abi::EVTCHN_FIFO_NR_CHANNELS / WORDS_PER_PAGE) as usize;

/// The size of `struct evtchn_fifo_control_block` in bytes.
pub(super) const CONTROL_BYTES: usize = size_of::<abi::EvtchnFifoControlBlock>();
/// The offset of the heads in it; the ready bits are at offset 0.
pub(super) const CONTROL_HEADS: usize = core::mem::offset_of!(abi::EvtchnFifoControlBlock, head);

/// How many attempts are made on a word that the guest keeps changing: so many without BUSY, then so many with it.
const TRIES: u32 = 8;

/// A queue: its vCPU and its priority.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct QueueId {
    pub vcpu: VcpuId,
    pub priority: u32,
}

impl Default for QueueId {
    fn default() -> Self {
        Self {
            vcpu: VcpuId(0),
            priority: PRIORITY_DEFAULT,
        }
    }
}

impl QueueId {
    /// Packs the id into a word; vCPU numbers stay far below 2^28.
    pub fn to_raw(self) -> u32 {
        self.vcpu.0 << 4 | self.priority & 0xf
    }
    pub fn from_raw(raw: u32) -> Self {
        Self {
            vcpu: VcpuId(raw >> 4),
            priority: raw & 0xf,
        }
    }
}

/// The outcome of appending a port to a queue's last event word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Append {
    /// The last event links to the port now.
    Linked,
    /// The last event is off the queue, so the queue is empty.
    QueueEmpty,
}

/// Makes `last`, the word of a queue's last event, link to `port` if it is still on the queue. A guest that keeps
/// rewriting the word to win the race for ever only loses its own earlier events.
pub(super) fn append(last: &AtomicU32, port: Port) -> Append {
    if let Some(done) = try_append(last, port) {
        return done;
    }
    last.fetch_or(BUSY, SeqCst);
    if let Some(done) = try_append(last, port) {
        if done == Append::QueueEmpty {
            last.fetch_and(!BUSY, SeqCst);
        }
        return done;
    }
    last.fetch_and(!BUSY, SeqCst);
    Append::QueueEmpty
}

fn try_append(last: &AtomicU32, port: Port) -> Option<Append> {
    let mut word = last.load(SeqCst);
    for _ in 0..TRIES {
        if word & LINKED == 0 {
            return Some(Append::QueueEmpty);
        }
        let linked = word & !(BUSY | LINK_MASK) | port.0 & LINK_MASK;
        match last.compare_exchange(word, linked, SeqCst, SeqCst) {
            Ok(_) => return Some(Append::Linked),
            Err(now) => word = now,
        }
    }
    None
}
