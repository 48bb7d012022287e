//! The frames and page tables that the grant rules need, as a trait.

use super::GrantError;
use crate::kit::{DomId, Gfn, Maddr, Mfn, Vaddr};

/// What a user of a frame may do with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Read the frame only.
    Read,
    /// Read and write the frame.
    Write,
}

/// The page-table entry of the caller that a mapping uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostAddr {
    /// The level-1 entry at this machine address.
    Pte(Maddr),
    /// The level-1 entry for this virtual address in the caller's present page tables.
    Va(Vaddr),
}

/// Whom a mapping is for. It makes a difference only for a narrow guest; the mappings of a wide one are all for both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Space {
    /// For the guest's kernel alone.
    Kernel,
    /// Also for its user code (`GNTMAP_application_map`).
    User,
}

/// The contents of the page-table entry besides the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PteBits {
    /// Whether the entry is writable.
    pub access: Access,
    /// Whether user code may use the mapping.
    pub space: Space,
    /// The three bits that are free for the guest (`GNTMAP_guest_avail0`).
    pub avail: u8,
}

/// Frames, and the caller's page tables.
pub trait Machine {
    /// Access to the bytes of a frame, valid as long as the caller has references of it.
    type Bytes: Copy;

    /// Returns the frame that `owner` calls `gfn`.
    ///
    /// # Errors
    /// [`GrantError::BadPage`] if it has no frame there.
    fn resolve(&self, gfn: Gfn, owner: DomId) -> Result<Mfn, GrantError>;

    /// Returns access to the bytes of a frame of which the caller has a reference.
    fn bytes(&self, mfn: Mfn) -> Option<Self::Bytes>;

    /// Takes a reference of `mfn`, which must belong to `owner`. For [`Access::Write`], takes a type reference
    /// too, which keeps the frame an ordinary writable page.
    ///
    /// # Errors
    /// [`GrantError::BadPage`] if the frame isn't the owner's, [`GrantError::General`] if its type
    /// forbids the access.
    fn get(&mut self, mfn: Mfn, owner: DomId, access: Access) -> Result<(), GrantError>;

    /// Drops what [`Machine::get`] has taken.
    fn put(&mut self, mfn: Mfn, access: Access);

    /// Takes what [`Machine::get`] takes, and makes the entry at `at` map frame `mfn` of `owner`. The entry has
    /// references of its own.
    ///
    /// # Errors
    /// As for [`Machine::get`], and [`GrantError::BadVirtAddr`] or [`GrantError::General`] if the entry can't
    /// be used. Nothing has been taken then.
    fn map(
        &mut self,
        at: HostAddr,
        mfn: Mfn,
        owner: DomId,
        bits: PteBits,
    ) -> Result<(), GrantError>;

    /// Clears the entry at `at`, which must map `mfn`, and drops the references of the entry.
    ///
    /// # Errors
    /// [`GrantError::General`] if the entry doesn't map `mfn` with this access.
    fn unmap(&mut self, at: HostAddr, mfn: Mfn, access: Access) -> Result<(), GrantError>;

    /// Like [`Machine::unmap`], but moves the entry of address `new` to `at`, and clears the entry of `new`.
    ///
    /// # Errors
    /// As for [`Machine::unmap`], and [`GrantError::General`] if `new` has no entry.
    fn replace(
        &mut self,
        at: Vaddr,
        new: Vaddr,
        mfn: Mfn,
        access: Access,
    ) -> Result<(), GrantError>;

    /// Ensures that no CPU uses a translation that an unmapping has removed.
    fn flush(&mut self);

    /// Copies bytes between frames of which the caller has references. `None`, with nothing copied, if a range
    /// crosses the end of its frame.
    fn copy(&mut self, from: (Self::Bytes, u16), to: (Self::Bytes, u16), bytes: u16) -> Option<()>;
}
