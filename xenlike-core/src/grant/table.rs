//! The granter's half: the shared frames of entries, and the uses of each entry.

use crate::kit::atomic::AtomicU16;
use crate::kit::atomic::Ordering::Relaxed;
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::entry::{Body, Grant, Use, Window, Words};
use super::handles::Handles;
use super::version::Version;
use super::{Access, GrantError};
use crate::kit::{Bounded, DomId, Gfn, Lock, Mfn, Rank, SharedWords};
use crate::mm::heap;

/// The maximum sizes of a table, fixed when its domain is created.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The maximum number of shared frames.
    pub grant_frames: u32,
    /// The maximum number of blocks of handles, with [`super::HANDLES_PER_FRAME`] handles each.
    pub maptrack_frames: u32,
    /// The newest version that the domain may choose.
    pub version: Version,
    /// Whether the domain's transitive grants can be used.
    pub transitive: bool,
}

/// One domain's table: the grants that it gives, and those that it uses. `P` is the handle of a page that is
/// shared with the guest.
pub struct Table<P> {
    dom: AtomicU16,
    pub(super) limits: Limits,
    pub(super) entries: Lock<Entries<P>>,
    pub(super) handles: Lock<Handles<P>>,
}

/// The entries of a granter.
pub(super) struct Entries<P> {
    pub version: Version,
    pub frames: Vec<EntryFrame<P>>,
    /// The pages of status words. Empty in version 1.
    pub status: Vec<P>,
    /// The number of entries in use.
    pub used: u32,
    dying: bool,
}

/// A shared frame of entries. The page is released when the domain is destroyed, but the uses remain until the
/// last handle is gone.
pub(super) struct EntryFrame<P> {
    pub page: Option<P>,
    /// The uses of each entry. Has room for the entries of version 1; with version 2, a frame has half as many.
    pub active: Box<[Active]>,
}

/// One entry: its uses, and its words as long as the page exists.
struct Entry<'a> {
    words: Option<Words<'a>>,
    active: &'a mut Active,
    /// The number of entries of the table that are in use.
    used: &'a mut u32,
}

/// The uses of one entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Active {
    /// The granted frame, read when the first use began; the reference, if the grant is transitive.
    frame: u64,
    /// The granted bytes; [`Window::NONE`] if the grant is transitive.
    window: Window,
    /// The domain to which a transitive grant leads.
    through: DomId,
    /// The domain that uses the entry.
    pub user: DomId,
    /// The number of read-only uses.
    pub readers: u32,
    /// The number of writable uses.
    pub writers: u32,
}

impl Active {
    const UNUSED: Self = Self {
        frame: Gfn::INVALID.0,
        window: Window::PAGE,
        through: DomId::INVALID,
        user: DomId::INVALID,
        readers: 0,
        writers: 0,
    };

    const fn new(grant: Grant, user: DomId) -> Self {
        let (frame, window, through) = match grant {
            Grant::Frame(gfn, window) => (gfn.0, window, DomId::INVALID),
            Grant::Through(dom, r) => (r as u64, Window::NONE, dom),
        };
        Self {
            frame,
            window,
            through,
            user,
            ..Self::UNUSED
        }
    }

    /// Returns what the entry grants.
    pub fn grant(&self) -> Grant {
        if self.window == Window::NONE {
            Grant::Through(self.through, self.frame as u32)
        } else {
            Grant::Frame(Gfn(self.frame), self.window)
        }
    }

    /// Returns the granted frame, if it can be mapped: not if the grant is of a part of a page or transitive.
    pub fn whole(&self) -> Option<Gfn> {
        (self.window == Window::PAGE).then_some(Gfn(self.frame))
    }

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
    /// Makes an empty table for domain `dom`.
    ///
    /// # Errors
    /// [`GrantError::NoSpace`] if the hypervisor has no memory.
    pub fn new(dom: DomId, limits: Limits) -> Result<Arc<Self>, GrantError> {
        Ok(Arc::new(Self {
            dom: AtomicU16::new(dom.0),
            limits,
            entries: Lock::new(
                Rank::GrantEntries,
                Entries {
                    version: Version::V1,
                    frames: Vec::new(),
                    status: Vec::new(),
                    used: 0,
                    dying: false,
                },
            ),
            handles: Lock::new(Rank::GrantHandles, Handles::new(limits.maptrack_frames)),
        }))
    }

    /// Returns the domain that owns the table.
    pub fn dom(&self) -> DomId {
        DomId(self.dom.load(Relaxed))
    }

    /// Changes the domain's id. Done once, when the boot domain becomes domain 0, before its table has more
    /// than the first frame.
    pub fn rename(&self, dom: DomId) {
        self.dom.store(dom.0, Relaxed);
    }

    /// Returns the present and the maximum number of shared frames (`GNTTABOP_query_size`).
    pub fn size(&self) -> (u32, u32) {
        let most = self.limits.grant_frames;
        (self.entries.lock().frames.len() as u32, most)
    }

