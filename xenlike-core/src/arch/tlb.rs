//! TLB flushes: which translations may still be cached, and how to remove them.
//!
//! *The flush clock.* A frame that loses its last mapping gets a [`Stamp`]. Before the frame is put to a new use, each
//! CPU must have flushed after that stamp. Each CPU records the clock whenever it flushes everything, so most stamps
//! are old by the time they are checked, and no interrupts have to be sent. The clock only advances at a flush that
//! follows a stamp: its lowest bit says that the current tick was given out as a stamp. So neither stamping a frame nor
//! switching address spaces normally writes a shared cache line.
//!
//! *Tenants.* A CR3 load drops all translations of the previous tables, as the core uses neither PCIDs nor global pages
//! for guests. A CPU that leaves a vCPU switches to the core's own tables, which map no guest memory. So a CPU caches
//! translations of the tables of one domain at most, its [`Tenant`]. It records the tenant before it loads the domain's
//! tables, and records that there is none after it has loaded the core's. So code that changes a page-table entry by an
//! atomic read-modify-write, and then reads the tenants, finds every CPU that may still use the old entry. Flushes are
//! sent to those CPUs alone.
//!
//! *Shoot-down.* A CPU that needs others to flush increments their request counters and sends an interrupt. The core
//! runs with interrupts off, so a CPU that waits for a lock or for another CPU polls its own request counter meanwhile
//! ([`answer`], which is the waiting step of the locks).

use crate::kit::atomic::{AtomicU64, Ordering};

use super::{cr, percpu};
use crate::kit::cell::PerCpu;
use crate::kit::{CpuId, CpuSet, MAX_CPUS, Vaddr, lock};

/// A moment of the flush clock: the low half of a tick number.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stamp(pub u32);

/// A tick of the flush clock: the clock's value while the tick has not been given out as a stamp.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Tick(pub u64);

/// Twice the tick number, plus one if the tick was given out as a stamp.
static CLOCK: AtomicU64 = AtomicU64::new(2);

/// The flush state of a CPU, on a cache line of its own.
#[repr(align(64))]
struct Flushes {
    /// How many flushes other CPUs have requested of this one, and how many of them it has done.
    asked: AtomicU64,
    done: AtomicU64,
    /// The [`Tenant`] of the CPU.
    tenant: AtomicU64,
}
static FLUSHES: PerCpu<Flushes> = PerCpu::new(
    [const {
        Flushes {
            asked: AtomicU64::new(0),
            done: AtomicU64::new(0),
            tenant: AtomicU64::new(Tenant::NONE.0),
        }
    }; MAX_CPUS],
);

/// The domain whose tables a CPU has loaded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tenant(u64);

/// The owners of the frames that a tenant's tables may map, apart from grants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reach {
    /// Only the tenant's own frames.
    Own,
    /// The frames of any domain.
    All,
}

impl Tenant {
    /// No domain: the core's own tables are loaded.
    pub const NONE: Self = Self(0);
    const THERE: u64 = 1 << 63;
    const REACHES_ALL: u64 = 1 << 62;

    /// The domain with this number, which is never reused; 0 stands for a domain that is not known.
    pub const fn new(number: u32, reach: Reach) -> Self {
        let all = match reach {
            Reach::Own => 0,
            Reach::All => Self::REACHES_ALL,
        };
        Self(Self::THERE | all | number as u64)
    }

    /// Whether the tables may be those of domain `number`.
    const fn is(self, number: u32) -> bool {
        self.0 & Self::THERE != 0 && (self.0 as u32 == number || self.0 as u32 == 0 || number == 0)
    }

    /// Whether the tables may have mapped a frame of domain `number`, other than by a grant.
    const fn may_map(self, number: u32) -> bool {
        self.is(number) || self.0 & Self::REACHES_ALL != 0
    }
}

/// Records the tenant of this CPU: before loading its tables, or for [`Tenant::NONE`] after loading the core's.
#[inline]
pub fn set_tenant(tenant: Tenant) {
    set_tenant_of(percpu::this_cpu(), tenant);
}

