//! How an event reaches the guest: bits or queues in pages that are shared with it, and the vCPU's upcall flag. All
//! accesses to these pages are sequentially consistent, as the protocols with the guest require.

use crate::kit::atomic::{AtomicU32, Ordering::SeqCst};
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::mem::offset_of;

use guest_pv_abi::Width;
use guest_pv_abi::arch_x86::XEN_LEGACY_MAX_VCPUS;
use guest_pv_abi::xen::VcpuInfo;

use super::channel::Channel;
use super::fifo::{self, Append, CONTROL_HEADS, LINKED, MASKED, PENDING, QUEUES, QueueId};
use super::table::collect;
use super::two_level::{Places, test_and_set};
use super::{EventError, FIFO_PORTS, SharedWords};
use crate::kit::{Port, VcpuId};

/// The size of `struct vcpu_info` in bytes.
pub(super) const INFO_BYTES: usize = size_of::<VcpuInfo>();
const UPCALL_PENDING: usize = offset_of!(VcpuInfo, evtchn_upcall_pending);

/// The delivery state of a domain, under one lock.
pub(super) struct Delivery<P> {
    shared: P,
    /// Whether the domain has the 2-level ABI of wide guests, which most events use.
    is_usual: bool,
    places: Places,
    vcpus: Box<[VcpuDelivery<P>]>,
    fifo: Option<Vec<P>>,
}

struct VcpuDelivery<P> {
    info: Info<P>,
    control: Option<Control<P>>,
}

/// The location of a vCPU's `struct vcpu_info`.
enum Info<P> {
    /// It has none yet: a high-numbered vCPU that has not registered one.
    None,
    /// At this offset of the shared info page.
    Shared(usize),
    /// At this offset of a page that the guest registered.
    Registered(P, usize),
}

/// The FIFO queues of a vCPU.
struct Control<P> {
    page: P,
    offset: usize,
    /// The last port of each queue; 0 if the queue never had one.
    tails: [u32; QUEUES],
}

/// The effect of setting an event pending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Raised {
    /// Whether the event was not pending before.
    pub news: bool,
    /// The vCPU whose upcall flag went from 0 to 1.
    pub upcall: Option<VcpuId>,
}

impl Raised {
    const OLD: Self = Self {
        news: false,
        upcall: None,
    };
}

/// The offset of a vCPU's vcpu_info in the shared info page, which has places for the first vCPUs alone.
pub fn in_shared_info(vcpu: VcpuId) -> Option<usize> {
    let number = vcpu.0 as usize;
    (number < XEN_LEGACY_MAX_VCPUS).then(|| number.wrapping_mul(INFO_BYTES))
}

/// Sets the upcall flag in the vcpu_info at this place; returns true if it was clear.
fn raise_flag<P: SharedWords>((page, offset): (&P, usize)) -> bool {
    page.u8(offset.wrapping_add(UPCALL_PENDING))
        .is_some_and(|flag| flag.swap(1, SeqCst) == 0)
}

impl<P: SharedWords> Delivery<P> {
    pub fn new(shared: P, vcpus: u32) -> Result<Self, EventError> {
        let vcpus = collect(vcpus, |v| VcpuDelivery {
            info: in_shared_info(VcpuId(v)).map_or(Info::None, Info::Shared),
            control: None,
        })?;
        Ok(Self {
            shared,
            is_usual: true,
            places: Places::WIDE,
            vcpus,
            fifo: None,
        })
    }

    pub fn is_fifo(&self) -> bool {
        self.fifo.is_some()
    }

    /// Sets the width of the guest, before it uses a port.
    pub fn set_width(&mut self, width: Width) {
        self.places = match width {
            Width::Wide => Places::WIDE,
            Width::Narrow => Places::NARROW,
        };
        self.note_abi();
    }

    fn note_abi(&mut self) {
        self.is_usual = self.fifo.is_none() && self.places.are_wide();
    }

    /// The number of ports that the present ABI can deliver.
    pub fn ports(&self) -> u32 {
        if self.is_fifo() {
            FIFO_PORTS
        } else {
            self.places.ports()
        }
    }

    /// Makes `port` pending and raises its vCPU's upcall flag, as far as the mask and the queue permit.
    #[inline(always)] // part of every send
    pub fn set_pending(&mut self, port: Port, channel: &Channel<P>) -> Raised {
        if !self.is_usual {
            return self.other_set_pending(port, channel);
        }
        self.two_level_set_pending(&Places::WIDE, port, channel)
    }

