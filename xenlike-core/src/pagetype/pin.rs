//! Pins: references to page tables that the guest requests, rather than those of entries.

use super::{Memory, PageType, Refused, Types, Work};
use crate::kit::{DomId, Mfn};
use crate::mm::frame::State;

impl<M: Memory> Types<M> {
    /// Pins a frame of `owner` as a table of `level`. It keeps that type until it is unpinned, whether it is in
    /// use or not (MMUEXT_PIN_Ln_TABLE).
    pub fn pin(&self, mfn: Mfn, level: u32, owner: DomId, work: &mut Work) -> Result<(), Refused> {
        let ty = PageType::table(level).ok_or(Refused::Invalid)?;
        let pages = self.0.domain(owner).filter(|pages| !pages.is_dying());
        let pages = pages.ok_or(Refused::Invalid)?;
        self.get_page_and_type(mfn, owner, ty, work)?;
        let frame = self.0.frame(mfn).ok_or(Refused::Invalid)?;
        // Done while this call still owns the references. Once the frame is pinned, any CPU may unpin it
        // and drop them.
        self.note_pinned(&pages, mfn, frame);
        let mut state = frame.load();
        loop {
            if state.has(State::PINNED) {
                let _ = self.put_page_and_type(mfn, work);
                return Err(Refused::Invalid);
            }
            match frame.change(state, state.0 | State::PINNED) {
                Ok(()) => break,
                Err(now) => state = now,
            }
        }
        // The destruction of the domain may have passed this frame meanwhile.
        if pages.is_dying() && self.clear_flag(frame, State::PINNED) {
            let _ = self.put_page_and_type(mfn, work);
        }
        Ok(())
    }

    /// Unpins a frame of `owner` (MMUEXT_UNPIN_TABLE).
    pub fn unpin(&self, mfn: Mfn, owner: DomId, work: &mut Work) -> Result<(), Refused> {
        let page = self.get_page(mfn, owner).ok_or(Refused::Invalid)?;
        if !self.clear_flag(page.frame(), State::PINNED) {
            return Err(Refused::Invalid);
        }
        let _ = self.put_page_and_type(mfn, work);
        Ok(())
    }
}