#[inline]
fn set_tenant_of(cpu: CpuId, tenant: Tenant) {
    // A CR3 load lies between this store and the walks of the new tables. It serialises (SDM vol. 3, Serializing
    // Instructions), so a CPU that changes an entry that this CPU has already read sees the tenant.
    FLUSHES.of(cpu).tenant.store(tenant.0, Ordering::Release);
}

/// The CPUs of `cpus` with a tenant for which `holds` returns true.
fn tenants(cpus: CpuSet, holds: impl Fn(Tenant) -> bool) -> CpuSet {
    let tenant = |cpu: &CpuId| Tenant(FLUSHES.of(*cpu).tenant.load(Ordering::SeqCst));
    cpus.iter()
        .filter(|cpu| holds(tenant(cpu)))
        .fold(CpuSet::EMPTY, CpuSet::with)
}

/// The CPUs of `cpus` whose tenant may have mapped a frame of domain `owner`, other than by a grant.
pub fn holders(cpus: CpuSet, owner: u32) -> CpuSet {
    tenants(cpus, |tenant| tenant.may_map(owner))
}

/// How many flushes others have requested of `cpu`.
pub fn times_asked(cpu: CpuId) -> u64 {
    FLUSHES.of(cpu).asked.load(Ordering::Relaxed)
}

/// The stamp for a frame that loses its last mapping now. The caller has removed the page-table entry, and has done an
/// atomic read-modify-write (on the frame's count) since.
#[inline]
pub fn now() -> Stamp {
    // Read before it is written, because the line is shared and usually has the bit already.
    let mut clock = CLOCK.load(Ordering::SeqCst);
    if clock & 1 == 0 {
        clock = CLOCK.fetch_or(1, Ordering::SeqCst);
    }
    Stamp((clock >> 1) as u32)
}

/// Call before a full flush of this CPU; pass the result to [`flush_done`].
#[inline]
pub fn flush_begins() -> Tick {
    // Read before the flush: a stamp that is given out during the flush must not count as flushed.
    let clock = CLOCK.load(Ordering::SeqCst);
    if clock & 1 == 0 {
        return Tick(clock);
    }
    next_tick(clock)
}

/// Advances the clock beyond the tick of `clock`, which was given out as a stamp. The first CPU that flushes
/// after a stamp does this.
#[cold]
fn next_tick(mut clock: u64) -> Tick {
    while clock & 1 != 0 {
        let next = clock.wrapping_add(1);
        match CLOCK.compare_exchange(clock, next, Ordering::SeqCst, Ordering::SeqCst) {
            Ok(_) => return Tick(next),
            Err(now) => clock = now,
        }
    }
    Tick(clock)
}

/// Records a full flush of this CPU that began at `tick`.
#[inline]
pub fn flush_done(tick: Tick) {
    percpu::info().flushed.store(tick.0, Ordering::Release);
}

/// The latest tick that `stamp` can stand for. Stamps have half the bits of ticks, so a very old stamp looks younger,
/// which costs a needless flush at most.
pub fn tick_of(stamp: Stamp) -> Tick {
    let clock = CLOCK.load(Ordering::SeqCst) >> 1;
    let age = (clock as u32).wrapping_sub(stamp.0);
    Tick(clock.wrapping_sub(u64::from(age)) << 1)
}

/// Drops all cached translations of this CPU.
#[inline]
#[expect(unsafe_code, reason = "reloads CR3")]
pub fn flush_local() {
    let tick = flush_begins();
    // SAFETY: loads the same tables again.
    unsafe { cr::write_cr3(cr::read_cr3()) };
    flush_done(tick);
}

/// Drops this CPU's cached translation of one page in the current address space.
#[cfg(target_os = "none")]
#[inline]
#[expect(unsafe_code, reason = "invlpg")]
pub fn invlpg_local(at: Vaddr) {
    // SAFETY: only drops a cached translation; the tables stay as they are.
    unsafe { core::arch::asm!("invlpg [{}]", in(reg) at.0, options(nostack, preserves_flags)) };
}

