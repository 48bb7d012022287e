//! The machine's memory as its firmware told it (E820), for the domain that drives the hardware
//! (XENMEM_machine_memory_map).

use alloc::vec::Vec;

use crate::kit::Once;

/// A range of machine addresses and its kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Region {
    /// First byte.
    pub start: u64,
    /// Number of bytes.
    pub bytes: u64,
    /// E820's kind: 1 RAM, 2 reserved, 3 ACPI tables, 4 ACPI non-volatile, 5 defective.
    pub kind: u32,
}

static MAP: Once<Vec<Region>> = Once::new();

/// Tells the map; for boot, once the heap works.
pub fn set(map: Vec<Region>) {
    MAP.call_once(|| map);
}

/// The map; empty before it is told.
pub fn get() -> &'static [Region] {
    MAP.get().map_or(&[], |map| map.as_slice())
}
