//! The words of an entry, which the granter shares, in both versions of the table. The granter may change them
//! at any moment.
//!
//! In version 1, uses are shown in the flags themselves, so an entry is claimed by compare-exchange, with a
//! bounded number of tries. In version 2, uses are shown in a separate status word. The hypervisor first sets
//! the status and then reads the flags again; the granter first clears the flags and then reads the status. All
//! of these accesses are sequentially consistent, so at least one side sees what the other has written, and no
//! use begins that the granter doesn't see.

use crate::kit::atomic::{AtomicU16, AtomicU32, Ordering::SeqCst};

use guest_pv_abi::grant_table as abi;

use super::{Access, GrantError};
use crate::kit::{DomId, Gfn, Mfn, PAGE_SIZE};

/// How often an update of a word is tried while the granter keeps changing the word.
const TRIES: u32 = 5;

/// What an entry is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// A mapping, which needs a whole page.
    Map,
    /// A copy by the hypervisor.
    Copy,
}

/// The bytes of a frame that are granted. A sub-page grant covers only some of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// The offset of the first byte.
    pub first: u16,
    /// The byte after the last one, at most the size of a page.
    pub end: u16,
}

impl Window {
    /// All bytes of the page.
    pub const PAGE: Self = Self {
        first: 0,
        end: PAGE_SIZE as u16,
    };

    /// No bytes, which stands for a transitive grant: it has no bytes of its own.
    pub const NONE: Self = Self { first: 1, end: 0 };

    /// Makes the window of a sub-page grant, truncated to the page.
    fn new(first: u16, bytes: u16) -> Self {
        let first = first.min(Self::PAGE.end);
        let end = first.saturating_add(bytes).min(Self::PAGE.end);
        Self { first, end }
    }

    /// Whether the window covers all of the `bytes` bytes from `first` on.
    #[inline]
    pub fn has(self, first: u16, bytes: u16) -> bool {
        let end = u32::from(first).saturating_add(bytes.into());
        first >= self.first && end <= self.end.into()
    }
}

/// What an entry grants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Grant {
    /// Bytes of a frame of the granter, which names it.
    Frame(Gfn, Window),
    /// What entry `.1` of domain `.0` grants to the granter (a transitive grant).
    Through(DomId, u32),
}

/// The words of one entry.
pub(super) struct Words<'a> {
    /// The flags in the lower half, the grantee's id in the upper half.
    pub header: &'a AtomicU32,
    pub body: Body<'a>,
}

/// The words after the header, which depend on the version.
pub(super) enum Body<'a> {
    V1 {
        frame: &'a AtomicU32,
    },
    V2 {
        /// The first byte and the number of bytes of a sub-page grant, or the domain of a transitive grant.
        detail: &'a AtomicU32,
        /// The frame, lower half first, or the reference of a transitive grant. The halves are read separately;
        /// a granter that changes them after it has granted harms only itself.
        frame: [&'a AtomicU32; 2],
        /// The status word: GTF_reading and GTF_writing.
        status: &'a AtomicU16,
    },
}

const fn halves(word: u32) -> (u16, u16) {
    (word as u16, (word >> 16) as u16)
}

const fn mark(access: Access) -> u16 {
    match access {
        Access::Read => abi::GTF_READING,
        Access::Write => abi::GTF_READING | abi::GTF_WRITING,
    }
}