/// Does nothing: the host caches no translations of the core's tables.
#[cfg(not(target_os = "none"))]
pub fn invlpg_local(_at: Vaddr) {}

/// Makes sure that every CPU has flushed after `stamp` that may have cached a translation, older than the stamp, of a
/// frame of domain `owner`. Calls `owner` only if some other CPU has not flushed.
#[inline]
pub fn flush_stale(stamp: Stamp, owner: impl FnOnce() -> u32) {
    let stale = stale_cpus(stamp);
    if stale == CpuSet::one(percpu::this_cpu()) {
        // Cheaper than a call of `owner` and a look at the tenant.
        flush_local();
    } else if !stale.is_empty() {
        flush_stale_others(stale, owner());
    }
}

#[inline(never)] // keeps its stack frame off the path for one CPU
fn flush_stale_others(stale: CpuSet, owner: u32) {
    flush_cpus(holders(stale, owner));
}

/// Drops all translations of domain `number`'s tables, on whichever CPU they are cached.
#[inline]
pub fn flush_domain(number: u32) {
    flush_cpus(tenants(percpu::online(), |tenant| tenant.is(number)));
}

/// The online CPUs that have not flushed since `stamp`.
pub fn stale_cpus(stamp: Stamp) -> CpuSet {
    let tick = tick_of(stamp).0;
    let stale = |cpu: &CpuId| {
        // A CPU without a block has never run, so it has cached nothing.
        percpu::flushed_of(*cpu).is_some_and(|flushed| flushed.load(Ordering::SeqCst) <= tick)
    };
    percpu::online()
        .iter()
        .filter(stale)
        .fold(CpuSet::EMPTY, CpuSet::with)
}

/// Drops all cached translations on these CPUs; returns when that is done.
#[inline]
pub fn flush_cpus(cpus: CpuSet) {
    if cpus == CpuSet::one(percpu::this_cpu()) {
        flush_local();
    } else {
        flush_others(cpus);
    }
}

/// The part of [`flush_cpus`] for sets that contain other CPUs.
#[inline(never)] // keeps its stack frame off the path for one CPU
fn flush_others(cpus: CpuSet) {
    let me = percpu::this_cpu();
    let others = cpus.and(percpu::online()).without(CpuSet::one(me));
    // All CPUs are asked before any is waited for, so that they flush at the same time. A later request includes an
    // earlier one.
    let mut until = [0_u64; MAX_CPUS];
    for (cpu, slot) in others.iter().map(|cpu| (cpu, cpu.index())) {
        until[slot % MAX_CPUS] = FLUSHES.of(cpu).asked.fetch_add(1, Ordering::SeqCst) + 1;
        super::ipi::send(cpu, super::ipi::Vector::TlbFlush);
    }
    if cpus.contains(me) {
        flush_local();
    }
    for cpu in others.iter() {
        while FLUSHES.of(cpu).done.load(Ordering::SeqCst) < until[cpu.index() % MAX_CPUS] {
            lock::wait_step();
        }
    }
}

/// Drops the translations of one page of an address space on these CPUs. Other CPUs than this one flush everything.
pub fn invlpg_cpus(cpus: CpuSet, at: Vaddr) {
    let me = percpu::this_cpu();
    if cpus.contains(me) {
        invlpg_local(at);
    }
    let others = cpus.without(CpuSet::one(me));
    if !others.is_empty() {
        flush_cpus(others);
    }
}

