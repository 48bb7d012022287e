//! Domains and vCPUs: what they hold, how to find them, how they are woken and given time.
//!
//! A [`Domain`] owns one of each service's state (`pages`, `events`, `grants`), whose rules live in
//! those rooms. Any CPU may hold a counted reference to a domain; its memory goes when the last
//! goes. What only one CPU may touch, a vCPU's registers, is in `VcpuState`.
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

use guest_pv_abi::memory::E820Entry;

pub use ctx::Ctx;
pub use kind::Kind;
pub use registry::lookup;
pub use vcpu::{Vcpu, VcpuState};

use crate::kit::{Bounded, CpuSet, DomId, Gfn, Lock, Mfn, Once, Rank, VcpuId};
use crate::arch::tlb;
use crate::cpuid::Policy;
use crate::event;
use crate::grant;
use crate::kit::rangeset::RangeSet;
use crate::mm::directmap::SharedPage;
use crate::pagetype::{DomainPages, Work};
use crate::ports::Ports;
use crate::pv::state::area::Area;
use crate::sched::share::Share;
use page::HeldPage;
use pirq::EoiPage;
use shutdown::Shutdown;
use watchdog::Watchdogs;

/// What a domain may do beyond its own affairs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rights {
    /// A guest.
    None,
    /// Control calls and devices: domain 0.
    Control,
    /// The boot domain: control calls, and once the private hypercall.
    Boot,
}

/// Where a domain is in its life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Life {
    /// Alive, perhaps paused or shut down.
    Alive = 0,
    /// Being taken apart.
    Dying = 1,
    /// Nothing left but frames that others still map.
    Dead = 2,
}

/// What a domain may touch of the machine's hardware.
#[derive(Default)]
pub struct IoRights {
    /// I/O ports that it may access.
    pub ports: RangeSet,
    /// Machine frames outside RAM that it may map.
    pub iomem: RangeSet,
    /// Physical interrupts that it may bind.
    pub irqs: RangeSet,
}

/// A domain.
pub struct Domain {
    id: AtomicU16,
    /// A number that no other domain ever had: ids are used again.
    pub serial: u64,
    /// Rights, as [`Rights`] numbers.
    rights: AtomicU32,
    life: AtomicU32,
    /// Frames it owns.
    pub pages: Arc<DomainPages>,
    /// Event channels.
    pub events: Arc<event::Table<HeldPage>>,
    /// Grant table.
    pub grants: Arc<grant::Table<HeldPage>>,
    /// vCPUs, once XEN_DOMCTL_max_vcpus has made them.
    pub vcpus: Once<Box<[Arc<Vcpu>]>>,
    /// Someone makes them just now: its destruction waits.
    pub are_vcpus_in_making: AtomicBool,
    /// How many vCPUs it may have.
    pub max_vcpus: u32,
    /// shared_info.
    pub shared: SharedPage,
    /// Its per-domain area (L4 slot 260).
    pub area: Area,
    /// Its share of the CPUs.
    pub share: Arc<Share>,
    /// CPUID and MSR policy.
    pub cpuid: Lock<Policy>,
    /// The hardware that it may touch.
    pub io_rights: Lock<IoRights>,
    /// The ports of the PC that the core emulates for it.
    pub pc_ports: Lock<Ports>,
    /// How it learns which interrupts it has to end.
    pub eoi: Lock<EoiPage>,
    /// The memory map (E820) that it is shown, as XENMEM_set_memory_map left it.
    pub memory_map: Lock<Vec<E820Entry>>,
    /// The UUID that the toolstack gave it (xen_domain_handle_t).
    pub handle: Lock<[u8; 16]>,
    /// XEN_DOMCTL_setdebugging's last word; only getdomaininfo reports it.
    pub is_debugged: AtomicBool,
    /// Created with XEN_DOMCTL_CDF_xs_domain: it serves Xenstore.
    pub is_xenstore: bool,
    /// `arch.misc_flags` of its creation.
    pub misc_flags: u32,
    /// XEN_CPUID_TSC_MODE_* as the toolstack set it.
    pub tsc_mode: AtomicU32,
    /// Whether it was ever given a number for a physical interrupt.
    pub has_interrupts: AtomicBool,
    /// vm_assist bits.
    pub assist: AtomicU64,
    /// Shutdown state.
    pub shutdown: Lock<Shutdown>,
    /// The toolstack's pauses; each holds every vCPU once.
    pub toolstack_pauses: AtomicU32,
    /// What its destruction keeps between two steps.
    pub teardown: Lock<Work>,
    /// How many steps of its destruction are done.
    pub teardown_steps: AtomicUsize,
    /// Watchdogs.
    pub watchdogs: Watchdogs,
    /// Seconds and nanoseconds to add to the machine's wall clock (settimeoffset), in s.
    pub time_offset_s: AtomicU64,
}

/// What a domain is put together from.
pub struct Parts {
    /// Its id.
    pub id: DomId,
    /// What it may do.
    pub rights: Rights,
    /// Its frames.
    pub pages: Arc<DomainPages>,
    /// Its event channels.
    pub events: Arc<event::Table<HeldPage>>,
    /// Its grants.
    pub grants: Arc<grant::Table<HeldPage>>,
    /// How many vCPUs it may have.
    pub max_vcpus: u32,
    /// shared_info, shared with it by `pagetype`.
    pub shared: SharedPage,
    /// Its per-domain area.
    pub area: Area,
    /// Its CPUID policy.
    pub cpuid: Policy,
    /// The UUID that the toolstack gave it.
    pub handle: [u8; 16],
    /// Whether it serves Xenstore.
    pub is_xenstore: bool,
    /// `arch.misc_flags` of createdomain.
    pub misc_flags: u32,
}

