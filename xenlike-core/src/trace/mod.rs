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

use alloc::vec::Vec;

use buffer::{Buffer, Words};

use crate::arch::{percpu, time, work};
use crate::kit::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use crate::kit::cell::PerCpu;
use crate::kit::{CpuId, CpuSet, DomId, MAX_CPUS, Once, PAGE_SIZE, VcpuId};
use crate::mm::SharedPage;

static ON: AtomicBool = AtomicBool::new(false);
/// Which events are recorded (`XEN_SYSCTL_TBUFOP_set_evt_mask`).
pub static EVENTS: AtomicU32 = AtomicU32::new(TRC_ALL);
/// On which CPUs, as a [`CpuSet`] (`XEN_SYSCTL_TBUFOP_set_cpu_mask`).
pub static CPUS: AtomicU64 = AtomicU64::new(CpuSet::ALL.0);

/// Each CPU's buffer.
static BUFFERS: PerCpu<Once<Buffer<Vec<SharedPage>>>> =
    PerCpu::new([const { Once::new() }; MAX_CPUS]);
/// The vCPU that runs on each CPU, as far as records have told; see [`word_of`].
static RUNS: PerCpu<AtomicU32> =
    PerCpu::new([const { AtomicU32::new((DomId::IDLE.0 as u32) << 16) }; MAX_CPUS]);

impl Words for Vec<SharedPage> {
    fn count(&self) -> u32 {
        (self.len() * PAGE_SIZE / size_of::<u32>()) as u32
    }
    fn word(&self, index: u32) -> Option<&AtomicU32> {
        let at = index as usize * size_of::<u32>();
        self.get(at / PAGE_SIZE)?.u32(at % PAGE_SIZE)
    }
}

/// Whether records are taken.
#[inline(always)]
pub fn on() -> bool {
    ON.load(Ordering::Relaxed)
}

/// Does `act` if records are taken.
#[inline(always)]
pub fn if_on(act: impl FnOnce()) {
    if on() {
        act();
    }
}

/// Switches tracing on or off. The CPU's way out of ring 0 takes the doors of hypercalls and traps along.
pub fn switch(on: bool) {
    ON.store(on, Ordering::Release);
    if !on {
        let buffers = BUFFERS.all().iter().filter_map(Once::get);
        buffers.for_each(Buffer::forget_lost);
    }
    work::raise_here(work::TRACE_DOORS);
}

/// Gives `cpu` its buffer, once.
pub fn install(cpu: CpuId, pages: Vec<SharedPage>) {
    BUFFERS.of(cpu).call_once(|| Buffer::new(pages));
}

/// A vCPU in one word, as records of its runstate have it.
pub fn word_of(dom: DomId, vcpu: VcpuId) -> u32 {
    u32::from(dom.0) << 16 | vcpu.0 & 0xffff
}

/// Notes that `vcpu` runs on this CPU, and tells what ran there.
pub fn runs(vcpu: u32) -> u32 {
    let runs = RUNS.of(percpu::this_cpu());
    let before = runs.load(Ordering::Relaxed);
    runs.store(vcpu, Ordering::Relaxed);
    before
}

/// Records `event`, if it is wanted, with up to seven words of data.
#[cold]
#[inline(never)]
pub fn record(event: u32, data: &[u32]) {
    let cpu = percpu::this_cpu();
    let wanted = is_wanted(EVENTS.load(Ordering::Relaxed), event)
        && CpuSet(CPUS.load(Ordering::Relaxed)).contains(cpu);
    if let Some(buffer) = BUFFERS.of(cpu).get().filter(|_| wanted && on()) {
        let (tsc, runs) = (time::tsc(), RUNS.of(cpu).load(Ordering::Relaxed));
        if buffer.add(&buffer::record(event, tsc, data), tsc, runs) {
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
