//! What every room needs: address and id types, locks, set-once values.

pub mod addr;
pub mod cell;
pub mod cpuset;
pub mod heap;
pub mod ids;
pub mod lock;
pub mod words;

pub use addr::{Maddr, Mfn, PAGE_SHIFT, PAGE_SIZE, Pfn, Vaddr};
pub use cpuset::{AtomicCpuSet, CpuSet};
pub use ids::{CpuId, DomId, MAX_CPUS, Port, VcpuId};
pub use lock::{Lock, Once, RwLock};
pub use words::SharedWords;
