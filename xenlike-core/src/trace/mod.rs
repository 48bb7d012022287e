//! Trace buffers, as xentrace reads them: what happened on each CPU, and when.
//!
//! Each CPU writes to a [`Buffer`] of its own with interrupts off, so that a buffer has a single producer and needs no
//! lock. The control domain maps the buffers writable, because the tool stores in them how far it has read. The
//! hypervisor therefore reads only that one word from a buffer, and accepts it only within bounds.
//!
//! A place that may record tests [`on`] first, which is a load of a word that is rarely written. Hypercalls and traps
//! don't even test it: while tracing is on, `entry` dispatches them through other tables of handlers.
//!
//! Buffers are allocated once (by `life::trace_buffers`) and never freed, as in Xen. Switching tracing off may race
//! with a CPU that has just seen it on: the last record of that CPU still arrives.

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
/// The mask of the events that are recorded (`XEN_SYSCTL_TBUFOP_set_evt_mask`).
pub static EVENTS: AtomicU32 = AtomicU32::new(TRC_ALL);
/// The CPUs that record, as a [`CpuSet`] (`XEN_SYSCTL_TBUFOP_set_cpu_mask`).
pub static CPUS: AtomicU64 = AtomicU64::new(CpuSet::ALL.0);

/// The buffer of each CPU, once it is allocated.
static BUFFERS: PerCpu<Once<Buffer<Vec<SharedPage>>>> =
    PerCpu::new([const { Once::new() }; MAX_CPUS]);
/// The vCPU that runs on each CPU according to the last record, as [`word_of`] encodes it.
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

/// Whether tracing is on.
#[inline(always)]
pub fn on() -> bool {
    ON.load(Ordering::Relaxed)
}

/// Calls `act` if tracing is on.
#[inline(always)]
pub fn if_on(act: impl FnOnce()) {
    if on() {
        act();
    }
}

/// Switches tracing on or off. The exit path of this CPU then replaces the tables of hypercalls and traps.
pub fn switch(on: bool) {
    ON.store(on, Ordering::Release);
    if !on {
        let buffers = BUFFERS.all().iter().filter_map(Once::get);
        buffers.for_each(Buffer::forget_lost);
    }
    work::raise_here(work::TRACE_DOORS);
}

/// Sets the buffer of `cpu`. Only the first call has an effect.
pub fn install(cpu: CpuId, pages: Vec<SharedPage>) {
    BUFFERS.of(cpu).call_once(|| Buffer::new(pages));
}

/// Encodes a vCPU in a word, as runstate records do.
pub fn word_of(dom: DomId, vcpu: VcpuId) -> u32 {
    u32::from(dom.0) << 16 | vcpu.0 & 0xffff
}

/// Records that `vcpu` runs on this CPU; returns the vCPU that ran before.
pub fn runs(vcpu: u32) -> u32 {
    let runs = RUNS.of(percpu::this_cpu());
    let before = runs.load(Ordering::Relaxed);
    runs.store(vcpu, Ordering::Relaxed);
    before
}

/// Records `event` with up to seven words of data, if it is wanted on this CPU.
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

/// Whether `mask` contains the class of `event` and its subclass.
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
        // The class without a subclass, and with another subclass.
        assert!(!is_wanted(0x0002_0000, TRC_SCHED_WAKE));
        assert!(!is_wanted(0x0002_1000, TRC_SCHED_WAKE));
    }
}
