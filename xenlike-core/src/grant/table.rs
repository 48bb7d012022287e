//! The granter's half: shared frames of entries, and who uses which entry.

use crate::kit::atomic::Ordering::{Relaxed, SeqCst};
use crate::kit::atomic::{AtomicU16, AtomicU32};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::entry::{self, Use};
use super::handles::Handles;
use super::{Access, ENTRIES_PER_FRAME, GrantError};
use crate::kit::{Bounded, DomId, Lock, Mfn, Rank, SharedWords};
use crate::mm::heap;

/// Bytes of a version 1 entry, and where the frame is in it.
const ENTRY_BYTES: u32 = 8;
const FRAME_OFFSET: u32 = 4;

/// The sizes of a table, fixed when its domain is created.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Largest number of shared frames.
    pub grant_frames: u32,
    /// Largest number of blocks of handles ([`super::HANDLES_PER_FRAME`] each).
    pub maptrack_frames: u32,
}

/// One domain's grants: given, and taken. `P` is the handle on a page shared with the guest.
pub struct Table<P> {
    dom: AtomicU16,
    max_frames: u32,
    pub(super) entries: Lock<Entries<P>>,
    pub(super) handles: Lock<Handles<P>>,
}

/// The entries that a domain gives.
pub(super) struct Entries<P> {
    frames: Vec<EntryFrame<P>>,
    dying: bool,
}

/// A shared frame; the page goes when the domain dies, the uses only when the last handle goes.
pub(super) struct EntryFrame<P> {
    pub page: Option<P>,
    pub active: Box<[Active]>,
}

/// One entry: its words, flags and frame, while the page is there, and its uses.
struct Entry<'a> {
    words: Option<[&'a AtomicU32; 2]>,
    active: &'a mut Active,
}

/// The uses of one entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Active {
    /// The granted frame, read when the first use began.
    pub mfn: Mfn,
    /// Who uses it.
    pub user: DomId,
    /// Number of read-only uses.
    pub readers: u32,
    /// Number of writable uses.
    pub writers: u32,
}

impl Active {
    const UNUSED: Self = Self {
        mfn: Mfn::INVALID,
        user: DomId::INVALID,
        readers: 0,
        writers: 0,
    };

    pub fn is_unused(&self) -> bool {
        self.readers == 0 && self.writers == 0
    }
    fn count(&mut self, access: Access) -> &mut u32 {
        match access {
            Access::Read => &mut self.readers,
            Access::Write => &mut self.writers,
        }
    }
}

impl<P: SharedWords> Table<P> {
    /// An empty table for domain `dom`.
    ///
    /// # Errors
    /// [`GrantError::NoSpace`] if the hypervisor has no memory.
    pub fn new(dom: DomId, limits: Limits) -> Result<Arc<Self>, GrantError> {
        Ok(Arc::new(Self {
            dom: AtomicU16::new(dom.0),
            max_frames: limits.grant_frames,
            entries: Lock::new(
                Rank::GrantEntries,
                Entries {
                    frames: Vec::new(),
                    dying: false,
                },
            ),
            handles: Lock::new(Rank::GrantHandles, Handles::new(limits.maptrack_frames)),
        }))
    }

    /// The domain whose table this is.
    pub fn dom(&self) -> DomId {
        DomId(self.dom.load(Relaxed))
    }

    /// The domain's id changes: once, when the boot domain becomes domain 0, before it has more than the first frame.
    pub fn rename(&self, dom: DomId) {
        self.dom.store(dom.0, Relaxed);
    }

    /// Number of shared frames now, and at most (`GNTTABOP_query_size`).
    pub fn size(&self) -> (u32, u32) {
        (self.entries.lock().frames.len() as u32, self.max_frames)
    }

    /// Grows the table to at least `frames` shared frames, each made by `new_page`.
    ///
    /// # Errors
    /// [`GrantError::General`] if that is more than the limit, or there is no memory.
    pub fn grow(
        &self,
        frames: u32,
        mut new_page: impl FnMut() -> Option<P>,
    ) -> Result<(), GrantError> {
        if frames > self.max_frames {
            return Err(GrantError::General);
        }
        let mut entries = self.entries.lock();
        while (entries.frames.len() as u32) < frames {
            if entries.dying {
                return Err(GrantError::General);
            }
            if !heap::can_grow(
                u64::from(ENTRIES_PER_FRAME).saturating_mul(size_of::<Active>() as u64),
            ) {
                return Err(GrantError::General);
            }
            let mut active = Vec::new();
            let room = active.try_reserve_exact(ENTRIES_PER_FRAME as usize);
            room.and_then(|()| entries.frames.try_reserve(1))
                .map_err(|_| GrantError::General)?;
            active.resize(ENTRIES_PER_FRAME as usize, Active::UNUSED);
            let page = Some(new_page().ok_or(GrantError::General)?);
            entries.frames.push(EntryFrame {
                page,
                active: active.into_boxed_slice(),
            });
        }
        Ok(())
    }

    /// What `with` makes of the shared frame number `n`, if there is one.
    pub fn with_frame<R>(&self, n: u32, with: impl FnOnce(&P) -> R) -> Option<R> {
        self.entries
            .lock()
            .frames
            .get(n as usize)?
            .page
            .as_ref()
            .map(with)
    }

