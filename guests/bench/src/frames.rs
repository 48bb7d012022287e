//! Rows about allocating frames from the hypervisor and returning them.

use alloc::vec;
use core::cell::RefCell;

use xenlike_rt::abi::memory::{
    MemoryReservation, XENMEM_DECREASE_RESERVATION, XENMEM_POPULATE_PHYSMAP,
};
use xenlike_rt::abi::xen::DOMID_SELF;
use xenlike_rt::abi::{GuestHandle, Long};
use xenlike_rt::{hyper, start_info};

use crate::meter;

/// Measures all rows of this module.
pub fn measure() {
    change(["populate_1", "decrease_1"], 1, 200);
    change(["populate_512", "decrease_512"], 512, 10);
}

/// The best time for allocating one frame, which is then returned.
#[cfg(target_pointer_width = "64")]
pub fn populate_one() -> u64 {
    let mut frames = [0];
    let once = |_| {
        number(&mut frames);
        let start = meter::tsc();
        reserve(XENMEM_POPULATE_PHYSMAP, &mut frames);
        let took = meter::tsc() - start;
        reserve(XENMEM_DECREASE_RESERVATION, &mut frames);
        took
    };
    (0..20).map(once).min().unwrap_or_default()
}

/// A memory_op call on a list of frames.
fn reserve(cmd: u32, frames: &mut [Long]) {
    let mut request = MemoryReservation {
        nr_extents: frames.len() as Long,
        extent_start: GuestHandle::of_mut(frames),
        domid: DOMID_SELF,
        ..MemoryReservation::default()
    };
    let done = hyper::memory_op(cmd, &mut request).expect("a memory call");
    let frames = core::hint::black_box(frames);
    assert!(
        done == frames.len() as u64,
        "{done} frames of {}",
        frames.len()
    );
}

fn change(names: [&'static str; 2], count: usize, loops: u64) {
    let frames = RefCell::new(vec![0; count]);
    let act = |cmd: u32| reserve(cmd, &mut frames.borrow_mut());
    meter::in_turn(
        names,
        loops,
        || {
            number(&mut frames.borrow_mut());
            act(XENMEM_POPULATE_PHYSMAP);
        },
        || act(XENMEM_DECREASE_RESERVATION),
    );
}

/// Numbers the frames above all frames of this domain.
fn number(frames: &mut [Long]) {
    for (n, frame) in frames.iter_mut().enumerate() {
        *frame = start_info().nr_pages + n as Long;
    }
}