/// Does the flushes that other CPUs have requested of this one. Called from their interrupt, and in every waiting step.
pub fn answer() {
    let mine = FLUSHES.of(percpu::this_cpu());
    // Read before the flush: a request that arrives during it needs another one.
    let asked = mine.asked.load(Ordering::SeqCst);
    if mine.done.load(Ordering::Relaxed) != asked {
        flush_local();
        mine.done.store(asked, Ordering::SeqCst);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_flush_makes_older_stamps_harmless() {
        percpu::set_online(percpu::this_cpu());
        let before = now();
        assert!(!stale_cpus(before).is_empty());
        set_tenant(Tenant::new(7, Reach::Own));
        assert!(holders(stale_cpus(before), 8).is_empty());
        assert!(!holders(stale_cpus(before), 7).is_empty());
        flush_stale(before, || 7);
        assert!(stale_cpus(before).is_empty());
        let after = now();
        assert_ne!(before, after);
        assert!(!stale_cpus(after).is_empty());
    }

    #[test]
    fn tenants_hold_what_their_tables_may_map() {
        let (own, all) = (Tenant::new(7, Reach::Own), Tenant::new(8, Reach::All));
        let unknown = Tenant::new(0, Reach::Own);
        assert!(own.is(7) && own.may_map(7) && !own.is(8) && !own.may_map(8));
        assert!(all.is(8) && !all.is(7) && all.may_map(7));
        assert!(unknown.is(7) && unknown.may_map(7));
        assert!(
            own.is(0) && all.may_map(0),
            "any tenant of an unknown owner"
        );
        for number in [0, 7] {
            assert!(!Tenant::NONE.is(number) && !Tenant::NONE.may_map(number));
        }
    }

    #[test]
    fn stamps_of_one_tick_are_equal() {
        let clock = CLOCK.load(Ordering::SeqCst);
        let (a, b) = (now(), now());
        // Another test may flush in between, and then the clock has advanced.
        assert!(a == b || CLOCK.load(Ordering::SeqCst) > clock + 1);
    }
}

#[cfg(all(test, loom))]
mod models {
    use std::sync::Arc;

    use loom::thread;

    use super::{FLUSHES, Reach, Tenant, set_tenant_of, tenants};
    use crate::kit::atomic::model::explore;
    use crate::kit::atomic::{AtomicU32, Ordering, fence};
    use crate::kit::{CpuId, CpuSet};

    const OTHER: CpuId = CpuId(1);
    const DOMAIN: Tenant = Tenant::new(7, Reach::Own);

    /// A page-table entry, and the value of it that the other CPU's TLB has cached.
    struct Machine {
        entry: AtomicU32,
        cached: AtomicU32,
    }

    impl Machine {
        /// Acts as a CR3 load: serialises and empties the TLB.
        fn load_cr3(&self) {
            fence(Ordering::SeqCst);
            self.cached.store(0, Ordering::Relaxed);
        }
        fn walk(&self) {
            let entry = self.entry.load(Ordering::Relaxed);
            self.cached.store(entry, Ordering::Relaxed);
        }
    }

    /// One CPU enters a domain, walks its tables and leaves it, while another removes an entry: either the first CPU is
    /// found, or it has no translation by that entry.
    #[test]
    fn a_cpu_with_a_translation_is_found() {
        explore(4, || {
            let machine = Arc::new(Machine {
                entry: AtomicU32::new(1),
                cached: AtomicU32::new(0),
            });
            machine.entry.load(Ordering::Relaxed);
            machine.cached.load(Ordering::Relaxed);
            FLUSHES.of(OTHER).tenant.load(Ordering::Relaxed);
            let theirs = machine.clone();
            let other = thread::spawn(move || {
                set_tenant_of(OTHER, DOMAIN);
                theirs.load_cr3();
                theirs.walk();
                theirs.walk();
                theirs.load_cr3();
                set_tenant_of(OTHER, Tenant::NONE);
            });
            machine.entry.swap(0, Ordering::SeqCst);
            fence(Ordering::SeqCst); // as the locked instruction is one
            let found = tenants(CpuSet::one(OTHER), |tenant| tenant.is(7));
            let cached = machine.cached.load(Ordering::Relaxed);
            assert!(!found.is_empty() || cached == 0);
            other.join().unwrap();
        });
    }
}