    #[inline(never)] // keeps each ABI free of the other's registers
    fn other_set_pending(&mut self, port: Port, channel: &Channel<P>) -> Raised {
        if self.fifo.is_none() {
            return self.two_level_set_pending(&self.places, port, channel);
        }
        let Some(word) = self.word(port) else {
            let news = !channel.early.swap(true, SeqCst);
            return Raised { news, upcall: None };
        };
        // One instruction sets the bit and reads the others: the guest takes LINKED off and then looks at PENDING, so
        // either this append or the guest's look finds the event.
        let before = word.fetch_or(PENDING, SeqCst);
        let upcall = if before & (MASKED | LINKED) == 0 {
            self.link(port, channel)
        } else {
            None
        };
        Raised {
            news: before & PENDING == 0,
            upcall,
        }
    }

    #[inline(always)] // one instance with constants
    fn two_level_set_pending(&self, at: &Places, port: Port, channel: &Channel<P>) -> Raised {
        let Some((word, bit)) = at.pending(&self.shared, port) else {
            return Raised::OLD;
        };
        // Pending is set before the mask is read. A guest, or `unmask`, clears the mask before it reads pending. Both
        // are sequentially consistent, so at least one of the two sees the other's write, and no event is lost.
        if test_and_set(word, bit) {
            return Raised::OLD;
        }
        let masked = at
            .mask(&self.shared, port)
            .is_none_or(|(word, bit)| word.load(SeqCst) & bit != 0);
        let upcall = if masked {
            None
        } else {
            self.select(at, port, channel.notify())
        };
        Raised { news: true, upcall }
    }

    /// Unmasks the port. If the event is pending, raises its vCPU's upcall flag.
    #[inline(always)] // part of `Table::unmask`
    pub fn unmask(&mut self, port: Port, channel: &Channel<P>) -> Option<VcpuId> {
        if !self.is_usual {
            return self.other_unmask(port, channel);
        }
        self.two_level_unmask(&Places::WIDE, port, channel)
    }

    #[inline(never)] // as for `other_set_pending`
    fn other_unmask(&mut self, port: Port, channel: &Channel<P>) -> Option<VcpuId> {
        if self.fifo.is_none() {
            return self.two_level_unmask(&self.places, port, channel);
        }
        let before = self.word(port)?.fetch_and(!MASKED, SeqCst);
        if before & PENDING == 0 || before & LINKED != 0 {
            return None;
        }
        self.link(port, channel)
    }

    #[inline(always)] // one instance with constants
    fn two_level_unmask(&self, at: &Places, port: Port, channel: &Channel<P>) -> Option<VcpuId> {
        let (mask, bit) = at.mask(&self.shared, port)?;
        if mask.fetch_and(!bit, SeqCst) & bit == 0 {
            return None;
        }
        let (pending, bit) = at.pending(&self.shared, port)?;
        if pending.load(SeqCst) & bit == 0 {
            None
        } else {
            self.select(at, port, channel.notify())
        }
    }

    /// Makes `port` not pending.
    pub fn clear_pending(&self, port: Port, channel: &Channel<P>) {
        channel.early.store(false, SeqCst);
        if self.fifo.is_some() {
            if let Some(word) = self.word(port) {
                word.fetch_and(!PENDING, SeqCst);
            }
        } else if let Some((word, bit)) = self.places.pending(&self.shared, port) {
            word.fetch_and(!bit, SeqCst);
        }
    }

    pub fn is_pending(&self, port: Port, channel: &Channel<P>) -> bool {
        if self.fifo.is_some() {
            match self.word(port) {
                Some(word) => word.load(SeqCst) & PENDING != 0,
                None => channel.early.load(SeqCst),
            }
        } else {
            self.places
                .pending(&self.shared, port)
                .is_some_and(|(word, bit)| word.load(SeqCst) & bit != 0)
        }
    }

    /// Whether the event word of `port` is still on a queue, so that the port can't be allocated again.
    pub fn is_busy(&self, port: Port) -> bool {
        self.fifo.is_some()
            && self
                .word(port)
                .is_some_and(|word| word.load(SeqCst) & LINKED != 0)
    }

