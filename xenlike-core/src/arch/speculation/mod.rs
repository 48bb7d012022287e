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
