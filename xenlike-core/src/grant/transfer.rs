//! Giving a frame away permanently (`GNTTABOP_transfer`): the receiver's half. The caller takes the frame from
//! its owner and charges the receiver.

use super::{GrantError, Table};
use crate::kit::{DomId, Mfn, Pfn, SharedWords};

impl<P: SharedWords> Table<P> {
    /// Commits entry `r` to accepting a frame from `from`. The receiver waits for the transfer from now on.
    ///
    /// # Errors
    /// [`GrantError::General`] if the entry doesn't accept a frame, [`GrantError::BadRef`] if there is
    /// no such entry.
    pub fn begin_transfer(&self, r: u32, from: DomId) -> Result<(), GrantError> {
        self.commit(r, from)
    }

    /// Tells the receiver that it owns `mfn` now. Returns the pseudo-physical frame number at which it
    /// wants the frame.
    pub fn finish_transfer(&self, r: u32, mfn: Mfn) -> Option<Pfn> {
        let pfn = self.frame_word(r).map(Pfn);
        self.complete(r, mfn);
        pfn
    }
}
