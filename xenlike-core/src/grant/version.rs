//! The two versions of a table's layout, and the change from one to the other (`GNTTABOP_set_version`).

use guest_pv_abi::grant_table as abi;

use super::table::Table;
use crate::kit::SharedWords;

/// A layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// Entries of 8 bytes, which show their uses themselves.
    V1,
    /// Entries of 16 bytes, which can be of a part of a page or transitive, and status words beside them.
    V2,
}

/// Status words of 2 bytes in a frame.
const STATUS_PER_FRAME: u32 = 2048;

/// Entries at the table's start that keep what they say: a toolstack writes and maps them before the guest runs.
const KEPT: u32 = abi::GNTTAB_NR_RESERVED_ENTRIES;

/// Frames of entries that a table may have when its version changes: all of them are cleared in one go.
const MOST_FRAMES: usize = 1024;

/// Why a table keeps its version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The domain may not choose that version.
    Unsupported,
    /// Entries are in use, a status frame is mapped, or the table is very large.
    Busy,
    /// No memory for status words.
    NoMemory,
    /// One of the first entries is neither a grant nor empty.
    BadEntry,
}

impl Version {
    const fn shift(self) -> u32 {
        match self {
            Self::V1 => 9,
            Self::V2 => 8,
        }
    }

    /// The version as guests know it.
    pub const fn number(self) -> u32 {
        match self {
            Self::V1 => 1,
            Self::V2 => 2,
        }
    }

    /// The version that guests know by this number.
    pub const fn of_number(number: u32) -> Option<Self> {
        match number {
            1 => Some(Self::V1),
            2 => Some(Self::V2),
            _ => None,
        }
    }

    /// How many entries a shared frame has.
    pub const fn entries_per_frame(self) -> u32 {
        1 << self.shift()
    }

    /// How many frames of status words belong to `frames` frames of entries.
    pub const fn status_frames(frames: u32) -> u32 {
        frames.div_ceil(Self::frames_per_status())
    }

    /// How many frames of entries one frame of status words is for.
    pub const fn frames_per_status() -> u32 {
        STATUS_PER_FRAME >> Self::V2.shift()
    }

    /// Number of the frame in which entry `r` is.
    pub const fn frame_of(self, r: u32) -> usize {
        (r >> self.shift()) as usize
    }

    /// Where in that frame's list of uses entry `r` is.
    pub const fn place_of(self, r: u32) -> usize {
        r as usize & (self.entries_per_frame() as usize).wrapping_sub(1)
    }

    /// At which byte of its frame entry `r` begins.
    pub const fn offset_of(self, r: u32) -> usize {
        let entry_bytes = match self {
            Self::V1 => size_of::<abi::GrantEntryV1>(),
            Self::V2 => size_of::<abi::GrantEntryV2>(),
        };
        self.place_of(r).wrapping_mul(entry_bytes)
    }

    /// Frame and byte of the status word of entry `r`.
    pub const fn status_of(r: u32) -> (usize, usize) {
        let (frame, word) = (r / STATUS_PER_FRAME, r % STATUS_PER_FRAME);
        (frame as usize, (word as usize).wrapping_mul(2))
    }
}

impl<P: SharedWords> Table<P> {
    /// The table's version.
    pub fn version(&self) -> Version {
        self.entries.lock().version
    }

    /// Number of frames of status words now, and at most.
    pub fn status_size(&self) -> (u32, u32) {
        let most = Version::status_frames(self.limits.grant_frames);
        (self.entries.lock().status.len() as u32, most)
    }

    /// What `with` makes of frame `n` of status words, if there is one.
    pub fn with_status<R>(&self, n: u32, with: impl FnOnce(&P) -> R) -> Option<R> {
        let entries = self.entries.lock();
        entries.status.get(n as usize).map(with)
    }

    /// Gives the table another version. The first entries keep their grants, and may be in use; all others
    /// must not be, and are empty then. `new_page` makes a frame of status words, `is_mapped` tells whether
    /// somebody else still has one.
    ///
    /// # Errors
    /// See [`Refused`]; nothing has changed then.
    pub fn set_version(
        &self,
        version: Version,
        mut new_page: impl FnMut() -> Option<P>,
        is_mapped: impl Fn(&P) -> bool,
    ) -> Result<(), Refused> {
        if version > self.limits.version {
            return Err(Refused::Unsupported);
        }
        let mut entries = self.entries.lock();
        if entries.version == version {
            return Ok(());
        }
        let mut kept = [(Default::default(), 0, 0); KEPT as usize];
        let mut used = entries.used;
        for (r, kept) in (0..).zip(&mut kept) {
            // A table without frames has nothing to keep.
            let (Ok(active), Ok(words)) = (entries.peek(r), entries.words(r)) else {
                break;
            };
            used = used.saturating_sub(u32::from(!active.is_unused()));
            let content = words.read().kept().ok_or(Refused::BadEntry)?;
            *kept = (content, active.readers, active.writers);
        }
        if used != 0 || entries.frames.len() > MOST_FRAMES {
            return Err(Refused::Busy);
        }
        match version {
            Version::V1 if entries.status.iter().any(is_mapped) => return Err(Refused::Busy),
            Version::V1 => entries.status.clear(),
            Version::V2 => {
                let frames = entries.frames.len() as u32;
                if entries.add_status(frames, &mut new_page).is_err() {
                    entries.status.clear();
                    return Err(Refused::NoMemory);
                }
            }
        }
        entries.version = version;
        for page in entries
            .frames
            .iter()
            .filter_map(|frame| frame.page.as_ref())
        {
            page.zero();
        }
        for (r, (content, readers, writers)) in (0..).zip(kept) {
            if let Ok(words) = entries.words(r) {
                words.write(content);
                words.show(readers, writers);
            }
        }
        Ok(())
    }
}
