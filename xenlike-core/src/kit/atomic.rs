//! Atomic words. Every room takes them from here and never from `core`, so that the model checker can run the same
//! code: with `--cfg loom` they are those of [loom](https://docs.rs/loom). Loom's scheduler then decides at each access
//! which thread runs next, and which of the values that the memory model allows a load returns. `scripts/test models`
//! builds and runs the models.

#[cfg(not(loom))]
pub use core::sync::atomic::{
    AtomicBool, AtomicPtr, AtomicU8, AtomicU16, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence,
};

#[cfg(loom)]
pub use core::sync::atomic::AtomicPtr; // only set at boot, so no model needs loom's
#[cfg(loom)]
pub use model::{
    AtomicBool, AtomicU8, AtomicU16, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence,
};

#[cfg(loom)]
pub mod model;