    /// Grows the table to at least `frames` shared frames. `new_page` makes each of them.
    ///
    /// # Errors
    /// [`GrantError::General`] if `frames` exceeds the limit, or if there is no memory.
    pub fn grow(
        &self,
        frames: u32,
        mut new_page: impl FnMut() -> Option<P>,
    ) -> Result<(), GrantError> {
        if frames > self.limits.grant_frames {
            return Err(GrantError::General);
        }
        let mut entries = self.entries.lock();
        if entries.version == Version::V2 {
            entries.add_status(frames, &mut new_page)?;
        }
        while (entries.frames.len() as u32) < frames {
            entries.add_frame(&mut new_page)?;
        }
        Ok(())
    }

    /// Calls `with` with shared frame `n`, if it exists.
    pub fn with_frame<R>(&self, n: u32, with: impl FnOnce(&P) -> R) -> Option<R> {
        self.entries
            .lock()
            .frames
            .get(n as usize)?
            .page
            .as_ref()
            .map(with)
    }

    /// Exchanges the words of two entries (`GNTTABOP_swap_grant_ref`).
    ///
    /// # Errors
    /// [`GrantError::BadRef`] if there is no such entry, [`GrantError::Busy`] if one of them is in use.
    pub fn swap(&self, a: u32, b: u32) -> Result<(), GrantError> {
        let entries = self.entries.lock();
        if !entries.peek(a)?.is_unused() || !entries.peek(b)?.is_unused() {
            return Err(GrantError::Busy);
        }
        let (a, b) = (entries.words(a)?, entries.words(b)?);
        let was = a.read();
        a.write(b.read());
        b.write(was);
        Ok(())
    }

    /// Ends the granter's half: releases the shared pages. Uses by other domains continue until those end them.
    pub fn retire(&self) {
        let mut entries = self.entries.lock();
        entries.dying = true;
        for frame in &mut entries.frames {
            frame.page = None;
        }
        entries.status.clear();
    }

    /// Begins a use of entry `r` by `user`. Returns the granted frame. A copy may get [`Gfn::INVALID`], if
    /// the grant is not of a whole frame; [`Self::granted`] has the details then. (A plain `Gfn` is
    /// returned in registers.)
    pub(super) fn pin(
        &self,
        r: u32,
        user: DomId,
        access: Access,
        use_: Use,
    ) -> Result<Gfn, GrantError> {
        let mut entries = self.entries.lock();
        let used = match entries.version {
            Version::V1 => entries.begin_use(Version::V1, r, user, access, use_)?,
            Version::V2 => entries.begin_use_of_2(r, user, access, use_)?,
        };
        Ok(used.whole().unwrap_or(Gfn::INVALID))
    }

    /// Returns what entry `r`, which must be in use, grants.
    pub(super) fn granted(&self, r: u32) -> Result<Grant, GrantError> {
        self.entries.lock().peek(r).map(|active| active.grant())
    }

    /// Ends a use of entry `r`.
    pub(super) fn unpin(&self, r: u32, access: Access) {
        let mut entries = self.entries.lock();
        match entries.version {
            Version::V1 => entries.end_use(Version::V1, r, access),
            Version::V2 => entries.end_use_of_2(r, access),
        }
    }

    /// Commits entry `r` to accepting a frame from `from` (`GNTTABOP_transfer`).
    pub(super) fn commit(&self, r: u32, from: DomId) -> Result<(), GrantError> {
        let entries = self.entries.lock();
        entries.words(r)?.commit_transfer(from)
    }

    /// Returns the pseudo-physical frame number that the granter has written into entry `r`.
    pub(super) fn frame_word(&self, r: u32) -> Option<u64> {
        Some(self.entries.lock().words(r).ok()?.frame())
    }

    /// Tells the granter that `mfn` has arrived at entry `r`.
    pub(super) fn complete(&self, r: u32, mfn: Mfn) {
        let entries = self.entries.lock();
        if let Ok(words) = entries.words(r) {
            words.complete_transfer(mfn);
        }
    }

    #[cfg(test)]
    pub(super) fn uses(&self, r: u32) -> Option<Active> {
        self.entries.lock().peek(r).ok()
    }
}

impl<P: SharedWords> Entries<P> {
    /// Adds a shared frame of entries.
    fn add_frame(&mut self, new_page: &mut impl FnMut() -> Option<P>) -> Result<(), GrantError> {
        const ACTIVES: usize = Version::V1.entries_per_frame() as usize;
        if self.dying
            || !heap::can_grow((ACTIVES as u64).saturating_mul(size_of::<Active>() as u64))
        {
            return Err(GrantError::General);
        }
        let mut active = Vec::new();
        let room = active.try_reserve_exact(ACTIVES);
        room.and_then(|()| self.frames.try_reserve(1))
            .map_err(|_| GrantError::General)?;
        active.resize(ACTIVES, Active::UNUSED);
        let page = Some(new_page().ok_or(GrantError::General)?);
        self.frames.push(EntryFrame {
            page,
            active: active.into_boxed_slice(),
        });
        Ok(())
    }

