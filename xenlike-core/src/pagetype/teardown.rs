//! Taking apart what a dying domain has.

use super::leaving::Next;
use super::{DomainPages, Memory, Progress, Types, Work};

impl<M: Memory> Types<M> {
    /// Takes the frames of a dying domain from it, one by one: pins, half-done tables, and the page
    /// list's own references. Before this, the domain's vCPUs have given up their roots, descriptor
    /// pages and registered areas. When it is done, what the domain still has is mapped by others,
    /// and goes when they let go.
    ///
    /// [`Progress::Again`]: call it again, with the same `work`.
    pub fn relinquish(&self, pages: &DomainPages, work: &mut Work) -> Progress {
        debug_assert!(pages.is_dying());
        if self.finish(work) == Progress::Again {
            return Progress::Again;
        }
        let mut since_check = 0u32;
        let mut leaving = self.leaving(pages);
        while let Some(next) = self.next_to_leave(pages, &mut leaving) {
            let mut progress = Progress::Done;
            if let Next::Held(page) = next {
                progress = self.let_go(page.mfn(), page.frame(), work);
                if progress == Progress::Again {
                    self.stay(pages, &page);
                }
            }
            since_check = since_check.wrapping_add(1);
            if progress == Progress::Again || (since_check.is_multiple_of(64) && self.0.preempt()) {
                return Progress::Again;
            }
        }
        // Tables that were left aside may have been passed by above, while others still named them.
        self.finish(work)
    }
}