    /// Sets the vCPU's selector bit and upcall flag for a port of the 2-level ABI.
    #[inline(always)] // decided when compiled
    fn select(&self, at: &Places, port: Port, vcpu: VcpuId) -> Option<VcpuId> {
        if at.are_wide() {
            self.select_wide(port, vcpu)
        } else {
            self.select_in(&Places::NARROW, port, vcpu)
        }
    }

    #[inline(never)] // keeps its registers out of the senders
    fn select_wide(&self, port: Port, vcpu: VcpuId) -> Option<VcpuId> {
        self.select_in(&Places::WIDE, port, vcpu)
    }

    #[inline(always)] // one instance for each width
    fn select_in(&self, at: &Places, port: Port, vcpu: VcpuId) -> Option<VcpuId> {
        let info = self.info(vcpu)?;
        if at.select(info.0, info.1, port)? {
            return None;
        }
        raise_flag(info).then_some(vcpu)
    }

    /// Sets the upcall flag of `vcpu`; returns the vCPU if the flag was clear.
    pub fn upcall(&self, vcpu: VcpuId) -> Option<VcpuId> {
        raise_flag(self.info(vcpu)?).then_some(vcpu)
    }

    fn info(&self, vcpu: VcpuId) -> Option<(&P, usize)> {
        match &self.vcpus.get(vcpu.0 as usize)?.info {
            Info::None => None,
            Info::Shared(offset) => Some((&self.shared, *offset)),
            Info::Registered(page, offset) => Some((page, *offset)),
        }
    }

    /// The event word of `port`, once the guest has provided its page.
    fn word(&self, port: Port) -> Option<&AtomicU32> {
        let page = self
            .fifo
            .as_ref()?
            .get((port.0 / fifo::WORDS_PER_PAGE) as usize)?;
        page.u32((port.0 % fifo::WORDS_PER_PAGE).wrapping_mul(4) as usize)
    }

    /// Appends `port` to its queue, unless it is on a queue already.
    fn link(&mut self, port: Port, channel: &Channel<P>) -> Option<VcpuId> {
        let queue = channel.queue();
        // Without a control block the vCPU has no queues: the event stays pending and unlinked.
        self.vcpus.get(queue.vcpu.0 as usize)?.control.as_ref()?;
        if self.word(port)?.fetch_or(LINKED, SeqCst) & LINKED != 0 {
            return None;
        }
        // The priority or the vCPU may have changed since the port was linked last.
        let before = channel.swap_last_queue(queue);
        if before != queue {
            self.forget_tail(before, port);
        }
        let tail = self.swap_tail(queue, port)?;
        // If the tail is the port itself, or there is none, the guest has taken off the whole queue.
        let appended = match self.word(Port(tail)) {
            Some(word) if tail != 0 && tail != port.0 => fifo::append(word, port),
            _ => Append::QueueEmpty,
        };
        match appended {
            Append::Linked => None,
            Append::QueueEmpty => self.set_head(queue, port),
        }
    }

    /// Records that `port` leaves `queue` for another one, so that no later port is appended to it there.
    fn forget_tail(&mut self, queue: QueueId, port: Port) {
        if let Some(tail) = self.tail(queue)
            && *tail == port.0
        {
            *tail = 0;
        }
    }

    fn swap_tail(&mut self, queue: QueueId, port: Port) -> Option<u32> {
        Some(core::mem::replace(self.tail(queue)?, port.0))
    }

    fn tail(&mut self, queue: QueueId) -> Option<&mut u32> {
        let control = self
            .vcpus
            .get_mut(queue.vcpu.0 as usize)?
            .control
            .as_mut()?;
        control.tails.get_mut(queue.priority as usize)
    }

    /// Makes `port` the head of the empty `queue`; raises the upcall flag if the vCPU doesn't know
    /// that the queue is ready.
    fn set_head(&self, queue: QueueId, port: Port) -> Option<VcpuId> {
        let control = self.vcpus.get(queue.vcpu.0 as usize)?.control.as_ref()?;
        let head = CONTROL_HEADS.wrapping_add(queue.priority.wrapping_mul(4) as usize);
        // An exchange: a sequentially consistent store is one on x86 anyway, and loom orders an exchange better.
        let head = control.page.u32(control.offset.wrapping_add(head))?;
        head.swap(port.0, SeqCst);
        let ready = 1u32.wrapping_shl(queue.priority);
        // The head is written before the ready bit, because a guest that sees the bit reads the head.
        let before = control.page.u32(control.offset)?.fetch_or(ready, SeqCst);
        if before & ready != 0 {
            None
        } else {
            self.upcall(queue.vcpu)
        }
    }

