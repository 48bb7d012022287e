//! What this machine's CPUs give away by speculation, and what the core does about it. The rules are
//! pure: facts of CPUID and of IA32_ARCH_CAPABILITIES in, faults out; nothing here touches a guest.
//!
//! [`facts`] asks the machine, [`bugs`] knows which CPUs have which fault, [`wishes`] is what the
//! command line says, and [`choice`] is made of all three. `entry` puts it into the paths of ring 0.

pub mod bugs;
pub mod choice;
pub mod facts;
pub mod wishes;

pub use bugs::Bugs;
pub use choice::Choice;
pub use facts::Facts;
pub use wishes::Wishes;

use crate::kit::atomic::{AtomicBool, Ordering};

static HIDES_AVX: AtomicBool = AtomicBool::new(false);

/// Sets what [`hides_avx`] tells. For boot, before the first guest's features are worked out.
pub fn set_hides_avx(hides: bool) {
    HIDES_AVX.store(hides, Ordering::Relaxed);
}

/// Whether guests get no AVX ([`Choice::hides_avx`]).
pub fn hides_avx() -> bool {
    HIDES_AVX.load(Ordering::Relaxed)
}
