//! Turns the firmware's memory map into one that can be relied on: sorted, without overlaps, and without
//! neighbours of the same kind.
//!
//! Firmware reports overlapping regions, and UEFI describes memory in hundreds of pieces. Memory that two regions claim
//! gets the more restrictive kind, so that no memory of the firmware is taken for free.
#![forbid(unsafe_code)]

use alloc::vec::Vec;

use super::info::{Range, Region};
use crate::mm::layout::{DIRECT_MAP, DIRECT_MAP_END};

const RAM: u32 = 1;
const RESERVED: u32 = 2;
const ACPI_TABLES: u32 = 3;
const ACPI_NON_VOLATILE: u32 = 4;
const DEFECTIVE: u32 = 5;

/// The end of the machine memory that the direct map reaches.
pub const MEMORY_LIMIT: u64 = DIRECT_MAP_END - DIRECT_MAP;

/// How restrictive a kind is. An operating system may use the memory of ACPI tables once it has read them, and must
/// preserve ACPI's non-volatile memory. Kinds without a name here are reserved, and keep their number.
fn restriction(kind: u32) -> u64 {
    match kind {
        RAM => 0,
        ACPI_TABLES => 1,
        ACPI_NON_VOLATILE => 2,
        RESERVED => 3,
        DEFECTIVE => u64::MAX,
        other => 4 + u64::from(other),
    }
}

/// The same memory as `regions` describe: sorted, merged, and without overlaps.
pub fn tidy(regions: &[Region]) -> Vec<Region> {
    let mut borders: Vec<u64> = regions
        .iter()
        .filter(|region| region.range.start < region.range.end)
        .flat_map(|region| [region.range.start, region.range.end])
        .collect();
    borders.sort_unstable();
    borders.dedup();
    let mut tidy: Vec<Region> = Vec::new();
    for (&start, &end) in borders.iter().zip(borders.iter().skip(1)) {
        let here = |region: &&Region| region.range.start <= start && end <= region.range.end;
        let kinds = regions.iter().filter(here).map(|region| region.kind);
        let Some(kind) = kinds.max_by_key(|kind| restriction(*kind)) else {
            continue;
        };
        match tidy.last_mut() {
            Some(last) if last.kind == kind && last.range.end == start => last.range.end = end,
            _ => tidy.push(Region {
                range: Range { start, end },
                kind,
            }),
        }
    }
    tidy
}

/// Makes RAM from `limit` on reserved; returns its size in bytes. It stays in the map, so that no device is put there.
pub fn clip(map: &mut Vec<Region>, limit: u64) -> u64 {
    let clipped = |region: &Region| Range {
        start: region.range.start.max(limit),
        end: region.range.end,
    };
    let beyond: Vec<Region> = map
        .iter()
        .filter(|region| region.kind == RAM && region.range.end > limit)
        .map(|region| Region {
            range: clipped(region),
            kind: RESERVED,
        })
        .collect();
    map.extend_from_slice(&beyond);
    *map = tidy(map);
    beyond
        .iter()
        .map(|region| region.range.end - region.range.start)
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn region(start: u64, end: u64, kind: u32) -> Region {
        Region {
            range: Range { start, end },
            kind,
        }
    }

    /// The kind of the byte at `at`: the most restrictive one that any region claims.
    fn kind_at(map: &[Region], at: u64) -> Option<u32> {
        let here = map
            .iter()
            .filter(|r| r.range.start <= at && at < r.range.end);
        here.map(|r| r.kind).max_by_key(|kind| restriction(*kind))
    }

    proptest! {
        #[test]
        fn each_byte_keeps_its_most_restrictive_kind(
            pieces in proptest::collection::vec((0u64..60, 0u64..20, 1u32..8), 0..20),
            limit in 0u64..70,
        ) {
            let map: Vec<Region> = pieces.iter().map(|(start, bytes, kind)| region(*start, start + bytes, *kind)).collect();
            let mut tidy = tidy(&map);
            let clipped = clip(&mut tidy, limit);
            let ram = (limit..80).filter(|at| kind_at(&map, *at) == Some(RAM)).count();
            prop_assert_eq!(clipped, ram as u64);
            for at in 0..80 {
                let kind = match kind_at(&map, at) {
                    Some(RAM) if at >= limit => Some(RESERVED),
                    kind => kind,
                };
                prop_assert_eq!(kind_at(&tidy, at), kind);
            }
            for pair in tidy.windows(2) {
                let (a, b) = (pair[0], pair[1]);
                prop_assert!(a.range.end <= b.range.start, "sorted and apart");
                prop_assert!(a.range.end < b.range.start || a.kind != b.kind, "merged");
            }
            prop_assert!(tidy.iter().all(|r| r.range.start < r.range.end));
        }
    }

    #[test]
    fn a_server_with_many_pieces_keeps_its_high_memory() {
        let mib = 1 << 20;
        let mut map: Vec<Region> = (0..900)
            .map(|n| region(n * mib, (n + 1) * mib, if n % 2 == 0 { RAM } else { 7 }))
            .collect();
        map.reverse();
        map.push(region(1 << 32, 1 << 40, RAM));
        let tidy = tidy(&map);
        assert_eq!(tidy.len(), 901);
        assert_eq!(tidy.last(), Some(&region(1 << 32, 1 << 40, RAM)));
        assert_eq!(tidy.first(), Some(&region(0, mib, RAM)));
    }

    #[test]
    fn memory_that_the_direct_map_cannot_reach_is_not_ram() {
        let mut map = [
            region(0, 0xa_0000, RAM),
            region(1 << 42, (5 << 40) + (1 << 30), RAM),
            region(6 << 40, 7 << 40, RAM),
        ]
        .to_vec();
        assert_eq!(clip(&mut map, MEMORY_LIMIT), (1 << 30) + (1 << 40));
        let ram = super::super::early_memory::Ranges::ram(&map);
        assert_eq!(ram.iter().last().map(|r| r.end), Some(MEMORY_LIMIT));
    }

    #[test]
    fn sizes_that_wrap_end_at_the_last_byte() {
        let tidy = tidy(&[region(0, 1 << 20, RAM), region(1 << 63, u64::MAX, RESERVED)]);
        assert_eq!(tidy.len(), 2);
    }
}
