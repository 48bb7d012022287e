//! The FIFO ABI: an event word a port, and sixteen queues a vCPU that link the ports of pending
//! events (event_channel.h, "FIFO ABI").
//!
//! The guest takes events off a queue's head; the hypervisor appends. An append writes the port into
//! the link field of the queue's last event word, as long as that is still LINKED; if the guest has
//! taken it off already the queue is empty, and the port becomes its head in the control block.

use crate::kit::atomic::{AtomicU32, Ordering::SeqCst};

use guest_pv_abi::event_channel as abi;

use crate::kit::{Port, VcpuId};

/// Width of the link field (`EVTCHN_FIFO_LINK_BITS`).
pub(super) const LINK_BITS: u32 = abi::EVTCHN_FIFO_LINK_BITS;
const LINK_MASK: u32 = abi::EVTCHN_FIFO_LINK_MASK;
/// The event happened (`EVTCHN_FIFO_PENDING`).
pub(super) const PENDING: u32 = 1 << abi::EVTCHN_FIFO_PENDING;
/// The guest does not want to hear of it now (`EVTCHN_FIFO_MASKED`).
pub(super) const MASKED: u32 = 1 << abi::EVTCHN_FIFO_MASKED;
/// It is on a queue (`EVTCHN_FIFO_LINKED`).
pub(super) const LINKED: u32 = 1 << abi::EVTCHN_FIFO_LINKED;
/// The hypervisor is at work on the word: the guest waits before it unmasks (`EVTCHN_FIFO_BUSY`).
const BUSY: u32 = 1 << abi::EVTCHN_FIFO_BUSY;

/// Number of queues a vCPU has (`EVTCHN_FIFO_MAX_QUEUES`).
pub(super) const QUEUES: usize = abi::EVTCHN_FIFO_MAX_QUEUES as usize;
/// Priority of a port that nobody set another one for (`EVTCHN_FIFO_PRIORITY_DEFAULT`).
pub(super) const PRIORITY_DEFAULT: u32 = abi::EVTCHN_FIFO_PRIORITY_DEFAULT;
/// The least urgent priority (`EVTCHN_FIFO_PRIORITY_MIN`).
pub(super) const PRIORITY_MIN: u32 = abi::EVTCHN_FIFO_PRIORITY_MIN;

/// Event words a page.
pub(super) const WORDS_PER_PAGE: u32 = 1024;
/// Pages that the array of event words can have.
pub(super) const MAX_PAGES: usize = (abi::EVTCHN_FIFO_NR_CHANNELS / WORDS_PER_PAGE) as usize;

/// Size of `struct evtchn_fifo_control_block`.
pub(super) const CONTROL_BYTES: usize = size_of::<abi::EvtchnFifoControlBlock>();
/// Offset of the heads in it; the ready bits are at 0.
pub(super) const CONTROL_HEADS: usize = core::mem::offset_of!(abi::EvtchnFifoControlBlock, head);

/// How often a word that the guest keeps changing is tried, first without BUSY, then with it.
const TRIES: u32 = 8;

/// Which queue.
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
    /// In one word: vCPU numbers stay far below 2^28.
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

/// What came of an attempt to hang a port behind a queue's last one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Append {
    /// The last one links to the port now.
    Linked,
    /// The last one is off the queue: the queue is empty.
    QueueEmpty,
}

/// Makes `last`, the word of a queue's last event, link to `port` if it is still on the queue. A
/// guest that keeps rewriting its word to win the race for ever only loses the events before this
/// one.
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