    /// Sets the control block of `vcpu`.
    pub fn set_control(&mut self, vcpu: VcpuId, page: P, offset: usize) -> Result<(), EventError> {
        let own = self
            .vcpus
            .get_mut(vcpu.0 as usize)
            .ok_or(EventError::NoVcpu)?;
        if own.control.is_some() {
            return Err(EventError::BadArgument);
        }
        own.control = Some(Control {
            page,
            offset,
            tails: [0; QUEUES],
        });
        Ok(())
    }

    /// Before the switch to FIFO: records whether `port` is pending.
    pub fn note_early(&self, port: Port, channel: &Channel<P>) {
        channel.early.store(self.is_pending(port, channel), SeqCst);
    }

    pub fn enter_fifo(&mut self) {
        self.fifo = Some(Vec::new());
        self.note_abi();
    }

    /// Adds a page of event words; returns the first port on it.
    pub fn add_array_page(&mut self, page: P) -> Result<Port, EventError> {
        let pages = self.fifo.as_mut().ok_or(EventError::TwoLevel)?;
        if pages.len() >= fifo::MAX_PAGES {
            return Err(EventError::NoSpace);
        }
        pages.try_reserve(1).map_err(|_| EventError::NoMemory)?;
        let first = Port((pages.len() as u32).wrapping_mul(fifo::WORDS_PER_PAGE));
        pages.push(page);
        Ok(first)
    }

    /// Clears the record that the port became pending before it had an event word; returns whether it had.
    pub fn take_early(&self, channel: &Channel<P>) -> bool {
        channel.early.swap(false, SeqCst)
    }

    /// Returns to the 2-level ABI and releases the guest's FIFO pages.
    pub fn leave_fifo(&mut self) {
        self.fifo = None;
        self.note_abi();
        for vcpu in &mut self.vcpus {
            vcpu.control = None;
        }
    }

    /// Moves the vcpu_info of `vcpu` and sets all its selector bits.
    pub fn move_info(
        &mut self,
        vcpu: VcpuId,
        page: P,
        offset: usize,
    ) -> Result<Option<VcpuId>, EventError> {
        let own = self.vcpus.get(vcpu.0 as usize).ok_or(EventError::NoVcpu)?;
        if matches!(own.info, Info::Registered(..)) {
            return Err(EventError::BadArgument);
        }
        if !offset.is_multiple_of(self.places.info_alignment()) {
            return Err(EventError::BadArgument);
        }
        for at in (0..INFO_BYTES).step_by(4) {
            let to = page
                .u32(offset.wrapping_add(at))
                .ok_or(EventError::BadArgument)?;
            let from = self
                .info(vcpu)
                .and_then(|(old, base)| old.u32(base.wrapping_add(at)));
            to.store(from.map_or(0, |word| word.load(SeqCst)), SeqCst);
        }
        self.places
            .select_all(&page, offset)
            .ok_or(EventError::BadArgument)?;
        if let Some(own) = self.vcpus.get_mut(vcpu.0 as usize) {
            own.info = Info::Registered(page, offset);
        }
        Ok(self.upcall(vcpu))
    }

    /// All pages that it holds, for the audit.
    #[cfg(feature = "audit")]
    pub fn pages(&self) -> impl Iterator<Item = &P> {
        let of_vcpus = self.vcpus.iter().flat_map(|vcpu| {
            let info = match &vcpu.info {
                Info::Registered(page, _) => Some(page),
                Info::None | Info::Shared(_) => None,
            };
            info.into_iter()
                .chain(vcpu.control.as_ref().map(|control| &control.page))
        });
        let words = self.fifo.iter().flatten();
        core::iter::once(&self.shared).chain(of_vcpus).chain(words)
    }

    /// Releases the pages of vcpu_infos that the guest registered.
    pub fn forget_infos(&mut self) {
        for vcpu in &mut self.vcpus {
            if matches!(vcpu.info, Info::Registered(..)) {
                vcpu.info = Info::None;
            }
        }
    }
}
