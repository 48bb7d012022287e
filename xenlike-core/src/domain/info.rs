//! vcpu_info: the words that a guest and the hypervisor share for each vCPU (xen.h).

use crate::kit::atomic::{AtomicU8, AtomicU64, Ordering};

use guest_pv_abi::Width;

use crate::kit::{AtomicRef, Once};
use crate::mm::directmap::SharedPage;

/// Byte offsets in `struct vcpu_info`.
mod offset {
    use core::mem::offset_of;

    use guest_pv_abi::narrow;
    use guest_pv_abi::xen::VcpuInfo;

    pub const PENDING: usize = offset_of!(VcpuInfo, evtchn_upcall_pending);
    pub const MASK: usize = offset_of!(VcpuInfo, evtchn_upcall_mask);
    pub const CR2: usize = offset_of!(VcpuInfo, arch.cr2);
    pub const NARROW_CR2: usize = offset_of!(narrow::VcpuInfo, arch.cr2);
    pub const TIME: usize = offset_of!(VcpuInfo, time);
    pub const LAST_WORD: usize = size_of::<VcpuInfo>() - size_of::<u32>();
}

/// A place of a vcpu_info, with its words looked up once.
#[derive(Clone, Copy)]
pub struct Place {
    pending: &'static AtomicU8,
    mask: &'static AtomicU8,
    cr2: &'static AtomicU64,
    page: SharedPage,
    at: usize,
}

/// Where a page fault of a narrow guest stores its address as that of a wide one: the path of page faults doesn't ask for
/// the width. Nobody reads it.
static NOWHERE: AtomicU64 = AtomicU64::new(0);

impl Place {
    /// Byte `at` of `page`, which has to stay allocated for as long as the vCPU exists; nothing if the vcpu_info would cross
    /// the page's end, or isn't aligned as one of this width.
    pub fn new(page: SharedPage, at: usize, width: Width) -> Option<Self> {
        page.u32(at.checked_add(offset::LAST_WORD)?)?;
        let cr2 = match width {
            Width::Wide => page.u64(at.checked_add(offset::CR2)?)?,
            Width::Narrow => &NOWHERE,
        };
        Some(Self {
            pending: page.u8(at.checked_add(offset::PENDING)?)?,
            mask: page.u8(at.checked_add(offset::MASK)?)?,
            cr2,
            page,
            at,
        })
    }
}

impl Place {
    /// A vcpu_info on `page`, which belongs to the domain but which no guest sees. For vCPUs from number 32 on,
    /// until they register one of their own. Upcalls stay masked there, so no event is delivered before that.
    pub fn unseen(page: SharedPage) -> Option<Self> {
        page.u8(offset::MASK)?.store(1, Ordering::Relaxed);
        Self::new(page, 0, Width::Wide)
    }
}

/// The present location of a vCPU's vcpu_info. It changes once, when the guest registers one of its own.
pub struct VcpuInfo {
    first: Place,
    registered: Once<Place>,
    /// The words of the present place that every entry into the guest reads.
    pending: AtomicRef<AtomicU8>,
    mask: AtomicRef<AtomicU8>,
    cr2: AtomicRef<AtomicU64>,
}

impl VcpuInfo {
    /// A vcpu_info at `first`, until the guest registers another place.
    pub const fn new(first: Place) -> Self {
        Self {
            pending: AtomicRef::new(first.pending),
            mask: AtomicRef::new(first.mask),
            cr2: AtomicRef::new(first.cr2),
            first,
            registered: Once::new(),
        }
    }

    /// Moves it to `place`. A second move has no effect.
    pub fn relocate(&self, place: Place) {
        let now = self.registered.call_once(|| place);
        self.pending.set(now.pending);
        self.mask.set(now.mask);
        self.cr2.set(now.cr2);
    }

    /// Takes note that the guest is narrow, before its first instruction.
    pub fn set_narrow(&self) {
        let place = self.place();
        if let Some(place) = Place::new(place.page, place.at, Width::Narrow) {
            self.cr2.set(place.cr2);
        }
    }

    fn place(&self) -> &Place {
        self.registered.get().unwrap_or(&self.first)
    }

    /// Returns the direct-map address of `evtchn_upcall_pending`, its first byte, which the exit stub reads.
    pub fn address(&self) -> u64 {
        core::ptr::from_ref(self.upcall_pending()) as u64
    }

    /// `evtchn_upcall_pending`: the core sets it to 1 when an event is pending.
    #[inline]
    pub fn upcall_pending(&self) -> &'static AtomicU8 {
        self.pending.get()
    }

    /// `evtchn_upcall_mask`: while it isn't 0, no upcall is delivered.
    #[inline]
    pub fn upcall_mask(&self) -> &'static AtomicU8 {
        self.mask.get()
    }

    /// Whether an upcall is due: an event is pending and upcalls are not masked.
    pub fn wants_upcall(&self) -> bool {
        self.upcall_pending().load(Ordering::SeqCst) != 0
            && self.upcall_mask().load(Ordering::Relaxed) == 0
    }

    /// Stores arch.cr2, the address of a page fault that is injected, for a wide guest.
    #[inline]
    pub fn set_cr2(&self, cr2: u64) {
        self.cr2.get().store(cr2, Ordering::Relaxed);
    }

    /// The same for a narrow guest.
    pub fn set_narrow_cr2(&self, cr2: u32) {
        let place = self.place();
        let at = place.at.wrapping_add(offset::NARROW_CR2);
        if let Some(word) = place.page.u32(at) {
            word.store(cr2, Ordering::Relaxed);
        }
    }

    /// Returns the page and the byte offset of `struct vcpu_time_info`.
    pub fn time(&self) -> (SharedPage, usize) {
        let place = self.place();
        (place.page, place.at.wrapping_add(offset::TIME))
    }
}
