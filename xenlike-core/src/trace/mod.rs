//! Trace buffers, as xentrace reads them: what happened on each CPU, with its time.
//!
//! Each CPU writes to a [`Buffer`] of its own, with interrupts off, so that it has one producer and needs no lock.
//! The control domain maps the buffers writable, since the tool says in them how far it has read. So the
//! hypervisor reads nothing from a buffer but that one word, and believes it only within bounds.
//!
//! A site that may record tests [`on`] first, which is one load of a word that is hardly ever written. Hypercalls and
//! traps don't even test that: while tracing is on, `entry` takes them through other tables of handlers.
//!
//! Buffers are made once (by `life::trace_buffers`) and never freed, as in Xen. Switching tracing off may race with a
//! CPU that has seen it on: that CPU's last record still arrives.

#![cfg_attr(
    not(test),
    warn(
        clippy::indexing_slicing,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic
    )
)]

mod buffer;

use guest_pv_abi::trace::{TRC_ALL, TRC_CLS_SHIFT, TRC_SUBCLS_SHIFT};

pub use buffer::{Buffer, Filled, Words};

use crate::arch::{percpu, time, work};
use crate::kit::atomic::{AtomicU32, AtomicU64, Ordering};
use crate::kit::cell::PerCpu;
use crate::kit::{CpuSet, DomId, MAX_CPUS, Once, VcpuId};
use crate::mm::SharedPage;

/// Odd while tracing is on. Each change counts it up, so that a session knows what earlier ones left.
static SESSION: AtomicU32 = AtomicU32::new(0);
/// Which events are recorded (`XEN_SYSCTL_TBUFOP_set_evt_mask`).
static EVENTS: AtomicU32 = AtomicU32::new(TRC_ALL);
/// On which CPUs (`XEN_SYSCTL_TBUFOP_set_cpu_mask`).
static CPUS: AtomicU64 = AtomicU64::new(CpuSet::ALL.0);

/// What a CPU has.
struct PerTrace {
    buffer: Once<Buffer<Pages>>,
    /// The vCPU that runs there, as far as records have told: domain and number.
    runs: AtomicU32,
}

static TRACES: PerCpu<PerTrace> = PerCpu::new(
    [const {
        PerTrace {
            buffer: Once::new(),
            runs: AtomicU32::new((DomId::IDLE.0 as u32) << 16),
        }
    }; MAX_CPUS],
);

/// The pages of a buffer.
pub struct Pages(pub alloc::vec::Vec<SharedPage>);

impl Words for Pages {
    fn count(&self) -> u32 {
        (self.0.len() as u32).saturating_mul(buffer::PAGE_WORDS)
    }
    fn word(&self, index: u32) -> Option<&AtomicU32> {
        let page = self.0.get((index / buffer::PAGE_WORDS) as usize)?;
        page.u32((index % buffer::PAGE_WORDS) as usize * size_of::<u32>())
    }
}

/// Whether records are taken.
#[inline(always)]
pub fn on() -> bool {
    SESSION.load(Ordering::Relaxed) & 1 != 0
}

/// Switches tracing on or off. The CPU's way out of ring 0 takes the doors of hypercalls and traps along.
pub fn switch(on: bool) {
    let change = |session: u32| ((session & 1 != 0) != on).then(|| session.wrapping_add(1));
    let _ = SESSION.fetch_update(Ordering::AcqRel, Ordering::Relaxed, change);
    work::raise_here(work::TRACE_DOORS);
}

/// Which events are recorded.
pub fn events() -> u32 {
    EVENTS.load(Ordering::Relaxed)
}

/// Sets which events are recorded.
pub fn set_events(mask: u32) {
    EVENTS.store(mask, Ordering::Relaxed);
}

/// Sets on which CPUs events are recorded.
pub fn set_cpus(cpus: CpuSet) {
    CPUS.store(cpus.0, Ordering::Relaxed);
}

/// Gives `cpu` its buffer, once.
pub fn install(cpu: crate::kit::CpuId, pages: Pages) {
    TRACES.of(cpu).buffer.call_once(|| Buffer::new(pages));
}

/// A vCPU in one word, as records of its runstate have it.
pub fn word_of(dom: DomId, vcpu: VcpuId) -> u32 {
    u32::from(dom.0) << 16 | vcpu.0 & 0xffff
}

/// Notes that `vcpu` runs on this CPU, and tells what ran there.
pub fn runs(vcpu: u32) -> u32 {
    let runs = &TRACES.of(percpu::this_cpu()).runs;
    let before = runs.load(Ordering::Relaxed);
    runs.store(vcpu, Ordering::Relaxed);
    before
}

/// Records `event`, if it is wanted, with up to seven words of data.
#[cold]
#[inline(never)]
pub fn record(event: u32, data: &[u32]) {
    let cpu = percpu::this_cpu();
    let session = SESSION.load(Ordering::Acquire);
    let wanted = is_wanted(EVENTS.load(Ordering::Relaxed), event)
        && CpuSet(CPUS.load(Ordering::Relaxed)).contains(cpu);
    let trace = TRACES.of(cpu);
    if let Some(buffer) = trace.buffer.get().filter(|_| wanted && session & 1 != 0) {
        let record = buffer::Record {
            event,
            tsc: time::tsc(),
            data,
        };
        let runs = trace.runs.load(Ordering::Relaxed);
        if buffer.add(&record, session, runs) == Filled::Half {
            work::raise_here(work::TRACE_HALF);
        }
    }
}

/// Whether `mask` has the class of `event`, and its subclass.
fn is_wanted(mask: u32, event: u32) -> bool {
    let both = mask & event;
    both >> TRC_CLS_SHIFT != 0 && both >> TRC_SUBCLS_SHIFT & 0xf != 0
}

#[cfg(test)]
mod tests {
    use super::is_wanted;
    use guest_pv_abi::trace::{TRC_ALL, TRC_PV_TRAP, TRC_SCHED_SWITCH, TRC_SCHED_WAKE};

    #[test]
    fn classes_and_subclasses() {
        for event in [TRC_PV_TRAP, TRC_SCHED_SWITCH] {
            assert!(is_wanted(TRC_ALL, event));
            assert!(!is_wanted(0, event));
        }
        assert!(is_wanted(0x0002_8000, TRC_SCHED_WAKE));
        // A class alone, and another subclass.
        assert!(!is_wanted(0x0002_0000, TRC_SCHED_WAKE));
        assert!(!is_wanted(0x0002_1000, TRC_SCHED_WAKE));
    }
}
