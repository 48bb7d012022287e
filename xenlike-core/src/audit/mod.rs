//! The audit of test builds: all CPUs stand still, and one of them recounts from every root what the services have
//! recorded. A message on the console describes the first disagreement.
//!
//! A test requests it by the debug key `a`, a guest by a hypercall ([`ask`]). Either only raises work; the recount
//! takes place on the way out of ring 0 ([`stand`]), where nothing is half-done. A *partial* table, a half destroyed
//! domain and the [`crate::pagetype::Work`] of a vCPU are valid states there.
//!
//! Each service can check itself: `pagetype::audit`, `grant::audit`, and the `check` of `event`, `timer` and
//! `mm::alloc`. This room contains what spans services: which holder has which references ([`holders`]), which domain
//! maps which frame by which right ([`rights`]), and what else must agree between two services ([`services`]).

mod holders;
mod rights;
mod services;
mod stopped;

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use crate::arch::standstill::{self, Stage};
use crate::arch::{percpu, time, work};
use crate::domain::registry;
use crate::grant;
use crate::kit::atomic::{AtomicU32, Ordering};
use crate::kit::{DomId, Lock, Mfn, Once, Rank};
use crate::mm::alloc::Past;
use crate::mm::stale::audit::{self as stale, Sort};
use crate::mm::{alloc as frames_alloc, frames};
use crate::pagetype::audit::Tally;
use crate::pagetype::{PageType, machine, registered};
use stopped::Stopped;

/// A row for each frame, allocated at boot, because the audit must not depend on how much memory guests leave.
static TALLY: Once<Lock<Tally>> = Once::new();
/// The number of audits that have found a disagreement.
static FAILED: AtomicU32 = AtomicU32::new(0);

/// Allocates the memory for the counts. Called at boot, when all RAM is known.
pub fn init() {
    let end = frames_alloc::end_of_ram();
    stale::init(end);
    if let Some(tally) = Tally::new(end) {
        TALLY.call_once(|| Lock::new(Rank::Audit, tally));
    }
    log::info!("this is a test build: it can audit itself (debug key 'a')");
}

/// Requests an audit and returns its number.
pub fn ask() -> u32 {
    standstill::request()
}

/// The result of an audit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It has not taken place yet.
    Open,
    /// Neither this audit nor an earlier one has found a disagreement.
    Agreed,
    /// This audit or an earlier one has found a disagreement.
    Failed,
    /// It was never requested.
    Unknown,
}

/// The result of the audit with this number.
pub fn verdict(number: u32) -> Verdict {
    match standstill::stage(number) {
        Stage::Past if FAILED.load(Ordering::Relaxed) == 0 => Verdict::Agreed,
        Stage::Past => Verdict::Failed,
        Stage::Coming => Verdict::Open,
        Stage::Unknown => Verdict::Unknown,
    }
}

/// Performs the audit if `due` asks for one, on the way out of ring 0. Pending work of the scheduler comes first.
pub fn stand(due: u32) {
    if due & work::AUDIT == 0 {
        return;
    }
    if due & work::SCHEDULE != 0 {
        return work::raise_here(work::AUDIT);
    }
    standstill::stand(|| {
        let begun_ns = time::now_ns();
        let took_ms = || time::now_ns().saturating_sub(begun_ns) / 1_000_000;
        match recount(&Stopped::new()) {
            Ok(sums) => log::info!("audit: {sums} agree in {} ms", took_ms()),
            Err(what) => {
                FAILED.fetch_add(1, Ordering::Relaxed);
                log::error!("audit: {what}");
            }
        }
    });
}

/// How much was checked.
#[derive(Default)]
struct Sums {
    frames: u64,
    domains: usize,
    grants: usize,
    channels: u64,
}

impl fmt::Display for Sums {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            frames,
            domains,
            grants,
            channels,
        } = self;
        write!(
            f,
            "{frames} frames, {domains} domains, {grants} grants, {channels} channels"
        )
    }
}

fn recount(stopped: &Stopped) -> Result<Sums, String> {
    let mut tally = TALLY
        .get()
        .ok_or("there was no memory for the counts")?
        .lock();
    tally.clear();
    let domains: Vec<_> = registry::all().collect();
    let mut sums = Sums {
        domains: domains.len(),
        ..Sums::default()
    };
    {
        let mut uses = Vec::new();
        for dom in &domains {
            dom.grants.collect_uses(&mut uses)?;
        }
        grant::audit::compare(
            &mut uses,
            &mut domains.iter().map(|dom| dom.grants.clone()),
            // Every domain is a PV guest.
            |_, gfn| Some(Mfn(gfn.0)),
        )?;
        sums.grants = uses.len();
        holders::count_uses(&mut tally, &uses)?;
        let borrowed = count_tables(&mut tally)?;
        rights::check(&borrowed, &uses)?;
    }
    for dom in &domains {
        holders::count(&mut tally, dom, stopped)?;
        sums.channels += dom.events.check()?;
        services::check_domain(dom, stopped)?;
    }
    services::check_machine(&domains)?;
    // From here on no memory is allocated or freed, except for an error message.
    for dom in &domains {
        sums.frames += machine().count_lists(&dom.pages, &mut tally)?;
    }
    sums.frames += frames_alloc::audit::check(&mut |mfn| tally.count_listed(mfn))?;
    compare(&mut tally)?;
    Ok(sums)
}

fn all_frames() -> impl Iterator<Item = Mfn> {
    (1..frames_alloc::end_of_ram().0).map(Mfn)
}

/// Counts what tables and flags hold; returns the entries that map another domain's frames by a grant.
fn count_tables(tally: &mut Tally) -> Result<Vec<rights::Borrowed>, String> {
    let mut borrowed = Vec::new();
    let mut note = |entry| rights::note(&mut borrowed, entry);
    for mfn in all_frames() {
        machine().count_frame(mfn, tally, &mut note)?;
    }
    Ok(borrowed)
}

fn compare(tally: &mut Tally) -> Result<(), String> {
    for mfn in all_frames() {
        machine().compare_frame(mfn, tally)?;
        check_stale(mfn)?;
    }
    Ok(())
}

/// Checks that no CPU may have cached a translation of the frame that its present use forbids.
fn check_stale(mfn: Mfn) -> Result<(), String> {
    let Some(frame) = frames()
        .get(mfn)
        .filter(|f| f.owner() < DomId::FIRST_RESERVED)
    else {
        return Ok(());
    };
    let state = frame.load();
    let ty = PageType::from_bits(state.type_bits());
    for sort in Sort::ALL {
        let past = |owner| registered(owner).map_or(Past::NOBODY, |pages| pages.past());
        let Some((owner, cpu)) = stale::stale_on(mfn, sort, past) else {
            continue;
        };
        let forbidden = match (ty, sort) {
            _ if owner != frame.owner() && frame.owner() != DomId::BOOT => true,
            _ if state.type_refs() == 0 => false,
            (PageType::Writable, Sort::Table) => true,
            (PageType::None | PageType::Writable, _) => false,
            (_, sort) => sort == Sort::Writable,
        };
        if forbidden {
            return Err(alloc::format!(
                "frame {:#x} of domain {}: {cpu:?} has not flushed since domain {} lost a mapping of it \
                 ({sort:?}), and it is {state:?}",
                mfn.0,
                frame.owner().0,
                owner.0
            ));
        }
    }
    Ok(())
}

/// The CPUs that stand still.
fn cpus() -> impl Iterator<Item = crate::kit::CpuId> {
    percpu::online().iter()
}
