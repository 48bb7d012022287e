//! Giving a frame away for good (`GNTTABOP_transfer`): the receiver's half. Taking the frame from its
//! owner and charging the receiver are the caller's.

use super::{GrantError, Table};
use crate::kit::{DomId, Mfn, Pfn, SharedWords};

impl<P: SharedWords> Table<P> {
    /// Commits entry `r` to taking a frame from `from`; the receiver waits from now on.
    ///
    /// # Errors
    /// [`GrantError::General`] if the entry does not accept one, [`GrantError::BadRef`] if there is none.
    pub fn begin_transfer(&self, r: u32, from: DomId) -> Result<(), GrantError> {
        self.commit(r, from)
    }

    /// The frame has changed hands: tells the receiver. Returns the place in its own numbering that it
    /// had asked for.
    pub fn finish_transfer(&self, r: u32, mfn: Mfn) -> Option<Pfn> {
        let pfn = self.frame_word(r).map(Pfn);
        self.complete(r, mfn);
        pfn
    }
}
