//! A domain's channels: looking up a port, finding a free one.

use crate::kit::atomic::{AtomicU16, AtomicU32, Ordering};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::channel::{BUCKET_PORTS, Channel, State, new_bucket};
use super::delivery::Delivery;
use guest_pv_abi::Width;

use super::{EventError, FIFO_PORTS, NR_VIRQS, SharedWords};
use crate::kit::lock::LockGuard;
use crate::kit::{Bounded, DomId, Lock, Once, Port, Rank, VcpuId};

/// The sizes of a table, which are fixed when its domain is created.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The highest number of vCPUs that the domain can have.
    pub vcpus: u32,
    /// The highest port number that the domain can get (`max_evtchn_port` of createdomain; a huge number for no limit).
    pub max_port: u32,
}

/// The event channels of one domain. `P` is a handle on a page that is shared with the guest.
pub struct Table<P> {
    dom: AtomicU16,
    /// All port numbers are below this one.
    pub(super) port_limit: u32,
    pub(super) book: Lock<Book>,
    buckets: Box<[Bucket<P>]>,
    pub(super) delivery: Lock<Delivery<P>>,
    pub(super) vcpus: Box<[VcpuPorts]>,
    /// The number of vCPUs that poll.
    pub(super) pollers: AtomicU32,
}

/// How many free ports are skipped because the guest's event words say that they are on a queue. A guest that takes its
/// events off its queues has few such ports.
const MAX_BUSY: u32 = 1024;

/// Ports that are allocated together, when one of them is first needed.
type Bucket<P> = Once<Box<[Channel<P>]>>;

/// The part of a table that changes when a port is allocated or closed.
pub(super) struct Book {
    /// A bit for each port: set if the port is not free.
    pub used: Box<[u64]>,
    /// No port below this one is free, apart from those that were skipped.
    pub hint: u32,
    /// Whether the domain is being destroyed, so that it gets no new ports.
    pub dying: bool,
    /// The physical IRQs that are bound: number and port.
    pub pirqs: Vec<(u32, Port)>,
}

/// The ports of a vCPU's virtual IRQs (0: not bound), and what the vCPU polls for.
pub(super) struct VcpuPorts {
    pub virqs: [AtomicU32; NR_VIRQS],
    /// 0 if it doesn't poll, [`super::poll::ANY`], or the port for which it polls.
    pub polls: AtomicU32,
}

impl<P: SharedWords> Table<P> {
    /// Makes a table for domain `dom`, whose shared info page is `shared`.
    ///
    /// # Errors
    /// [`EventError::NoMemory`] if there is no memory for the table.
    pub fn new(dom: DomId, limits: Limits, shared: P) -> Result<Arc<Self>, EventError> {
        let port_limit = limits.max_port.saturating_add(1).min(FIFO_PORTS);
        let table = Self {
            dom: AtomicU16::new(dom.0),
            port_limit,
            book: Lock::new(Rank::EventBook, Book::new(port_limit)?),
            buckets: collect(port_limit.div_ceil(BUCKET_PORTS), |_| Once::new())?,
            delivery: Lock::new(Rank::EventDelivery, Delivery::new(shared, limits.vcpus)?),
            vcpus: collect(limits.vcpus, |_| VcpuPorts {
                virqs: [const { AtomicU32::new(0) }; NR_VIRQS],
                polls: AtomicU32::new(0),
            })?,
            pollers: AtomicU32::new(0),
        };
        table.make_bucket(Port(0))?;
        Ok(Arc::new(table))
    }

    /// The domain to which the table belongs.
    pub fn dom(&self) -> DomId {
        DomId(self.dom.load(Ordering::Relaxed))
    }

    /// Changes the domain's id: once, when the boot domain becomes domain 0, before it has a port.
    pub fn rename(&self, dom: DomId) {
        self.dom.store(dom.0, Ordering::Relaxed);
    }

    /// Sets the width of the guest, before it uses a port.
    pub fn set_width(&self, width: Width) {
        self.delivery.lock().set_width(width);
    }

    /// Whether no port is open.
    pub fn is_empty(&self) -> bool {
        self.book.lock().next_used(1).is_none()
    }

    /// The channel of `port`, if it was ever allocated.
    pub(super) fn channel(&self, port: Port) -> Option<&Channel<P>> {
        let bucket = self.buckets.bounded((port.0 / BUCKET_PORTS) as usize)?;
        bucket.get()?.get((port.0 % BUCKET_PORTS) as usize)
    }

    /// The ports that `vcpu` has bound.
    pub(super) fn vcpu(&self, vcpu: VcpuId) -> Result<&VcpuPorts, EventError> {
        self.vcpus
            .bounded(vcpu.0 as usize)
            .ok_or(EventError::NoVcpu)
    }

    fn make_bucket(&self, port: Port) -> Result<(), EventError> {
        let first = Port(port.0 & !BUCKET_PORTS.wrapping_sub(1));
        let slot = self.buckets.get((port.0 / BUCKET_PORTS) as usize);
        let slot = slot.ok_or(EventError::NoSpace)?;
        slot.try_call_once(|| new_bucket(first)).map(|_| ())
    }

