//! Takes apart the frames of a dying domain.

use super::leaving::Next;
use super::{DomainPages, Memory, Progress, Types, Work};

impl<M: Memory> Types<M> {
    /// Takes the frames of a dying domain from it, one by one: drops pins, partial tables, and the references
    /// of the page list. Before this, the domain's vCPUs have dropped their roots, descriptor pages and
    /// registered areas. When this is complete, the frames that are left are mapped by other domains, and are
    /// freed when these unmap them.
    ///
    /// On [`Progress::Again`], call this again with the same `work`.
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
        // Tables that were put aside may have been passed over above, because other tables still named them.
        self.finish(work)
    }
}
