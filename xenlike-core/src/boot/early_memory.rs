//! [`Ranges`]: the memory that is free before the frame allocator exists, and allocation from it.

use alloc::vec::Vec;

use super::info::{Range, Region, is_ram};
use crate::kit::{Maddr, PAGE_SIZE};

const PAGE: u64 = PAGE_SIZE as u64;

/// Ranges of whole frames, sorted and disjoint.
#[derive(Clone, Debug, Default)]
pub struct Ranges(Vec<Range>);

impl Ranges {
    /// The RAM of the machine: the regions of that kind, without what another region claims too.
    pub fn ram(map: &[Region]) -> Self {
        let mut ranges = Self::default();
        for region in map.iter().filter(|r| is_ram(r)) {
            ranges.add(Range {
                start: region.range.start.next_multiple_of(PAGE),
                end: region.range.end / PAGE * PAGE,
            });
        }
        for region in map.iter().filter(|r| !is_ram(r)) {
            ranges.remove(region.range);
        }
        ranges
    }
    /// The ranges in ascending order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = Range> {
        self.0.iter().copied()
    }
    /// The total size in bytes.
    pub fn bytes(&self) -> u64 {
        self.iter().map(|r| r.end - r.start).sum()
    }
    /// Adds a range. A part of it that is there already isn't added twice.
    fn add(&mut self, range: Range) {
        self.remove(range);
        if range.start < range.end {
            let at = self
                .0
                .iter()
                .position(|r| r.start >= range.end)
                .unwrap_or(self.0.len());
            self.0.insert(at, range);
        }
    }
    /// Removes all frames that `gone` overlaps.
    pub fn remove(&mut self, gone: Range) {
        if gone.start >= gone.end {
            return;
        }
        let gone = Range {
            start: gone.start / PAGE * PAGE,
            end: gone.end.saturating_add(PAGE - 1) / PAGE * PAGE,
        };
        let mut at = 0;
        while let Some(range) = self.0.get(at).copied() {
            let (before, behind) = (
                Range {
                    start: range.start,
                    end: range.end.min(gone.start),
                },
                Range {
                    start: range.start.max(gone.end),
                    end: range.end,
                },
            );
            self.0.remove(at);
            for piece in [before, behind] {
                if piece.start < piece.end {
                    self.0.insert(at, piece);
                    at += 1;
                }
            }
        }
    }
    /// Allocates `bytes` (a multiple of the page size), aligned to `align`, as high as possible below `limit`.
    pub fn take(&mut self, bytes: u64, align: u64, limit: u64) -> Option<Maddr> {
        let fit = |range: Range| {
            let start = range.end.min(limit).checked_sub(bytes)? / align * align;
            (start >= range.start).then_some(start)
        };
        let start = self.iter().rev().find_map(fit)?;
        self.remove(Range {
            start,
            end: start + bytes,
        });
        Some(Maddr(start))
    }
    /// The part of `whole` that is not in these ranges.
    pub fn missing_from(&self, whole: &Self) -> Self {
        let mut rest = whole.clone();
        for range in self.iter() {
            rest.remove(range);
        }
        rest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region(start: u64, end: u64, kind: u32) -> Region {
        Region {
            range: Range { start, end },
            kind,
        }
    }

    fn pairs(ranges: &Ranges) -> Vec<(u64, u64)> {
        ranges.iter().map(|r| (r.start, r.end)).collect()
    }

    #[test]
    fn reserved_wins_over_ram() {
        let map = [
            region(0, 0x9fc00, 1),
            region(0x10_0000, 0x800_0000, 1),
            region(0x200_0800, 0x200_1800, 0x14),
            region(0x700_0000, 0x900_0000, 2),
        ];
        let ram = Ranges::ram(&map);
        assert_eq!(
            pairs(&ram),
            [
                (0, 0x9f000),
                (0x10_0000, 0x200_0000),
                (0x200_2000, 0x700_0000)
            ]
        );
    }

    #[test]
    fn takes_from_the_top() {
        let mut ram = Ranges::ram(&[
            region(0x10_0000, 0x100_0000, 1),
            region(0x200_0000, 0x200_3000, 1),
        ]);
        let whole = ram.clone();
        assert_eq!(ram.take(0x1000, 0x1000, u64::MAX), Some(Maddr(0x200_2000)));
        assert_eq!(
            ram.take(0x20_0000, 0x20_0000, u64::MAX),
            Some(Maddr(0xe0_0000))
        );
        assert_eq!(ram.take(0x1000, 0x1000, 0x80_0000), Some(Maddr(0x7f_f000)));
        assert_eq!(ram.take(1 << 30, 0x1000, u64::MAX), None);
        let used = ram.missing_from(&whole);
        assert_eq!(
            pairs(&used),
            [
                (0x7f_f000, 0x80_0000),
                (0xe0_0000, 0x100_0000),
                (0x200_2000, 0x200_3000)
            ]
        );
    }
}