    /// Finds the lowest free port and makes sure that it is allocated. The caller sets its state by [`Table::take`].
    pub(super) fn free_port(&self, book: &mut Book) -> Result<Port, EventError> {
        if book.dying {
            return Err(EventError::Dying);
        }
        let delivery = self.delivery.lock();
        let limit = self.port_limit.min(delivery.ports());
        let mut passed = None;
        let mut port = book.hint;
        for _ in 0..MAX_BUSY {
            let Some(found) = book.next_unused(port).filter(|p| p.0 < limit) else {
                break;
            };
            if !delivery.is_busy(found) {
                book.hint = passed.unwrap_or(found.0);
                self.make_bucket(found)?;
                return Ok(found);
            }
            // It is still on a queue from its previous use, until the guest takes it off.
            passed = passed.or(Some(found.0));
            port = found.0.saturating_add(1);
        }
        Err(EventError::NoSpace)
    }

    /// Gives `port`, which is free, its state.
    pub(super) fn take(&self, book: &mut Book, port: Port, notify: VcpuId, state: State<P>) {
        if let Some(channel) = self.channel(port) {
            channel.set_defaults();
            channel.set_notify(notify);
            book.set_used(port, Use::Taken);
            *channel.state.lock() = state;
        }
    }

    /// Locks the books of two tables, the one at the lower address first; only one book if they are the same.
    pub(super) fn lock_books<'a>(&'a self, other: &'a Self) -> Books<'a> {
        let (mine, theirs) = (
            core::ptr::from_ref(self).addr(),
            core::ptr::from_ref(other).addr(),
        );
        if mine == theirs {
            Books {
                own: self.book.lock(),
                other: None,
            }
        } else if mine < theirs {
            let own = self.book.lock();
            Books {
                own,
                other: Some(other.book.lock()),
            }
        } else {
            let theirs = other.book.lock();
            Books {
                own: self.book.lock(),
                other: Some(theirs),
            }
        }
    }

    /// The port to which `vcpu` has bound `virq`, if it has.
    pub(super) fn virq_port(&self, vcpu: VcpuId, virq: u32) -> Option<Port> {
        let port = self.vcpus.get(vcpu.0 as usize)?.virqs.get(virq as usize)?;
        let port = port.load(Ordering::Acquire);
        (port != 0).then_some(Port(port))
    }
}

/// The locked books of an operation on two tables.
pub(super) struct Books<'a> {
    /// The book of the calling table.
    pub own: LockGuard<'a, Book>,
    /// The book of the peer's table, locked to exclude other operations; none if both are the same.
    #[expect(dead_code, reason = "held for its lock alone")]
    pub other: Option<LockGuard<'a, Book>>,
}

/// Whether a port is in use.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    Taken,
    Freed,
}

impl Book {
    fn new(ports: u32) -> Result<Self, EventError> {
        let mut book = Self {
            used: collect(ports.div_ceil(64), |_| 0)?,
            hint: 1,
            dying: false,
            pirqs: Vec::new(),
        };
        book.set_used(Port(0), Use::Taken);
        Ok(book)
    }

    /// Marks `port` as taken or free.
    pub fn set_used(&mut self, port: Port, to: Use) {
        let Some(word) = self.used.get_mut((port.0 / 64) as usize) else {
            return;
        };
        let bit = 1u64 << (port.0 % 64);
        match to {
            Use::Taken => *word |= bit,
            Use::Freed => {
                *word &= !bit;
                self.hint = self.hint.min(port.0);
            }
        }
    }

    /// The marks of the 64 ports around `port`, for the audit.
    #[cfg(feature = "audit")]
    pub fn used_word(&self, port: Port) -> u64 {
        self.used.get((port.0 / 64) as usize).copied().unwrap_or(0)
    }

    /// The first unused port from `from` on.
    fn next_unused(&self, from: u32) -> Option<Port> {
        self.next_where(from, |word| !word)
    }

    /// The first used port from `from` on.
    pub fn next_used(&self, from: u32) -> Option<Port> {
        self.next_where(from, |word| word)
    }

    fn next_where(&self, from: u32, pick: impl Fn(u64) -> u64) -> Option<Port> {
        let mut floor = from % 64;
        for (i, word) in self.used.iter().enumerate().skip((from / 64) as usize) {
            let bits = pick(*word) & (u64::MAX << floor);
            if bits != 0 {
                return Some(Port(
                    (i as u32)
                        .wrapping_mul(64)
                        .wrapping_add(bits.trailing_zeros()),
                ));
            }
            floor = 0;
        }
        None
    }
}

/// Makes a boxed slice of `n` values, or fails without a panic if memory is short.
pub(super) fn collect<T>(n: u32, make: impl FnMut(u32) -> T) -> Result<Box<[T]>, EventError> {
    let mut all = Vec::new();
    all.try_reserve_exact(n as usize)
        .map_err(|_| EventError::NoMemory)?;
    all.extend((0..n).map(make));
    Ok(all.into_boxed_slice())
}
