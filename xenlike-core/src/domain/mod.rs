//! Domains and vCPUs: their state, and how they are looked up, woken and told the time.
//!
//! A [`Domain`] owns its part of each service (`pages`, `events`, `grants`); the rules of these services are in
//! their own rooms (ADR 4). Any CPU may hold a counted reference to a domain, whose memory is freed when the
//! last reference is dropped. A vCPU's registers and other state that only one CPU may touch at a time are in
//! [`VcpuState`] (ADR 5).
#![cfg_attr(
    not(test),
    warn(
        clippy::indexing_slicing,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::arithmetic_side_effects
    )
)]

mod ctx;
pub mod debug;
pub mod gate;
pub mod grant_machine;
pub mod info;
mod kind;
pub mod notify;
pub mod page;
pub mod pirq;
pub mod registry;
pub mod runstate;
pub mod shutdown;
pub mod time;
pub mod vcpu;
pub mod watchdog;

use crate::kit::atomic::{AtomicBool, AtomicU16, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use guest_pv_abi::Width;
use guest_pv_abi::memory::E820Entry;

pub use ctx::Ctx;
pub use kind::Kind;
pub use registry::lookup;
pub use vcpu::{Vcpu, VcpuState};

use crate::cpuid::Policy;
use crate::event;
use crate::grant;
use crate::kit::rangeset::RangeSet;
use crate::kit::{Bounded, DomId, Gfn, Lock, Mfn, Once, PAGE_SHIFT, Rank, VcpuId};
use crate::mm::directmap::SharedPage;
use crate::pagetype::{DomainPages, Work, machine};
use crate::ports::Ports;
use crate::pv::state::area::Area;
use crate::sched::share::Share;
use page::HeldPage;
use pirq::EoiPage;
use shutdown::Shutdown;
use watchdog::Watchdogs;

/// The privileges of a domain.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rights {
    /// None: an ordinary guest.
    None,
    /// Domain 0: it may make control hypercalls and drive devices.
    Control,
    /// The boot domain: it may make control hypercalls, and once the private hypercall that makes it domain 0.
    Boot,
}

/// The stages of a domain's life. A domain only moves forward through them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Life {
    /// Alive; it may be paused or shut down.
    Alive = 0,
    /// Its destruction has begun and continues in steps.
    Dying = 1,
    /// Destroyed; only frames that other domains still map are left.
    Dead = 2,
}

/// The hardware of the machine that a domain may access. Its memory of devices is in [`DomainPages::io_memory`].
#[derive(Default)]
pub struct IoRights {
    /// I/O ports that the domain may access.
    pub ports: RangeSet,
    /// Physical interrupts that the domain may bind.
    pub irqs: RangeSet,
}

/// A domain: all that its vCPUs share.
pub struct Domain {
    id: AtomicU16,
    /// A serial number that no other domain ever has, because ids are reused.
    pub serial: u64,
    /// The privileges, as a number of [`Rights`].
    rights: AtomicU32,
    life: AtomicU32,
    /// The frames that the domain owns.
    pub pages: Arc<DomainPages>,
    /// The event channels and how their events are delivered.
    pub events: Arc<event::Table<HeldPage>>,
    /// The frames that the domain grants to others, and what it maps of theirs.
    pub grants: Arc<grant::Table<HeldPage>>,
    /// The vCPUs. Empty until XEN_DOMCTL_max_vcpus creates them.
    pub vcpus: Once<Box<[Arc<Vcpu>]>>,
    /// Another CPU is creating the vCPUs; destruction waits until it is done.
    pub are_vcpus_in_making: AtomicBool,
    /// The number of vCPUs that the domain may have.
    pub max_vcpus: u32,
    /// The page of `struct shared_info`, which the guest maps.
    pub shared: SharedPage,
    /// The tables of the per-domain area (L4 slot 260).
    pub area: Area,
    /// The domain's share of CPU time.
    pub share: Arc<Share>,
    /// The CPUID and MSR policy that the vCPUs see.
    pub cpuid: Lock<Policy>,
    /// The hardware that the domain may access.
    pub io_rights: Lock<IoRights>,
    /// The ports of the PC that the core emulates for the domain.
    pub pc_ports: Lock<Ports>,
    /// How the domain learns which interrupts need an EOI.
    pub eoi: Lock<EoiPage>,
    /// The memory map (E820) that the domain sees (XENMEM_set_memory_map).
    pub memory_map: Lock<Vec<E820Entry>>,
    /// The UUID that the toolstack has assigned (`xen_domain_handle_t`).
    pub handle: Lock<[u8; 16]>,
    /// The value of the last XEN_DOMCTL_setdebugging; only XEN_DOMCTL_getdomaininfo reports it.
    pub is_debugged: AtomicBool,
    /// The domain was created with XEN_DOMCTL_CDF_xs_domain: it runs Xenstore.
    pub is_xenstore: bool,
    /// `arch.misc_flags` of XEN_DOMCTL_createdomain.
    pub misc_flags: u32,
    /// XEN_CPUID_TSC_MODE_*, as the toolstack has set it.
    pub tsc_mode: AtomicU32,
    /// Set once the domain has been given a physical interrupt; until then it never takes the
    /// lock of [`pirq::book_of`].
    pub has_interrupts: AtomicBool,
    /// The enabled vm_assist bits (`VMASST_TYPE_*`).
    pub assist: AtomicU64,
    /// Whether the domain has shut down, and why.
    pub shutdown: Lock<Shutdown>,
    /// The number of pauses by the toolstack. Each adds one hold to every vCPU.
    pub toolstack_pauses: AtomicU32,
    /// State that the domain's destruction keeps between two steps.
    pub teardown: Lock<Work>,
    /// The number of completed steps of the domain's destruction.
    pub teardown_steps: AtomicUsize,
    /// The timers of SCHEDOP_watchdog.
    pub watchdogs: Watchdogs,
    /// Seconds to add to the machine's wall clock (XEN_DOMCTL_settimeoffset), in two's complement.
    pub time_offset_s: AtomicU64,
}

