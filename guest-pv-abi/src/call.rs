//! The hypercall instruction, with the same functions in both widths.
//!
//! A PV domain's hypercall page contains the same instructions, so no page is needed.

#[cfg(target_pointer_width = "32")]
mod narrow;
#[cfg(target_pointer_width = "64")]
mod wide;

#[cfg(target_pointer_width = "32")]
pub use narrow::*;
#[cfg(target_pointer_width = "64")]
pub use wide::*;
