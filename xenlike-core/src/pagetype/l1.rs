//! The references of an L1 entry: one to the page that it maps, and a writable type reference if the
//! mapping is writable.

use super::pte::CacheChoice;
use super::shape::Shape;
use super::{IoAccess, Memory, PageType, Pte, Refused, Types};
use crate::kit::DomId;
use crate::mm::Frame;
use crate::mm::frame::State;

/// Whether the frame is in use as a page of descriptors.
#[inline(always)] // on the path of every entry
const fn has_descriptors(state: State) -> bool {
    state.type_bits() == PageType::SegDesc as u64 && state.type_refs() > 0
}

impl<M: Memory> Types<M> {
    /// Takes the references of an L1 entry in a table of `table_owner` and of this shape that names a frame of `page_owner`.
    /// Returns the entry as it is to be stored. If `page_owner` is [`DomId::IO`], only I/O memory is allowed.
    #[inline]
    pub(super) fn get_l1(
        &self,
        shape: Shape,
        pte: Pte,
        table_owner: DomId,
        page_owner: DomId,
    ) -> Result<Pte, Refused> {
        if !pte.is_present() {
            return self.check_absent(1, table_owner, pte).map(|()| pte);
        }
        let allowed = pte.l1_flags_ok(CacheChoice::WriteBack)
            || (pte.l1_flags_ok(CacheChoice::Free) && self.0.has_device_rights(table_owner));
        if !allowed {
            return Err(Refused::Invalid);
        }
        let Some(frame) = self.0.frame(pte.mfn()) else {
            return self.get_io(shape, pte, table_owner, page_owner);
        };
        if !self.take_mapping(pte, frame, page_owner) {
            if !pte.is_writable() {
                return Err(Refused::Busy);
            }
            let page = self.get_writable(pte.mfn(), page_owner);
            page.ok_or(Refused::Busy)?.keep();
        }
        Ok(shape.stored(pte.cached()))
    }

    /// Drops the references of a stored L1 entry.
    #[inline(always)] // on the path of every entry
    pub(super) fn put_l1(&self, pte: Pte) {
        if pte.is_present()
            && let Some(frame) = self.0.entry(pte.mfn())
        {
            self.put_mapping(pte, frame);
        }
    }

    /// Like [`Self::put_l1`], for a present entry that maps `frame`, whether it is RAM or not.
    #[inline(always)] // on the path of every entry
    pub(super) fn put_mapping(&self, pte: Pte, frame: &Frame) {
        let mfn = pte.mfn();
        #[cfg(feature = "audit")]
        self.note_unmapped_entry(pte, frame);
        if pte.is_writable() {
            return self.put_writable(mfn, frame);
        }
        if has_descriptors(frame.load()) {
            self.tell_segdesc_unmapped(frame);
        }
        self.put_frame(mfn, frame);
    }

    /// Like [`Self::put_l1`], for an entry of a table that goes as a whole: it sets `told` instead of emptying windows, for
    /// the caller to do once. Until then a window may show a page that is no longer in its place, with references of its
    /// own.
    #[inline(always)] // on the path of every entry
    pub(super) fn put_l1_of_many(&self, pte: Pte, told: &mut bool) {
        let mfn = pte.mfn();
        let Some(frame) = self.0.entry(mfn).filter(|_| pte.is_present()) else {
            return;
        };
        #[cfg(feature = "audit")]
        self.note_unmapped_entry(pte, frame);
        if pte.is_writable() {
            return self.put_writable(mfn, frame);
        }
        *told |= has_descriptors(frame.load());
        self.put_frame(mfn, frame);
    }

    #[cfg(feature = "audit")]
    fn note_unmapped_entry(&self, pte: Pte, frame: &Frame) {
        use crate::mm::stale::audit::Sort::{ReadOnly, Writable};
        let sort = if pte.is_writable() {
            Writable
        } else {
            ReadOnly
        };
        self.0.note_unmapped(pte.mfn(), frame, sort);
    }

    #[cold]
    fn tell_segdesc_unmapped(&self, frame: &Frame) {
        self.0.segdesc_unmapped(frame.owner());
    }

    /// Like [`Self::get_l1`], for addresses outside RAM. No references are taken, but both domains need the
    /// right to the frame.
    #[inline(never)]
    fn get_io(
        &self,
        shape: Shape,
        pte: Pte,
        table_owner: DomId,
        page_owner: DomId,
    ) -> Result<Pte, Refused> {
        let mut access = self.0.io_access(table_owner, pte.mfn());
        if page_owner != DomId::IO && page_owner != table_owner {
            access = access.min(self.0.io_access(page_owner, pte.mfn()));
        }
        match access {
            IoAccess::Nothing => Err(Refused::NotPermitted),
            IoAccess::Read => Ok(shape.stored(pte.read_only())),
            IoAccess::All => Ok(shape.stored(pte)),
        }
    }
}