/// The parts from which [`Domain::new`] makes a domain.
pub struct Parts {
    /// The id under which the domain will be listed.
    pub id: DomId,
    /// The privileges that the domain begins with.
    pub rights: Rights,
    /// The frames of the domain, none at first.
    pub pages: Arc<DomainPages>,
    /// The domain's event channels.
    pub events: Arc<event::Table<HeldPage>>,
    /// The domain's grant table.
    pub grants: Arc<grant::Table<HeldPage>>,
    /// The number of vCPUs that the domain may have.
    pub max_vcpus: u32,
    /// The shared_info page, which the domain may map (`share` in `pagetype`).
    pub shared: SharedPage,
    /// The tables of its per-domain area.
    pub area: Area,
    /// Its CPUID and MSR policy.
    pub cpuid: Policy,
    /// The UUID that the toolstack has assigned.
    pub handle: [u8; 16],
    /// Whether it runs Xenstore.
    pub is_xenstore: bool,
    /// `arch.misc_flags` of XEN_DOMCTL_createdomain.
    pub misc_flags: u32,
}

impl Domain {
    /// Makes a living domain without vCPUs, paused once by the toolstack.
    #[inline(always)] // built in place, not copied
    pub fn new(parts: Parts) -> Self {
        static SERIALS: AtomicU64 = AtomicU64::new(1);
        Self {
            id: AtomicU16::new(parts.id.0),
            serial: SERIALS.fetch_add(1, Ordering::Relaxed),
            rights: AtomicU32::new(parts.rights as u32),
            life: AtomicU32::new(Life::Alive as u32),
            pages: parts.pages,
            events: parts.events,
            grants: parts.grants,
            vcpus: Once::new(),
            are_vcpus_in_making: AtomicBool::new(false),
            max_vcpus: parts.max_vcpus,
            shared: parts.shared,
            area: parts.area,
            share: Arc::new(Share::new()),
            cpuid: Lock::new(Rank::Policy, parts.cpuid),
            io_rights: Lock::new(Rank::Settings, IoRights::default()),
            pc_ports: Lock::new(Rank::Settings, Ports::default()),
            eoi: Lock::new(Rank::Settings, EoiPage::default()),
            memory_map: Lock::new(Rank::Settings, Vec::new()),
            handle: Lock::new(Rank::Settings, parts.handle),
            is_debugged: AtomicBool::new(false),
            is_xenstore: parts.is_xenstore,
            misc_flags: parts.misc_flags,
            tsc_mode: AtomicU32::new(0),
            has_interrupts: AtomicBool::new(false),
            assist: AtomicU64::new(0),
            shutdown: Lock::new(Rank::Shutdown, Shutdown::default()),
            toolstack_pauses: AtomicU32::new(1),
            teardown: Lock::new(Rank::Teardown, Work::new()),
            teardown_steps: AtomicUsize::new(0),
            watchdogs: Watchdogs::new(parts.id),
            time_offset_s: AtomicU64::new(0),
        }
    }

    /// Returns the domain's id, which changes only once, when the boot domain becomes domain 0.
    pub fn id(&self) -> DomId {
        DomId(self.id.load(Ordering::Acquire))
    }

    /// The machine frame that the guest calls `gfn`. A PV guest knows its frames by the machine's numbers; whether
    /// this one is its own, is for whoever takes a reference to find out.
    pub const fn resolve(&self, gfn: Gfn) -> Option<Mfn> {
        Some(Mfn(gfn.0))
    }