impl Words<'_> {
    /// Claims the entry for a use by `who`, and shows the use to the granter. Returns the flags
    /// that allowed it.
    #[inline(always)] // the version is a constant in the hot callers
    pub fn claim(&self, who: DomId, access: Access, use_: Use) -> Result<u16, GrantError> {
        match self.body {
            Body::V1 { .. } => {
                let allows = |flags, dom| {
                    let checked = match use_ {
                        Use::Map => abi::GTF_TYPE_MASK | abi::GTF_SUB_PAGE,
                        Use::Copy => abi::GTF_TYPE_MASK,
                    };
                    flags & checked == abi::GTF_PERMIT_ACCESS && grants(flags, dom, who, access)
                };
                change(self.header, |flags, dom| {
                    allows(flags, dom).then_some(flags | mark(access))
                })
            }
            Body::V2 { status, .. } => self.claim_v2(status, who, access, use_),
        }
    }

    #[inline(never)]
    fn claim_v2(
        &self,
        status: &AtomicU16,
        who: DomId,
        access: Access,
        use_: Use,
    ) -> Result<u16, GrantError> {
        let allowed = || {
            let (flags, dom) = halves(self.header.load(SeqCst));
            let fits = match (use_, flags & abi::GTF_TYPE_MASK) {
                (Use::Map, abi::GTF_PERMIT_ACCESS) => flags & abi::GTF_SUB_PAGE == 0,
                (Use::Copy, abi::GTF_PERMIT_ACCESS | abi::GTF_TRANSITIVE) => true,
                _ => false,
            };
            (fits && grants(flags, dom, who, access)).then_some(flags)
        };
        allowed().ok_or(GrantError::General)?;
        let was = status.fetch_or(mark(access), SeqCst);
        allowed().ok_or_else(|| {
            // Marks that were set before belong to other uses.
            status.fetch_and(!(mark(access) & !was), SeqCst);
            GrantError::General
        })
    }

    /// Returns what the entry grants, after it has been claimed with `flags`.
    #[inline(always)] // the version is a constant in the hot callers
    pub fn grant(&self, flags: u16) -> Grant {
        match self.body {
            Body::V1 { frame } => Grant::Frame(Gfn(frame.load(SeqCst).into()), Window::PAGE),
            Body::V2 { detail, .. } => {
                let (frame, (low, high)) = (self.frame(), halves(detail.load(SeqCst)));
                if flags & abi::GTF_TYPE_MASK == abi::GTF_TRANSITIVE {
                    return Grant::Through(DomId(low), frame as u32);
                }
                let window = if flags & abi::GTF_SUB_PAGE == 0 {
                    Window::PAGE
                } else {
                    Window::new(low, high)
                };
                Grant::Frame(Gfn(frame), window)
            }
        }
    }

    /// Updates the marks of the entry after a use has ended, by the numbers of uses that remain.
    #[inline(always)] // the version is a constant in the hot callers
    pub fn unclaim(&self, readers: u32, writers: u32) {
        let mut gone = 0;
        if writers == 0 {
            gone |= abi::GTF_WRITING;
            if readers == 0 {
                gone |= abi::GTF_READING;
            }
        }
        if gone == 0 {
            return;
        }
        match self.body {
            Body::V1 { .. } => drop(self.header.fetch_and(!u32::from(gone), SeqCst)),
            Body::V2 { status, .. } => drop(status.fetch_and(!gone, SeqCst)),
        }
    }

    /// Commits the entry to a transfer, if it accepts a frame from `from`.
    pub fn commit_transfer(&self, from: DomId) -> Result<(), GrantError> {
        change(self.header, |flags, dom| {
            let accepts = flags == abi::GTF_ACCEPT_TRANSFER && dom == from.0;
            accepts.then_some(flags | abi::GTF_TRANSFER_COMMITTED)
        })
        .map(drop)
    }

    /// Completes a committed transfer: stores `mfn`, and then sets the flag by which the granter notices.
    pub fn complete_transfer(&self, mfn: Mfn) {
        self.set_frame(mfn.0);
        self.header
            .fetch_or(abi::GTF_TRANSFER_COMPLETED.into(), SeqCst);
    }

    /// Reads the frame number.
    pub fn frame(&self) -> u64 {
        match self.body {
            Body::V1 { frame } => frame.load(SeqCst).into(),
            Body::V2 {
                frame: [low, high], ..
            } => u64::from(low.load(SeqCst)) | u64::from(high.load(SeqCst)) << 32,
        }
    }

    fn set_frame(&self, value: u64) {
        match self.body {
            Body::V1 { frame } => frame.store(value as u32, SeqCst),
            Body::V2 {
                frame: [low, high], ..
            } => {
                low.store(value as u32, SeqCst);
                high.store((value >> 32) as u32, SeqCst);
            }
        }
    }

    /// Reads the words of the entry, without the status.
    pub fn read(&self) -> Content {
        let detail = match self.body {
            Body::V1 { .. } => 0,
            Body::V2 { detail, .. } => detail.load(SeqCst),
        };
        Content {
            header: self.header.load(SeqCst),
            detail,
            frame: self.frame(),
        }
    }

    /// Writes the words of the entry, the header last.
    pub fn write(&self, content: Content) {
        self.set_frame(content.frame);
        if let Body::V2 { detail, .. } = self.body {
            detail.store(content.detail, SeqCst);
        }
        self.header.store(content.header, SeqCst);
    }

    /// Marks the entry as used, after its table has changed its version.
    pub fn show(&self, readers: u32, writers: u32) {
        let access = match (readers, writers) {
            (0, 0) => return,
            (_, 0) => Access::Read,
            _ => Access::Write,
        };
        match self.body {
            Body::V1 { .. } => drop(self.header.fetch_or(mark(access).into(), SeqCst)),
            Body::V2 { status, .. } => drop(status.fetch_or(mark(access), SeqCst)),
        }
    }
}

/// A copy of an entry's words.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Content {
    header: u32,
    detail: u32,
    frame: u64,
}

impl Content {
    /// Returns the entry as it is kept when the table changes its version: an ordinary grant without marks, or
    /// an empty entry. `None` if it is of another type.
    pub fn kept(self) -> Option<Self> {
        let (flags, dom) = halves(self.header);
        match flags & abi::GTF_TYPE_MASK {
            abi::GTF_PERMIT_ACCESS => {
                let flags = flags & !(abi::GTF_READING | abi::GTF_WRITING);
                Some(Self {
                    header: u32::from(flags) | u32::from(dom) << 16,
                    ..self
                })
            }
            abi::GTF_INVALID => Some(Self::default()),
            _ => None,
        }
    }
}

/// Whether the flags and the grantee of an entry permit `who` this access.
const fn grants(flags: u16, dom: u16, who: DomId, access: Access) -> bool {
    dom == who.0 && !(matches!(access, Access::Write) && flags & abi::GTF_READONLY != 0)
}

/// Changes the flags as `to` says, by compare-exchange. Returns the previous flags.
#[inline(always)] // on the path of each mapping and copy, where most of `to` is constant
fn change(word: &AtomicU32, to: impl Fn(u16, u16) -> Option<u16>) -> Result<u16, GrantError> {
    let mut old = word.load(SeqCst);
    for _ in 0..TRIES {
        let (flags, dom) = halves(old);
        let new = to(flags, dom).ok_or(GrantError::General)?;
        let new = u32::from(dom) << 16 | u32::from(new);
        match word.compare_exchange(old, new, SeqCst, SeqCst) {
            Ok(_) => return Ok(flags),
            Err(now) => old = now,
        }
    }
    Err(GrantError::General)
}