    /// Exchanges what two entries say (`GNTTABOP_swap_grant_ref`).
    ///
    /// # Errors
    /// [`GrantError::BadRef`]; [`GrantError::Busy`] if one is in use.
    pub fn swap(&self, a: u32, b: u32) -> Result<(), GrantError> {
        let mut entries = self.entries.lock();
        let used = |active: &mut Active| !active.is_unused();
        if used(entries.active(a)?) | used(entries.active(b)?) {
            return Err(GrantError::Busy);
        }
        for offset in [0, FRAME_OFFSET] {
            let (a, b) = (entries.word(a, offset)?, entries.word(b, offset)?);
            let was = a.swap(b.load(SeqCst), SeqCst);
            b.store(was, SeqCst);
        }
        Ok(())
    }

    /// Stops being a granter: the shared pages go. Uses that others have remain theirs to end.
    pub fn retire(&self) {
        let mut entries = self.entries.lock();
        entries.dying = true;
        for frame in &mut entries.frames {
            frame.page = None;
        }
    }

    /// Begins a use of entry `r` by `user`; returns the granted frame.
    pub(super) fn pin(
        &self,
        r: u32,
        user: DomId,
        access: Access,
        use_: Use,
    ) -> Result<Mfn, GrantError> {
        let mut entries = self.entries.lock();
        let Entry { words, active } = entries.entry(r)?;
        let [flags, frame] = words.ok_or(GrantError::BadRef)?;
        let unused = active.is_unused();
        if !unused && active.user != user {
            return Err(GrantError::General);
        }
        // The word shows a writer already when there is one; to claim again would only fail more often.
        if unused || access == Access::Write && active.writers == 0 {
            entry::claim(flags, user, access, use_)?;
        }
        if unused {
            *active = Active {
                mfn: Mfn(u64::from(frame.load(SeqCst))),
                user,
                ..Active::UNUSED
            };
        }
        let count = active.count(access);
        *count = count.checked_add(1).ok_or(GrantError::General)?;
        Ok(active.mfn)
    }

    /// Ends a use of entry `r`.
    pub(super) fn unpin(&self, r: u32, access: Access) {
        let mut entries = self.entries.lock();
        let Ok(Entry { words, active }) = entries.entry(r) else {
            return;
        };
        let count = active.count(access);
        *count = count.saturating_sub(1);
        if let Some([flags, _]) = words {
            entry::unclaim(flags, active.readers, active.writers);
        }
        if active.is_unused() {
            *active = Active::UNUSED;
        }
    }

    /// Commits entry `r` to taking a frame from `from` (`GNTTABOP_transfer`).
    pub(super) fn commit(&self, r: u32, from: DomId) -> Result<(), GrantError> {
        let entries = self.entries.lock();
        entry::commit_transfer(entries.word(r, 0)?, from)
    }

    /// The pseudo-physical frame number that the granter wrote into entry `r`.
    pub(super) fn frame_word(&self, r: u32) -> Option<u32> {
        Some(self.entries.lock().word(r, FRAME_OFFSET).ok()?.load(SeqCst))
    }

    /// Tells the granter that `mfn` has arrived at entry `r`.
    pub(super) fn complete(&self, r: u32, mfn: Mfn) {
        let entries = self.entries.lock();
        if let (Ok(word), Ok(frame)) = (entries.word(r, 0), entries.word(r, FRAME_OFFSET)) {
            frame.store(mfn.0 as u32, SeqCst);
            entry::complete_transfer(word);
        }
    }

    #[cfg(test)]
    pub(super) fn uses(&self, r: u32) -> Option<Active> {
        self.entries.lock().peek(r).ok()
    }
}

impl<P: SharedWords> Entries<P> {
    fn frame(&self, r: u32) -> Result<&EntryFrame<P>, GrantError> {
        self.frames
            .bounded((r / ENTRIES_PER_FRAME) as usize)
            .ok_or(GrantError::BadRef)
    }
    fn word(&self, r: u32, offset: u32) -> Result<&AtomicU32, GrantError> {
        let at = (r % ENTRIES_PER_FRAME)
            .wrapping_mul(ENTRY_BYTES)
            .wrapping_add(offset);
        let page = self.frame(r)?.page.as_ref().ok_or(GrantError::BadRef)?;
        page.u32(at as usize).ok_or(GrantError::BadRef)
    }
    #[cfg(feature = "audit")]
    pub fn frames(&self) -> &[EntryFrame<P>] {
        &self.frames
    }
    #[cfg(any(test, feature = "audit"))]
    pub fn peek(&self, r: u32) -> Result<Active, GrantError> {
        let found = self.frame(r)?.active.get((r % ENTRIES_PER_FRAME) as usize);
        found.copied().ok_or(GrantError::BadRef)
    }
    fn entry(&mut self, r: u32) -> Result<Entry<'_>, GrantError> {
        let frame = self.frames.bounded_mut((r / ENTRIES_PER_FRAME) as usize);
        let EntryFrame { page, active } = frame.ok_or(GrantError::BadRef)?;
        let n = (r % ENTRIES_PER_FRAME) as usize;
        let at = n.wrapping_mul(ENTRY_BYTES as usize);
        let words = page.as_ref().and_then(|page| {
            Some([
                page.u32(at)?,
                page.u32(at.wrapping_add(FRAME_OFFSET as usize))?,
            ])
        });
        let active = active.get_mut(n).ok_or(GrantError::BadRef)?;
        Ok(Entry { words, active })
    }
    fn active(&mut self, r: u32) -> Result<&mut Active, GrantError> {
        let frame = self.frames.bounded_mut((r / ENTRIES_PER_FRAME) as usize);
        let active = frame.and_then(|f| f.active.get_mut((r % ENTRIES_PER_FRAME) as usize));
        active.ok_or(GrantError::BadRef)
    }
}
