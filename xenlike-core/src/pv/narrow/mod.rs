//! What is different for narrow guests: 32-bit kernels, which run in ring 1.
//!
//! Ring 1 is real: the CPU itself keeps user code in ring 3 from the kernel's pages, so such a guest has one address
//! space, and the frames that enter its kernel tell by their selectors which ring was interrupted. To the page tables,
//! though, ring 1 is supervisor code like the hypervisor. Three things keep it from the hypervisor's memory: that
//! memory is above 4 GiB; the CPU cuts the addresses of 32-bit code off at 4 GiB; and no descriptor that the guest can
//! load is one of 64-bit code (`pagetype::check_descriptor`, `arch::desc`).

pub mod context;
pub mod frame;
pub mod iret;

use crate::arch::work;
use crate::kit::atomic::{AtomicBool, Ordering};

static EXIST: AtomicBool = AtomicBool::new(false);

/// Whether there has been a narrow guest since boot.
pub fn exist() -> bool {
    EXIST.load(Ordering::Acquire)
}

/// Takes note that there is a narrow guest. On its way out of ring 0, this CPU tells the trap handlers.
pub fn note_one() {
    if !EXIST.swap(true, Ordering::AcqRel) {
        work::raise_here(work::TRACE_DOORS);
    }
}
