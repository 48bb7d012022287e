//! Loom's atomics with the interface of `core`'s. Loom's own can't be built in a constant, and don't survive from one
//! execution of a model to the next. So each of these builds its loom atomic at the first access in an execution, from
//! the value that it was made with.
//!
//! On x86 a locked instruction is a full barrier (Intel SDM vol. 3, Memory Ordering in P6 and More Recent Processor
//! Families; AMD APM vol. 2 §7.1.1), and the core relies on it: no access before a read-modify-write is observed after
//! an access behind it. The language's memory model promises less, so a read-modify-write with `AcqRel` or `SeqCst` is
//! between two fences here, and a `SeqCst` store is followed by one. Weaker orderings are as weak as the language says.
//!
//! Loom treats the building of an atomic as an unordered write. So a model touches each atomic that its threads share,
//! by any access, before it spawns the first thread. If it forgets one, loom reports "Causality violation: Concurrent
//! load and mut accesses".
#![expect(
    unsafe_code,
    reason = "loom runs its threads one at a time on a single thread of the host"
)]

use core::cell::UnsafeCell;
use std::boxed::Box;
use std::sync::atomic::AtomicU64 as HostWord;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Mutex, PoisonError};

pub use loom::sync::atomic::{Ordering, fence};

/// The number of the current execution; the first one has number 1.
static EXECUTION: HostWord = HostWord::new(0);

/// Lets one model run at a time, because all models share the atomics that are statics.
static ONE: Mutex<()> = Mutex::new(());

/// Explores every interleaving of the threads of `body` with at most `preemptions` involuntary switches.
pub fn explore(preemptions: usize, body: impl Fn() + Sync + Send + 'static) {
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut model = loom::model::Builder::new();
    // The environment variable `LOOM_MAX_PREEMPTIONS` overrides the bound, for deeper searches on demand.
    model.preemption_bound = model.preemption_bound.or(Some(preemptions));
    model.max_branches = 100_000;
    model.check(move || {
        EXECUTION.fetch_add(1, Relaxed);
        body();
    });
}

/// The content of every atomic here: its initial value, and the current execution's loom atomic.
struct Lazy<T, A>(T, UnsafeCell<Option<Box<(u64, A)>>>);

// SAFETY: loom switches threads only inside the methods of its own atomics, never inside `get`.
unsafe impl<T: Send, A> Sync for Lazy<T, A> {}
// SAFETY: as above.
unsafe impl<T: Send, A> Send for Lazy<T, A> {}

impl<T: Copy, A> Lazy<T, A> {
    fn get(&self, make: impl FnOnce(T) -> A) -> &A {
        let execution = EXECUTION.load(Relaxed);
        // SAFETY: no other reference to the cell's content is being made meanwhile; those handed out before point into
        // the box, which lives until the next execution.
        let slot = unsafe { &mut *self.1.get() };
        if slot.as_ref().is_none_or(|there| there.0 != execution) {
            *slot = Some(Box::new((execution, make(self.0))));
        }
        match slot {
            Some(there) => &there.1,
            None => unreachable!(),
        }
    }
}

/// Does a read-modify-write as the machine does it: as a full barrier.
fn locked<R>(order: Ordering, access: impl FnOnce() -> R) -> R {
    let full = matches!(order, Ordering::AcqRel | Ordering::SeqCst);
    if full {
        fence(Ordering::SeqCst);
    }
    let result = access();
    if full {
        fence(Ordering::SeqCst);
    }
    result
}

macro_rules! atomics {
    ($($name:ident $ty:ty),*) => {$(
        /// Loom's atomic with the interface of the type of this name in `core`.
        pub struct $name(Lazy<$ty, loom::sync::atomic::$name>);

        impl $name {
            /// Makes an atomic with an initial value.
            pub const fn new(value: $ty) -> Self {
                Self(Lazy(value, UnsafeCell::new(None)))
            }
            fn atomic(&self) -> &loom::sync::atomic::$name {
                self.0.get(loom::sync::atomic::$name::new)
            }
            /// Like the method of this name in `core`.
            #[track_caller]
            pub fn load(&self, order: Ordering) -> $ty {
                self.atomic().load(order)
            }
            /// Like the method of this name in `core`, with a fence after a `SeqCst` store.
            #[track_caller]
            pub fn store(&self, value: $ty, order: Ordering) {
                self.atomic().store(value, order);
                if order == Ordering::SeqCst {
                    fence(order);
                }
            }
            /// Like the method of this name in `core`.
            #[track_caller]
            pub fn swap(&self, value: $ty, order: Ordering) -> $ty {
                locked(order, || self.atomic().swap(value, order))
            }
            /// Like the method of this name in `core`.
            #[track_caller]
            pub fn compare_exchange(
                &self, old: $ty, new: $ty, won: Ordering, lost: Ordering,
            ) -> Result<$ty, $ty> {
                locked(won, || self.atomic().compare_exchange(old, new, won, lost))
            }
            /// Like the method of this name in `core`, but never fails spuriously.
            #[track_caller]
            pub fn compare_exchange_weak(
                &self, old: $ty, new: $ty, won: Ordering, lost: Ordering,
            ) -> Result<$ty, $ty> {
                locked(won, || self.atomic().compare_exchange(old, new, won, lost))
            }
            /// Like the method of this name in `core`.
            #[track_caller]
            pub fn fetch_update(
                &self, won: Ordering, lost: Ordering, f: impl FnMut($ty) -> Option<$ty>,
            ) -> Result<$ty, $ty> {
                locked(won, || self.atomic().fetch_update(won, lost, f))
            }
        }

        impl core::fmt::Debug for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.write_str(stringify!($name))
            }
        }

        impl Default for $name
        where $ty: Default {
            fn default() -> Self {
                Self::new(<$ty>::default())
            }
        }
    )*};
}

macro_rules! arithmetic {
    ($($name:ident $ty:ty: $($method:ident)*),*) => {$(
        impl $name {$(
            /// Like the method of this name in `core`.
            #[track_caller]
            pub fn $method(&self, value: $ty, order: Ordering) -> $ty {
                locked(order, || self.atomic().$method(value, order))
            }
        )*}
    )*};
}

atomics!(AtomicBool bool, AtomicU8 u8, AtomicU16 u16, AtomicU32 u32, AtomicU64 u64, AtomicUsize usize);
arithmetic!(
    AtomicBool bool: fetch_or fetch_and fetch_xor,
    AtomicU8 u8: fetch_add fetch_sub fetch_or fetch_and fetch_xor fetch_max fetch_min,
    AtomicU16 u16: fetch_add fetch_sub fetch_or fetch_and fetch_xor fetch_max fetch_min,
    AtomicU32 u32: fetch_add fetch_sub fetch_or fetch_and fetch_xor fetch_max fetch_min,
    AtomicU64 u64: fetch_add fetch_sub fetch_or fetch_and fetch_xor fetch_max fetch_min,
    AtomicUsize usize: fetch_add fetch_sub fetch_or fetch_and fetch_xor fetch_max fetch_min
);