    /// Adds pages of status words, as many as `frames` frames of entries need.
    pub fn add_status(
        &mut self,
        frames: u32,
        new_page: &mut impl FnMut() -> Option<P>,
    ) -> Result<(), GrantError> {
        while (self.status.len() as u32) < Version::status_frames(frames) {
            if self.dying || self.status.try_reserve(1).is_err() {
                return Err(GrantError::General);
            }
            self.status.push(new_page().ok_or(GrantError::General)?);
        }
        Ok(())
    }

    /// Counts a use of entry `r`, and claims the entry if its marks don't show such a use yet.
    #[inline(always)] // most tables are of version 1; with a constant version, half of this code disappears
    fn begin_use(
        &mut self,
        version: Version,
        r: u32,
        user: DomId,
        access: Access,
        use_: Use,
    ) -> Result<&Active, GrantError> {
        let Entry {
            words,
            active,
            used,
        } = self.entry(version, r)?;
        let words = words.ok_or(GrantError::BadRef)?;
        let unused = active.is_unused();
        if !unused && (active.user != user || use_ == Use::Map && active.whole().is_none()) {
            return Err(GrantError::General);
        }
        // If there is a writer already, its marks cover this use too. To claim again could only fail.
        if unused || access == Access::Write && active.writers == 0 {
            let flags = words.claim(user, access, use_)?;
            if unused {
                *active = Active::new(words.grant(flags), user);
                *used = used.wrapping_add(1);
            }
        }
        let count = active.count(access);
        *count = count.checked_add(1).ok_or(GrantError::General)?;
        Ok(active)
    }

    #[inline(never)]
    fn begin_use_of_2(
        &mut self,
        r: u32,
        user: DomId,
        access: Access,
        use_: Use,
    ) -> Result<&Active, GrantError> {
        self.begin_use(Version::V2, r, user, access, use_)
    }

    /// Uncounts a use of entry `r`, and clears the marks that no remaining use needs.
    #[inline(always)] // for the reason given at `begin_use`
    fn end_use(&mut self, version: Version, r: u32, access: Access) {
        let Ok(Entry {
            words,
            active,
            used,
        }) = self.entry(version, r)
        else {
            return;
        };
        let count = active.count(access);
        *count = count.saturating_sub(1);
        if let Some(words) = words {
            words.unclaim(active.readers, active.writers);
        }
        if active.is_unused() {
            *active = Active::UNUSED;
            *used = used.saturating_sub(1);
        }
    }

    #[inline(never)]
    fn end_use_of_2(&mut self, r: u32, access: Access) {
        self.end_use(Version::V2, r, access);
    }

    fn frame(&self, r: u32) -> Result<&EntryFrame<P>, GrantError> {
        let frame = self.frames.bounded(self.version.frame_of(r));
        frame.ok_or(GrantError::BadRef)
    }

    /// Returns the words of entry `r`.
    pub fn words(&self, r: u32) -> Result<Words<'_>, GrantError> {
        let page = self.frame(r)?.page.as_ref();
        let words = page.and_then(|page| words(self.version, page, &self.status, r));
        words.ok_or(GrantError::BadRef)
    }

    /// Returns the uses of entry `r`.
    pub fn peek(&self, r: u32) -> Result<Active, GrantError> {
        let found = self.frame(r)?.active.get(self.version.place_of(r));
        found.copied().ok_or(GrantError::BadRef)
    }

    #[inline(always)] // for the reason given at `begin_use`
    fn entry(&mut self, version: Version, r: u32) -> Result<Entry<'_>, GrantError> {
        let frame = self.frames.bounded_mut(version.frame_of(r));
        let EntryFrame { page, active } = frame.ok_or(GrantError::BadRef)?;
        let words = page
            .as_ref()
            .and_then(|page| words(version, page, &self.status, r));
        let active = active
            .get_mut(version.place_of(r))
            .ok_or(GrantError::BadRef)?;
        Ok(Entry {
            words,
            active,
            used: &mut self.used,
        })
    }
}

/// Returns the words of entry `r`, which is in `page`.
#[inline(always)] // so that the version is tested only once
fn words<'a, P: SharedWords>(
    version: Version,
    page: &'a P,
    status: &'a [P],
    r: u32,
) -> Option<Words<'a>> {
    let at = version.offset_of(r);
    let second = page.u32(at.wrapping_add(4))?;
    let body = match version {
        Version::V1 => Body::V1 { frame: second },
        Version::V2 => {
            let (page_of_status, offset) = Version::status_of(r);
            Body::V2 {
                detail: second,
                frame: [
                    page.u32(at.wrapping_add(8))?,
                    page.u32(at.wrapping_add(12))?,
                ],
                status: status.bounded(page_of_status)?.u16(offset)?,
            }
        }
    };
    Some(Words {
        header: page.u32(at)?,
        body,
    })
}