impl Domain {
    /// A living domain without vCPUs, paused once by the toolstack.
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

    /// Its id. The boot domain's changes once, when it becomes domain 0.
    pub fn id(&self) -> DomId {
        DomId(self.id.load(Ordering::Acquire))
    }

    /// The machine frame that the guest calls `gfn`. A PV guest knows its frames by the machine's numbers; whether
    /// this one is its own, is for whoever takes a reference to find out.
    pub const fn resolve(&self, gfn: Gfn) -> Option<Mfn> {
        Some(Mfn(gfn.0))
    }

    /// For [`registry::rename`] alone.
    fn set_id(&self, id: DomId) {
        self.id.store(id.0, Ordering::Release);
        self.events.rename(id);
        self.grants.rename(id);
    }

    /// Grows its grant table to so many frames.
    ///
    /// # Errors
    /// If that is more than its limit, or there is no memory.
    pub fn grow_grants(&self, frames: u32) -> Result<(), grant::GrantError> {
        self.grants
            .grow(frames, || HeldPage::new_shared(&self.pages))
    }

    /// Gives its grant table another version.
    ///
    /// # Errors
    /// See [`grant::Refused`].
    pub fn set_grant_version(&self, version: grant::Version) -> Result<(), grant::Refused> {
        let new_page = || HeldPage::new_shared(&self.pages);
        self.grants
            .set_version(version, new_page, HeldPage::is_used_elsewhere)
    }

    /// The vCPU `id`, if it exists.
    pub fn vcpu(&self, id: VcpuId) -> Option<&Arc<Vcpu>> {
        self.vcpus().bounded(id.0 as usize)
    }

    /// All vCPUs; none before the toolstack made them.
    pub fn vcpus(&self) -> &[Arc<Vcpu>] {
        self.vcpus.get().map_or(&[], |v| v)
    }

    /// Lets go of the LDT pages of all vCPUs: the mapping of some page of descriptors is gone.
    pub fn drop_ldt_pages(&self) {
        let stale = self.vcpus().iter().filter(|vcpu| vcpu.ldt_pages.drop_all());
        let cpus = stale
            .filter_map(|vcpu| vcpu.cpu())
            .fold(CpuSet::EMPTY, CpuSet::with);
        if !cpus.is_empty() {
            tlb::flush_cpus(cpus);
        }
    }

    /// What it may do.
    pub fn rights(&self) -> Rights {
        match self.rights.load(Ordering::Acquire) {
            1 => Rights::Control,
            2 => Rights::Boot,
            _ => Rights::None,
        }
    }

    /// Sets what it may do.
    pub fn set_rights(&self, rights: Rights) {
        self.rights.store(rights as u32, Ordering::Release);
    }

    /// Whether it may make control hypercalls.
    pub fn is_control(&self) -> bool {
        self.rights() != Rights::None
    }

    /// Where it is in its life.
    pub fn life(&self) -> Life {
        match self.life.load(Ordering::SeqCst) {
            0 => Life::Alive,
            1 => Life::Dying,
            _ => Life::Dead,
        }
    }

    /// Moves it on in its life; true for the one caller that made the step. Of a CPU that moves it on and then looks
    /// at another word, and one that stores that word and then looks here, one at least sees what the other did.
    pub fn advance_life(&self, from: Life, to: Life) -> bool {
        self.life
            .compare_exchange(from as u32, to as u32, Ordering::SeqCst, Ordering::SeqCst)
            .is_ok()
    }

    /// Its shared_info, as long as that is there: not when the domain is dead. A frame that is freed
    /// gets another use only after this CPU has flushed, so what is given stays to be looked at until then.
    pub fn shared_info(&self) -> Option<SharedPage> {
        (self.life() != Life::Dead).then_some(self.shared)
    }

    /// Whether the assist `bit` of vm_assist is on (xen.h VMASST_TYPE_*).
    pub fn assists(&self, bit: u32) -> bool {
        self.assist.load(Ordering::Relaxed) >> bit & 1 != 0
    }
}

/// Why a vcpu_info could not be registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RegisterError {
    /// Not a frame of the domain that may be written.
    BadFrame,
    /// It would leave its page, or is not aligned.
    BadOffset,
    /// The vCPU has registered one before.
    Registered,
}

/// Moves a vCPU's vcpu_info to byte `at` of the domain's frame `mfn` (VCPUOP_register_vcpu_info).
/// What the old place says is carried over, and all is marked pending: nothing is missed.
pub fn register_info(dom: &Domain, vcpu: &Vcpu, gfn: Gfn, at: usize) -> Result<(), RegisterError> {
    let page = HeldPage::of_guest(dom, gfn).ok_or(RegisterError::BadFrame)?;
    let place = info::Place::new(page.page(), at).ok_or(RegisterError::BadOffset)?;
    let notice = dom
        .events
        .register_info(vcpu.id, page, at)
        .map_err(|_| RegisterError::Registered)?;
    vcpu.info.relocate(place);
    notify::act_in(dom, notice);
    Ok(())
}
