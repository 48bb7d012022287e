//! The two layouts of a table, and the change from one to the other (`GNTTABOP_set_version`).

use guest_pv_abi::grant_table as abi;

use super::table::Table;
use crate::kit::SharedWords;

/// The version of a table: its layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// Entries of 8 bytes, whose flags show their uses.
    V1,
    /// Entries of 16 bytes, which may grant a part of a page or be transitive. Separate status words
    /// show their uses.
    V2,
}

/// The number of status words, of 2 bytes each, in a frame.
const STATUS_PER_FRAME: u32 = 2048;

/// The number of entries that keep their contents when the version changes. A toolstack writes and maps these
/// before the guest runs.
const KEPT: u32 = abi::GNTTAB_NR_RESERVED_ENTRIES;

/// The maximum number of frames of entries for a change of version, because all of them are cleared at once.
const MAX_FRAMES: usize = 1024;

/// Why a table keeps its version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The domain may not choose this version.
    Unsupported,
    /// Entries are in use, a frame of status words is mapped, or the table is very large.
    Busy,
    /// There is no memory for status words.
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

    /// Returns the version's number in the ABI.
    pub const fn number(self) -> u32 {
        match self {
            Self::V1 => 1,
            Self::V2 => 2,
        }
    }

    /// Returns the version with this number in the ABI.
    pub const fn of_number(number: u32) -> Option<Self> {
        match number {
            1 => Some(Self::V1),
            2 => Some(Self::V2),
            _ => None,
        }
    }

    /// Returns the number of entries in a shared frame.
    pub const fn entries_per_frame(self) -> u32 {
        1 << self.shift()
    }

    /// Returns the number of frames of status words that `frames` frames of entries need.
    pub const fn status_frames(frames: u32) -> u32 {
        frames.div_ceil(Self::frames_per_status())
    }

    /// Returns the number of frames of entries that one frame of status words covers.
    pub const fn frames_per_status() -> u32 {
        STATUS_PER_FRAME >> Self::V2.shift()
    }

    /// Returns the number of the frame that contains entry `r`.
    pub const fn frame_of(self, r: u32) -> usize {
        (r >> self.shift()) as usize
    }

    /// Returns the index of entry `r` in the uses of its frame.
    pub const fn place_of(self, r: u32) -> usize {
        r as usize & (self.entries_per_frame() as usize).wrapping_sub(1)
    }

    /// Returns the offset of entry `r` in its frame, in bytes.
    pub const fn offset_of(self, r: u32) -> usize {
        let entry_bytes = match self {
            Self::V1 => size_of::<abi::GrantEntryV1>(),
            Self::V2 => size_of::<abi::GrantEntryV2>(),
        };
        self.place_of(r).wrapping_mul(entry_bytes)
    }

    /// Returns the frame of the status word of entry `r`, and its offset in bytes.
    pub const fn status_of(r: u32) -> (usize, usize) {
        let (frame, word) = (r / STATUS_PER_FRAME, r % STATUS_PER_FRAME);
        (frame as usize, (word as usize).wrapping_mul(2))
    }
}

impl<P: SharedWords> Table<P> {
    /// Returns the present version of the table.
    pub fn version(&self) -> Version {
        self.entries.lock().version
    }

    /// Returns the present and the maximum number of frames of status words.
    pub fn status_size(&self) -> (u32, u32) {
        let most = Version::status_frames(self.limits.grant_frames);
        (self.entries.lock().status.len() as u32, most)
    }

    /// Calls `with` with frame `n` of status words, if it exists.
    pub fn with_status<R>(&self, n: u32, with: impl FnOnce(&P) -> R) -> Option<R> {
        let entries = self.entries.lock();
        entries.status.get(n as usize).map(with)
    }

    /// Changes the version of the table. The first entries keep their grants, and may be in use. All others
    /// must be unused, and are cleared. `new_page` makes a frame of status words. `is_mapped` tells whether the
    /// guest still maps one.
    ///
    /// # Errors
    /// See [`Refused`]. Nothing has changed then.
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
            // The table has no frame yet, so there is nothing to keep.
            let (Ok(active), Ok(words)) = (entries.peek(r), entries.words(r)) else {
                break;
            };
            used = used.saturating_sub(u32::from(!active.is_unused()));
            let content = words.read().kept().ok_or(Refused::BadEntry)?;
            *kept = (content, active.readers, active.writers);
        }
        if used != 0 || entries.frames.len() > MAX_FRAMES {
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
