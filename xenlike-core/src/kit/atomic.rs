//! Atomic words. Every room takes them from here, never from `core`, so that the model checker can
//! run the same code: with `--cfg loom` these are [loom](https://docs.rs/loom)'s, whose scheduler
//! then decides at each access which CPU goes on and which of the values that the memory model
//! allows it reads. `scripts/test models` builds and runs the models.

#[cfg(not(loom))]
pub use core::sync::atomic::{
    AtomicBool, AtomicPtr, AtomicU8, AtomicU16, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence,
};

#[cfg(loom)]
pub use core::sync::atomic::AtomicPtr; // set at boot alone: no model has one
#[cfg(loom)]
pub use model::{
    AtomicBool, AtomicU8, AtomicU16, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence,
};

#[cfg(loom)]
pub mod model;
