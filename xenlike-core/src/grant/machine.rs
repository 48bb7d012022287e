//! What the grant rules need of frames and page tables.

use super::GrantError;
use crate::kit::{DomId, Maddr, Mfn, Vaddr};

/// What a user of a frame may do with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Read.
    Read,
    /// Read and write.
    Write,
}

/// Which page-table entry of the caller a mapping uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostAddr {
    /// The level-1 entry at this machine address.
    Pte(Maddr),
    /// The level-1 entry for this address in the caller's current tables.
    Va(Vaddr),
}

/// What goes into the page-table entry besides the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PteBits {
    /// Read-only or writable.
    pub access: Access,
    /// The three bits that a guest may use as it likes (`GNTMAP_guest_avail0`).
    pub avail: u8,
}

/// Frames and the caller's page tables.
pub trait Machine {
    /// A way to a frame's bytes, while references keep it.
    type Bytes: Copy;

    /// The bytes of a frame on which the caller has a reference.
    fn bytes(&self, mfn: Mfn) -> Option<Self::Bytes>;

    /// Takes a reference on `mfn`, which must belong to `owner`; for [`Access::Write`] one that keeps
    /// it an ordinary writable page, too.
    ///
    /// # Errors
    /// [`GrantError::BadPage`] if it is not the owner's, [`GrantError::General`] if its type forbids it.
    fn get(&mut self, mfn: Mfn, owner: DomId, access: Access) -> Result<(), GrantError>;

    /// Gives back what [`Machine::get`] took.
    fn put(&mut self, mfn: Mfn, access: Access);

    /// Takes what [`Machine::get`] takes, and makes the entry at `at` map `mfn` of `owner`; the entry
    /// holds references of its own.
    ///
    /// # Errors
    /// Nothing is taken then. As [`Machine::get`]; [`GrantError::BadVirtAddr`] or [`GrantError::General`] for a bad entry.
    fn map(
        &mut self,
        at: HostAddr,
        mfn: Mfn,
        owner: DomId,
        bits: PteBits,
    ) -> Result<(), GrantError>;

    /// Clears the entry at `at`, which must map `mfn`, with the references it holds.
    ///
    /// # Errors
    /// [`GrantError::General`] if it is not such an entry.
    fn unmap(&mut self, at: HostAddr, mfn: Mfn, access: Access) -> Result<(), GrantError>;

    /// Like [`Machine::unmap`], but moves the entry for `new` to the place, and clears that one.
    ///
    /// # Errors
    /// As [`Machine::unmap`]; [`GrantError::General`] if `new` has no entry.
    fn replace(
        &mut self,
        at: Vaddr,
        new: Vaddr,
        mfn: Mfn,
        access: Access,
    ) -> Result<(), GrantError>;

    /// Makes sure that no CPU uses a translation that an unmapping has taken away.
    fn flush(&mut self);

    /// Copies bytes between frames on which the caller has references; nothing, and nothing copied, if a range leaves
    /// its frame.
    fn copy(&mut self, from: (Self::Bytes, u16), to: (Self::Bytes, u16), bytes: u16) -> Option<()>;
}
