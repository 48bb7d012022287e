//! Memory below the types of pages: which frames there are, who may have them, and how their bytes
//! are reached.
//!
//! - [`layout`]: where everything lives in the hypervisor's part of the address space;
//! - [`frame`]: the frame table, one [`Frame`] for each frame of RAM;
//! - [`alloc`]: the buddy allocator, with scrubbing;
//! - [`directmap`]: a frame's bytes, as atomics, for what a guest may write meanwhile;
//! - [`guest`]: guest memory by the guest's addresses, a bad pointer being an error;
//! - [`m2p`]: the machine-to-physical table that guests read;
//! - [`heap`]: the global allocator;
//! - [`memory_map`]: the machine's memory as its firmware told it;
//! - [`space`]: switching address spaces;
//! - [`stale`]: when a translation that a CPU may still hold is surely gone.
//!
//! Invariant: a frame on a free list is reachable by nobody; what its last user left in it is gone
//! before anybody else can read it; no CPU holds a translation of it from before.

pub mod alloc;
pub mod directmap;
pub mod frame;
pub mod guest;
pub mod heap;
#[cfg(not(target_os = "none"))]
mod host;
pub mod layout;
pub mod m2p;
pub mod memory_map;
pub mod space;
pub mod stale;

pub use directmap::SharedPage;
pub use frame::{Frame, frames};
