//! CPU pools. Each domain is in one pool and runs only on the pool's CPUs. Pool 0 always exists and has all
//! CPUs at first. A CPU that is in no pool runs no vCPU.
//!
//! Pools change only in control calls, one at a time, so no domain is created or moved meanwhile.

use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::arch::work;
use crate::domain::notify::SCHED;
use crate::domain::{Domain, registry};
use crate::kit::{CpuId, CpuSet, DomId, Lock, MAX_CPUS, Rank};

/// The number of the pool that always exists.
pub const FIRST: u32 = 0;

/// The CPUs of each pool, by the pool's number.
static POOLS: Lock<[Option<CpuSet>; MAX_CPUS]> = Lock::new(Rank::Pools, {
    let mut pools = [None; MAX_CPUS];
    let [first, ..] = &mut pools;
    *first = Some(CpuSet::ALL);
    pools
});

/// Why a pool was not changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused {
    /// There is no such pool.
    NoSuchPool,
    /// There already is a pool with this number.
    Exists,
    /// There is no free number.
    TooMany,
    /// There is no such CPU.
    NoSuchCpu,
    /// The CPU is in another pool, or in none.
    NotThere,
    /// A domain would be left without a CPU or without a pool.
    Used,
}

/// Returns the CPUs of a pool, if the pool exists. Only those that are online run vCPUs.
pub fn cpus(pool: u32) -> Option<CpuSet> {
    let pools = POOLS.lock();
    pools.get(pool as usize).copied().flatten()
}

/// Returns the first pool whose number is at least `from`.
pub fn next(from: u32) -> Option<u32> {
    (from..MAX_CPUS as u32).find(|&pool| cpus(pool).is_some())
}

/// Returns the CPUs that are in no pool.
pub fn free_cpus() -> CpuSet {
    let pools = POOLS.lock();
    let taken = pools.iter().flatten();
    taken.fold(SCHED.present(), |free, &cpus| free.without(cpus))
}

/// Returns the domains in a pool.
pub fn domains(pool: u32) -> Vec<Arc<Domain>> {
    let mut domains = registry::from(DomId(0));
    domains.retain(|dom| dom.share.pool() == pool);
    domains
}

fn store(pool: u32, cpus: Option<CpuSet>) {
    if let Some(place) = POOLS.lock().get_mut(pool as usize) {
        *place = cpus;
    }
}

/// Sets the CPUs of a pool, and makes all CPUs call the scheduler.
fn set_cpus(pool: u32, cpus: CpuSet) {
    store(pool, Some(cpus));
    for dom in domains(pool) {
        dom.share.set_pool(pool, cpus);
    }
    ask_all();
}

fn ask_all() {
    for cpu in SCHED.present().iter() {
        work::raise(cpu, work::SCHEDULE);
    }
}

/// Creates a pool without CPUs, with the number `wanted` or the first free one. Returns its number.
///
/// # Errors
/// See [`Refused`].
pub fn create(wanted: Option<u32>) -> Result<u32, Refused> {
    let mut free = (0..MAX_CPUS as u32).filter(|&pool| cpus(pool).is_none());
    let pool = match wanted {
        Some(pool) if cpus(pool).is_some() => return Err(Refused::Exists),
        Some(pool) if pool >= MAX_CPUS as u32 => return Err(Refused::TooMany),
        Some(pool) => pool,
        None => free.next().ok_or(Refused::TooMany)?,
    };
    store(pool, Some(CpuSet::EMPTY));
    Ok(pool)
}

/// Destroys a pool that has neither domains nor CPUs.
///
/// # Errors
/// See [`Refused`].
pub fn destroy(pool: u32) -> Result<(), Refused> {
    let cpus = cpus(pool).ok_or(Refused::NoSuchPool)?;
    if pool == FIRST || !cpus.is_empty() || !domains(pool).is_empty() {
        return Err(Refused::Used);
    }
    store(pool, None);
    Ok(())
}

/// Returns the CPU with the number `wanted`, or else `any`.
fn one_of(wanted: Option<u32>, any: Option<CpuId>) -> Result<CpuId, Refused> {
    let cpu = match wanted {
        Some(number) => SCHED.present().find(number),
        None => any,
    };
    cpu.ok_or(Refused::NoSuchCpu)
}

/// Adds a CPU that is in no pool to this one: the CPU `wanted`, or any.
///
/// # Errors
/// See [`Refused`].
pub fn add_cpu(pool: u32, wanted: Option<u32>) -> Result<(), Refused> {
    let free = free_cpus();
    let cpu = one_of(wanted, free.first())?;
    if !free.contains(cpu) {
        return Err(Refused::NotThere);
    }
    let cpus = cpus(pool).ok_or(Refused::NoSuchPool)?;
    set_cpus(pool, cpus.or(CpuSet::one(cpu)));
    Ok(())
}

/// Removes a CPU from a pool: the CPU `wanted`, or any. A pool with domains must keep a CPU that is online.
///
/// # Errors
/// See [`Refused`].
pub fn remove_cpu(pool: u32, wanted: Option<u32>) -> Result<(), Refused> {
    let cpus = cpus(pool).ok_or(Refused::NoSuchPool)?;
    let last = cpus.and(SCHED.present()).iter().last();
    let cpu = one_of(wanted, last)?;
    if !cpus.contains(cpu) {
        return Err(Refused::NotThere);
    }
    let rest = cpus.without(CpuSet::one(cpu));
    if rest.and(SCHED.online()).is_empty() && !domains(pool).is_empty() {
        return Err(Refused::Used);
    }
    set_cpus(pool, rest);
    Ok(())
}

/// Moves a domain to a pool that has an online CPU.
///
/// # Errors
/// See [`Refused`].
pub fn move_domain(dom: &Domain, pool: u32) -> Result<(), Refused> {
    if dom.share.pool() == pool {
        return Ok(());
    }
    let has_cpu = |cpus: &CpuSet| !cpus.and(SCHED.online()).is_empty();
    let cpus = cpus(pool).filter(has_cpu).ok_or(Refused::NoSuchPool)?;
    dom.share.set_pool(pool, cpus);
    ask_all();
    Ok(())
}
