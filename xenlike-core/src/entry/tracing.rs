//! Trace records of `entry`: hypercalls and traps, through tables that replace the plain ones while tracing is on, and
//! which vCPU runs.

use guest_pv_abi::Width;
use guest_pv_abi::arch_x86::narrow::HYPERCALL_VECTOR;
use guest_pv_abi::trace::{
    TRC_64_FLAG, TRC_PV_HYPERCALL_V2, TRC_PV_PAGE_FAULT, TRC_PV_TRAP, TRC_SCHED_SWITCH,
};
use guest_pv_abi::xen::VIRQ_TBUF;

use super::current::{Running, running};
use super::syscall::{self, Door, HYPERCALLS};
use super::traps::{self, HANDLERS_BY_RING, TRAP_HANDLERS, TrapHandler};
use crate::arch::exception::{self, has_error_code};
use crate::arch::frame::TrapFrame;
use crate::arch::{cr, percpu, work};
use crate::domain::runstate::{self, Activity};
use crate::domain::{Domain, Vcpu, notify};
use crate::hypercall;
use crate::kit::{DomId, VcpuId};
use crate::pv::narrow;
use crate::trace::{record, runs, word_of};

/// The first vector that isn't an exception's.
const EXCEPTIONS: usize = 32;

static TRACED_HYPERCALLS: [Door; hypercall::PLACES] = [traced_hypercall; hypercall::PLACES];

static TRACED_TRAPS: [TrapHandler; 256] = [traced_trap; 256];

/// Does pending work of tracing.
pub fn act(due: u32) {
    if due & work::TRACE_DOORS != 0 {
        choose_doors();
    }
    if due & work::TRACE_HALF != 0 {
        notify::global_virq(VIRQ_TBUF);
    }
}

/// Sets the tables for the present state of tracing, and for whether there are narrow guests. Several CPUs may be here if
/// tracing is switched on and off quickly, so a CPU looks again after it has set them: the last one to do so sets the right
/// ones.
fn choose_doors() {
    loop {
        let on = crate::trace::on();
        syscall::DOORS.set(if on { &TRACED_HYPERCALLS } else { &HYPERCALLS });
        let narrow = narrow::exist();
        let untraced = if narrow {
            &HANDLERS_BY_RING
        } else {
            &TRAP_HANDLERS
        };
        traps::HANDLERS.set(if on { &TRACED_TRAPS } else { untraced });
        hypercall::trace_subcalls(on);
        if crate::trace::on() == on && narrow::exist() == narrow {
            return;
        }
    }
}

/// Notes which vCPU runs, for a CPU that has not switched since tracing is on.
fn note(running: &Running) {
    runs(word_of(running.dom.id(), running.vcpu.id));
}

fn traced_hypercall(frame: &mut TrapFrame, running: &'static Running) {
    note(running);
    let args = hypercall::InRegisters::words(frame);
    hypercall::trace_call(TRC_PV_HYPERCALL_V2, frame.rax, &args);
    if let Some(hypercall) = HYPERCALLS.get(hypercall::place(frame.rax)) {
        hypercall(frame, running);
    }
}

extern "C" fn traced_trap(frame: &mut TrapFrame) {
    let running = if frame.from_guest() { running() } else { None };
    if let Some(running) = running {
        record_entry(frame, running);
    }
    traps::by_ring(frame);
}

/// Records what a guest's trap is: a narrow guest's hypercall, or an exception.
fn record_entry(frame: &mut TrapFrame, running: &Running) {
    let vector = frame.vector as u8;
    if vector == HYPERCALL_VECTOR && frame.cs & 3 == 1 {
        note(running);
        let args = hypercall::InNarrowRegisters::words(frame);
        hypercall::trace_call(TRC_PV_HYPERCALL_V2, frame.rax & 0xffff_ffff, &args);
    } else if is_recorded(vector) {
        note(running);
        match running.dom.pages.width() {
            Width::Wide => record_trap(frame),
            Width::Narrow => record_narrow_trap(frame),
        }
    }
}

/// Exceptions are recorded, except those that may be raised anywhere in ring 0 and have their own stacks.
fn is_recorded(vector: u8) -> bool {
    let anywhere = matches!(vector, exception::NMI | exception::DF | exception::MC);
    usize::from(vector) < EXCEPTIONS && !anywhere
}

fn record_trap(frame: &TrapFrame) {
    let (number, error) = (frame.vector as u8, frame.error);
    let [low, high] = halves(frame.rip);
    if number == exception::PF {
        let [address, above] = halves(cr::cr2());
        let data = [low, high, address, above, error];
        return record(TRC_PV_PAGE_FAULT | TRC_64_FLAG, &data);
    }
    let what = trap_word(number, error);
    record(TRC_PV_TRAP | TRC_64_FLAG, &[low, high, what]);
}

/// The same for a narrow guest, whose addresses take one word each.
fn record_narrow_trap(frame: &TrapFrame) {
    let (number, error, eip) = (frame.vector as u8, frame.error, frame.rip as u32);
    if number == exception::PF {
        return record(TRC_PV_PAGE_FAULT, &[eip, cr::cr2() as u32, error]);
    }
    record(TRC_PV_TRAP, &[eip, trap_word(number, error)]);
}

/// The word that tells of an exception.
fn trap_word(number: u8, error: u32) -> u32 {
    u32::from(number) | u32::from(has_error_code(number)) << 15 | error << 16
}

fn halves(word: u64) -> [u32; 2] {
    [word as u32, (word >> 32) as u32]
}

/// Records that `vcpu` stops running here.
#[cold]
pub fn leaves(dom: &Domain, vcpu: &Vcpu, activity: Activity) {
    let vcpu = word_of(dom.id(), vcpu.id);
    runs(vcpu);
    runstate::trace(vcpu, Activity::Running, activity);
}

/// Records that `vcpu` starts to run here.
#[cold]
pub fn enters(dom: &Domain, vcpu: &Vcpu) {
    switch(word_of(dom.id(), vcpu.id));
}

/// Records that this CPU idles.
#[cold]
pub fn idles() {
    switch(word_of(DomId::IDLE, VcpuId(percpu::this_cpu().0)));
}

fn switch(next: u32) {
    let before = runs(next);
    let data = [before >> 16, before & 0xffff, next >> 16, next & 0xffff];
    record(TRC_SCHED_SWITCH, &data);
    if before >> 16 == u32::from(DomId::IDLE.0) {
        runstate::trace(before, Activity::Running, Activity::Runnable);
    }
    runstate::trace(next, Activity::Runnable, Activity::Running);
}
