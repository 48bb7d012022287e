//! The machine's memory map (E820) from its firmware, for the domain that drives the
//! hardware (XENMEM_machine_memory_map).

use alloc::vec::Vec;

use crate::kit::Once;

/// A range of machine addresses and its type.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Region {
    /// The address of the first byte.
    pub start: u64,
    /// The number of bytes.
    pub bytes: u64,
    /// The type in E820: 1 RAM, 2 reserved, 3 ACPI tables, 4 ACPI non-volatile, 5 defective.
    pub kind: u32,
}

static MAP: Once<Vec<Region>> = Once::new();

/// Sets the map. Called by boot, once the heap works.
pub fn set(map: Vec<Region>) {
    MAP.call_once(|| map);
}

/// Returns the map; empty until boot has set it.
pub fn get() -> &'static [Region] {
    MAP.get().map_or(&[], |map| map.as_slice())
}
