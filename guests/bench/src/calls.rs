//! Hypercalls that involve neither page tables nor other domains.

#![expect(unsafe_code, reason = "makes hypercalls")]

use xenlike_rt::abi::version::XENVER_VERSION;
use xenlike_rt::abi::xen::MulticallEntry;
use xenlike_rt::abi::{Long, hypercall};
use xenlike_rt::hyper;

use crate::{meter, width};

/// A deadline an hour after the hypervisor's start: a timer is armed but never expires.
const FAR_NS: u64 = 3600 * xenlike_rt::time::SECOND_NS;

/// A hypercall whose arguments have no effect on memory that Rust knows of.
pub fn call(number: u64, arguments: [u64; 5]) {
    // SAFETY: callers pass flags, selectors, and addresses of entries that map only their own pages.
    let answer = unsafe { hyper::raw(number, arguments) };
    assert!(answer >= 0, "hypercall {number}: {answer}");
}

/// Measures all rows of this module.
pub fn measure() {
    let version = u64::from(XENVER_VERSION);
    meter::measure("xen_version", || {
        call(hypercall::XEN_VERSION, [version, 0, 0, 0, 0]);
    });
    multicall(version);
    meter::measure("sched_yield", hyper::yield_now);
    let stack = width::KERNEL_SS;
    meter::measure("stack_switch", || {
        call(hypercall::STACK_SWITCH, [stack, stack_top(), 0, 0, 0]);
    });
    width::segment_base();
    meter::measure("fpu_taskswitch", || {
        call(hypercall::FPU_TASKSWITCH, [0; 5]);
    });
    meter::measure("set_timer_0", || {
        let _ = hyper::set_timer(0);
    });
    meter::measure("set_timer_far", || {
        let _ = hyper::set_timer(FAR_NS);
    });
    let _ = hyper::set_timer(0);
}

fn multicall(version: u64) {
    let entry = MulticallEntry {
        op: hypercall::XEN_VERSION as Long,
        args: [version as Long, 0, 0, 0, 0, 0],
        ..MulticallEntry::default()
    };
    let mut batch = [entry; 8];
    meter::measure("multicall_8_xen_version", || {
        // SAFETY: xen_version without a buffer.
        let _ = unsafe { hyper::multicall(&mut batch) };
    });
}

/// A stack for entries from user mode; the running function's own stack will do.
fn stack_top() -> u64 {
    width::stack_pointer() & !15
}
