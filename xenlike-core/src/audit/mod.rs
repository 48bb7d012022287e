//! The audit, in test builds alone: all CPUs stand still, and one of them recounts from every root what
//! the services have noted. The first disagreement is named in a sentence on the console.
//!
//! A test asks for it by the debug key `a`, a guest by its call ([`ask`]); either only raises work, and
//! the recount happens on the way out of ring 0 ([`stand`]), where nothing is half-done: a table that is
//! *partial*, a domain that is half destroyed and a vCPU's [`crate::pagetype::Work`] are states as any.
//!
//! Each service knows how to look at its own: `pagetype::audit`, `grant::audit`, the `check` of `event`,
//! `timer` and `mm::alloc`. Here is who holds what across them ([`holders`]), who maps what by which right
//! ([`rights`]), and what else must agree between two services ([`services`]).

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

/// A row for each frame, made at boot: the audit must not depend on what guests leave of the memory.
static TALLY: Once<Lock<Tally>> = Once::new();
/// How many audits have found something.
static FAILED: AtomicU32 = AtomicU32::new(0);

/// Makes room for the counts; at boot, when all RAM is known.
pub fn init() {
    let end = frames_alloc::end_of_ram();
    stale::init(end);
    if let Some(tally) = Tally::new(end) {
        TALLY.call_once(|| Lock::new(Rank::Audit, tally));
    }
    log::info!("this is a test build: it can audit itself (debug key 'a')");
}

/// Asks for an audit; gives its number.
pub fn ask() -> u32 {
    standstill::request()
}

/// How an audit ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It is still to come.
    Open,
    /// Neither it nor one before it has found anything.
    Agreed,
    /// It or one before it has found something.
    Failed,
    /// Nobody has asked for it.
    Unknown,
}

/// How the audit with this number ended.
pub fn verdict(number: u32) -> Verdict {
    match standstill::stage(number) {
        Stage::Past if FAILED.load(Ordering::Relaxed) == 0 => Verdict::Agreed,
        Stage::Past => Verdict::Failed,
        Stage::Coming => Verdict::Open,
        Stage::Unknown => Verdict::Unknown,
    }
}

/// Makes the audit that `due` asks for, on the way out of ring 0. What the scheduler is to do comes first.
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

/// How much was looked at.
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
    let domains = registry::all();
    let mut sums = Sums {
        domains: domains.len(),
        ..Sums::default()
    };
    {
        let mut uses = Vec::new();
        for dom in &domains {
            dom.grants.collect_uses(&mut uses)?;
        }
        grant::audit::compare(&mut uses, &mut domains.iter().map(|dom| dom.grants.clone()))?;
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
    // From here on no memory comes or goes, but for a sentence.
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

/// Counts what tables and flags hold; gives the entries that map another domain's frames by a grant.
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

/// No CPU holds a translation of the frame that its present use forbids.
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
