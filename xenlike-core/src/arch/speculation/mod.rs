//! What this machine's CPUs reveal by speculation, and what the core does about it. The rules are pure: the facts of
//! CPUID and IA32_ARCH_CAPABILITIES go in, bugs and mitigations come out. Nothing here touches a guest.
//! docs/speculation.md explains the choices.
//!
//! [`facts`] asks the machine, [`bugs`] knows which CPUs have which bug, [`wishes`] holds the command line's choices,
//! and [`choice`] combines the three. `entry` applies the result on the paths of ring 0.

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

/// Sets the value of [`hides_avx`]. Boot calls it before the first guest's features are computed.
pub fn set_hides_avx(hides: bool) {
    HIDES_AVX.store(hides, Ordering::Relaxed);
}

/// Whether AVX is hidden from guests ([`Choice::hides_avx`]).
pub fn hides_avx() -> bool {
    HIDES_AVX.load(Ordering::Relaxed)
}