    /// Sets the width of the domain's kernel.
    ///
    /// # Errors
    /// [`TooLate`] if the domain has memory already, or if its shared_info page is out of a narrow guest's reach.
    pub fn set_width(&self, width: Width) -> Result<(), TooLate> {
        if self.pages.width() == width {
            return Ok(());
        }
        let reach = Mfn(1 << (32 - PAGE_SHIFT));
        let in_reach = width == Width::Wide || self.shared.mfn() < reach;
        if !in_reach {
            return Err(TooLate);
        }
        machine()
            .set_width(&self.pages, width)
            .map_err(|_| TooLate)?;
        self.events.set_width(width);
        Ok(())
    }

    /// Changes the id. Only [`registry::rename`] may call this.
    fn set_id(&self, id: DomId) {
        self.id.store(id.0, Ordering::Release);
        self.events.rename(id);
        self.grants.rename(id);
    }

    /// Grows the grant table to `frames` frames.
    ///
    /// # Errors
    /// If `frames` exceeds the table's limit, or if there is no memory.
    pub fn grow_grants(&self, frames: u32) -> Result<(), grant::GrantError> {
        self.grants
            .grow(frames, || HeldPage::new_shared(&self.pages))
    }

    /// Changes the version of the grant table.
    ///
    /// # Errors
    /// See [`grant::Refused`].
    pub fn set_grant_version(&self, version: grant::Version) -> Result<(), grant::Refused> {
        let new_page = || HeldPage::new_shared(&self.pages);
        self.grants
            .set_version(version, new_page, HeldPage::is_used_elsewhere)
    }

    /// Returns vCPU `id`, or `None` if it doesn't exist.
    pub fn vcpu(&self, id: VcpuId) -> Option<&Arc<Vcpu>> {
        self.vcpus().bounded(id.0 as usize)
    }

    /// Returns all vCPUs; an empty slice until the toolstack has created them.
    pub fn vcpus(&self) -> &[Arc<Vcpu>] {
        self.vcpus.get().map_or(&[], |v| v)
    }

    /// Returns the domain's privileges.
    pub fn rights(&self) -> Rights {
        match self.rights.load(Ordering::Acquire) {
            1 => Rights::Control,
            2 => Rights::Boot,
            _ => Rights::None,
        }
    }

    /// Sets the domain's privileges.
    pub fn set_rights(&self, rights: Rights) {
        self.rights.store(rights as u32, Ordering::Release);
    }

    /// Whether the domain may make control hypercalls.
    pub fn is_control(&self) -> bool {
        self.rights() != Rights::None
    }

    /// Returns the stage of the domain's life.
    pub fn life(&self) -> Life {
        match self.life.load(Ordering::SeqCst) {
            0 => Life::Alive,
            1 => Life::Dying,
            _ => Life::Dead,
        }
    }

    /// Moves the domain from one stage of its life to the next; true for the caller whose compare-exchange won.
    ///
    /// Accesses to the stage are sequentially consistent, so that this pattern is safe: one CPU advances the
    /// stage and then reads a word, and another CPU stores that word and then reads the stage. At least one of
    /// them sees what the other has done.
    pub fn advance_life(&self, from: Life, to: Life) -> bool {
        self.life
            .compare_exchange(from as u32, to as u32, Ordering::SeqCst, Ordering::SeqCst)
            .is_ok()
    }

    /// Returns the shared_info page, or `None` if the domain is dead. A freed frame is not used for anything
    /// else before this CPU has flushed its TLB, so the returned page stays valid until then.
    pub fn shared_info(&self) -> Option<SharedPage> {
        (self.life() != Life::Dead).then_some(self.shared)
    }

    /// Whether bit `bit` of vm_assist is enabled (xen.h, `VMASST_TYPE_*`).
    pub fn assists(&self, bit: u32) -> bool {
        self.assist.load(Ordering::Relaxed) >> bit & 1 != 0
    }
}

/// The width of a domain's kernel can't be changed any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLate;

/// Why a vcpu_info could not be registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RegisterError {
    /// The frame is not the domain's, or it may not be written.
    BadFrame,
    /// The structure would cross the end of its page, or it is misaligned.
    BadOffset,
    /// The vCPU has registered one already.
    Registered,
}

/// Moves a vCPU's vcpu_info to byte `at` of the domain's frame `mfn` (VCPUOP_register_vcpu_info). The contents
/// of the old place are copied, and all events are marked as pending, so that none is lost.
pub fn register_info(dom: &Domain, vcpu: &Vcpu, gfn: Gfn, at: usize) -> Result<(), RegisterError> {
    let page = HeldPage::of_guest(dom, gfn).ok_or(RegisterError::BadFrame)?;
    let place =
        info::Place::new(page.page(), at, dom.pages.width()).ok_or(RegisterError::BadOffset)?;
    let notice = dom
        .events
        .register_info(vcpu.id, page, at)
        .map_err(|_| RegisterError::Registered)?;
    vcpu.info.relocate(place);
    notify::act_in(dom, notice);
    Ok(())
}
