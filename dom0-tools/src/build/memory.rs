//! The memory of a domain under construction: allocates frames, and writes to them in batches of mapped pages.

use alloc::vec::Vec;

use crate::hyper::memory::{self, MAX_BATCH};
use crate::hyper::{CallError, DomId, Hypercalls, Mfn, PAGE, Pfn};

use super::layout::Span;
use super::{BuildError, Progress};
use crate::hyper::memory::Place;

/// log2 of the number of pages in a large extent (2 MiB).
const LARGE_ORDER: u32 = 9;
const LARGE: u64 = 1 << LARGE_ORDER;
/// Maximum number of large extents in one call; of single pages it is `MAX_BATCH`.
const LARGE_BATCH: u64 = 32;

/// The memory of a domain while it is built.
pub(super) struct DomainMemory<'h, H: Hypercalls + ?Sized> {
    pub(super) hypercalls: &'h mut H,
    pub(super) dom: DomId,
    /// The machine frame of each page.
    pub(super) frames: Vec<Mfn>,
}

impl<'h, H: Hypercalls + ?Sized> DomainMemory<'h, H> {
    /// Allocates `pages` frames for a domain, in large extents as long as there are any. The frame of page `low`, if there
    /// is one, lies below 4 GiB.
    pub(super) fn allocate(
        hypercalls: &'h mut H,
        dom: DomId,
        pages: u64,
        low: Option<Pfn>,
        progress: &mut dyn Progress,
    ) -> Result<Self, BuildError> {
        let mut frames: Vec<Mfn> = Vec::new();
        let fits =
            usize::try_from(pages).is_ok_and(|pages| frames.try_reserve_exact(pages).is_ok());
        if !fits {
            return Err(BuildError::TooLarge { pages });
        }
        let mut memory = DomainMemory {
            hypercalls,
            dom,
            frames,
        };
        // Large extents come first. When the hypervisor has none left, the rest is single pages.
        let mut large = true;
        while (memory.frames.len() as u64) < pages {
            progress.memory(memory.frames.len() as u64, pages);
            let next = memory.frames.len() as u64;
            let missing = match low {
                Some(Pfn(low)) if low > next => low.min(pages) - next,
                _ => pages - next,
            };
            let given = if low == Some(Pfn(next)) {
                memory.extend(1, 0, Place::Below4Gib)?
            } else if large && missing >= LARGE {
                let extents = (missing / LARGE).min(LARGE_BATCH);
                memory.extend(extents, LARGE_ORDER, Place::Anywhere)?
            } else {
                memory.extend(missing.min(MAX_BATCH as u64), 0, Place::Anywhere)?
            };
            if given == 0 && (!large || missing < LARGE) {
                return Err(BuildError::OutOfMemory {
                    have: memory.frames.len() as u64,
                    want: pages,
                });
            }
            large &= given > 0;
        }
        Ok(memory)
    }

    /// Requests `count` more extents; returns the number that the hypervisor had memory for.
    fn extend(&mut self, count: u64, order: u32, place: Place) -> Result<u64, CallError> {
        let next = self.frames.len() as u64;
        let first: Vec<Pfn> = (0..count)
            .map(|extent| Pfn(next + (extent << order)))
            .collect();
        let given = match memory::populate(self.hypercalls, self.dom, &first, order, place) {
            Ok(given) => given,
            Err(error) if error.errno == guest_pv_abi::errno::ENOMEM => Vec::new(),
            Err(error) => return Err(error),
        };
        for extent in &given {
            self.frames
                .extend((0..1 << order).map(|page| Mfn(extent.0 + page)));
        }
        Ok(given.len() as u64)
    }

    /// The machine frame of a page.
    pub(super) fn frame(&self, pfn: Pfn) -> Result<Mfn, BuildError> {
        let frame = usize::try_from(pfn.0)
            .ok()
            .and_then(|at| self.frames.get(at));
        frame.copied().ok_or(BuildError::Planner)
    }

    /// Writes the pages of a span: `bytes` at its start, then zeros.
    pub(super) fn write(&mut self, span: Span, bytes: &[u8]) -> Result<(), BuildError> {
        self.write_at(span, 0, Head::Clear, bytes)
    }

    /// Writes the pages of a span: `bytes` from `offset` on, then zeros.
    pub(super) fn write_at(
        &mut self,
        span: Span,
        offset: usize,
        head: Head,
        bytes: &[u8],
    ) -> Result<(), BuildError> {
        let mut place = 0;
        let first = usize::try_from(span.first.0).map_err(|_| BuildError::Planner)?;
        let frames = self
            .frames
            .get(first..)
            .and_then(|rest| rest.get(..span.pages as usize));
        for frames in frames.ok_or(BuildError::Planner)?.chunks(MAX_BATCH) {
            self.hypercalls
                .with_frames(self.dom, frames, &mut |window| {
                    fill(window, place, offset, head, bytes)
                })
                .map_err(CallError::of("map the domain's memory"))?;
            place += frames.len() * PAGE;
        }
        Ok(())
    }
}

/// What happens to the part of a span before the bytes that are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Head {
    /// The part is cleared to zero.
    Clear,
    /// The part was written before and is kept.
    Keep,
}

/// Writes the part of `bytes` that falls into `window`. In the span, `window` begins at `place`
/// and `bytes` at `offset`.
fn fill(window: &mut [u8], place: usize, offset: usize, head: Head, bytes: &[u8]) {
    let zeros_before = offset.saturating_sub(place).min(window.len());
    let (before, rest) = window.split_at_mut(zeros_before);
    if head == Head::Clear {
        before.fill(0);
    }
    let from = (place + zeros_before).saturating_sub(offset);
    let data = bytes.get(from..).unwrap_or_default();
    let len = data.len().min(rest.len());
    let (copied, after) = rest.split_at_mut(len);
    copied.copy_from_slice(data.get(..len).unwrap_or_default());
    after.fill(0);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn windows_join_to_the_whole(offset in 0_usize..300, len in 0_usize..600, chunk in 1_usize..200) {
            let bytes: Vec<u8> = (0..len).map(|n| n as u8 | 1).collect();
            let mut whole = alloc::vec![0xee; 1000];
            for (number, window) in whole.chunks_mut(chunk).enumerate() {
                fill(window, number * chunk, offset, Head::Clear, &bytes);
            }
            prop_assert!(whole[..offset].iter().all(|&byte| byte == 0));
            prop_assert_eq!(&whole[offset..offset + len], &bytes[..]);
            prop_assert!(whole[offset + len..].iter().all(|&byte| byte == 0));
        }
    }
}
