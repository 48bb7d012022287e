//! Memory, below the level of page types: which frames exist, who may allocate them, and how their bytes are
//! accessed.
//!
//! - [`layout`]: where everything lives in the hypervisor's part of the address space;
//! - [`frame`]: the frame table, with one [`Frame`] for each frame of RAM;
//! - [`alloc`]: the buddy allocator, with scrubbing;
//! - [`directmap`]: access to a frame's bytes as atomics, because a guest may write them at any time;
//! - [`guest`]: guest memory by guest addresses, where a bad pointer is an error;
//! - [`m2p`]: the machine-to-physical table that guests read;
//! - [`heap`]: the global allocator;
//! - [`memory_map`]: the machine's memory map from its firmware;
//! - [`space`]: switching address spaces;
//! - [`stale`]: flushing translations that a CPU may still hold.
//!
//! Invariant: a frame on a free list has no users, and no CPU uses an old translation of it once it is allocated; its
//! old contents are erased before another user can read them.

pub mod alloc;
pub mod device_frames;
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
