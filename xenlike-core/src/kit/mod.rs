//! What every room needs: types for addresses, ids and sets, locks and cells, atomics. Uses no other room.

pub mod addr;
pub mod atomic;
pub mod atomic_ref;
pub mod cell;
pub mod cpuset;
pub mod id_table;
pub mod ids;
pub mod indexed_heap;
pub mod lock;
pub mod nospec;
pub mod rangeset;
pub mod words;

pub use addr::{Gfn, Maddr, Mfn, PAGE_SHIFT, PAGE_SIZE, Pfn, Vaddr};
pub use atomic_ref::AtomicRef;
pub use cpuset::{AtomicCpuSet, CpuSet};
pub use id_table::IdTable;
pub use ids::{CpuId, DomId, MAX_CPUS, Port, VcpuId};
pub use lock::{Lock, Once, Rank};
pub use nospec::Bounded;
pub use words::SharedWords;

/// The log target of messages about what a guest did. Guests' messages have log levels of their own.
pub const GUEST_LOG: &str = "guest";

/// The command line that the machine was booted with; boot sets it once.
pub static COMMAND_LINE: Once<&'static str> = Once::new();

/// The text of [`COMMAND_LINE`]; empty until boot has read it.
pub fn command_line() -> &'static str {
    COMMAND_LINE.get().copied().unwrap_or_default()
}
