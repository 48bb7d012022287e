//! The mapper's half: a numbered handle for each grant that it uses, with a list of free handles.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::{Access, GrantError, HANDLES_PER_FRAME, Table};
use crate::kit::{Bounded, Mfn};
use crate::mm::heap;

/// All handles of one domain.
pub(super) struct Handles<P> {
    blocks: Vec<Vec<Slot<P>>>,
    max_blocks: u32,
    free: Option<u32>,
    /// How far releasing all handles has got, see `release`.
    pub cursor: u32,
    pub dying: bool,
}

pub(super) enum Slot<P> {
    /// A free handle, with the number of the next free one.
    Free(Option<u32>),
    /// Reserved by a mapping that is under way.
    Reserved,
    Taken(Handle<P>),
}

/// The grant that a handle stands for.
pub(super) struct Handle<P> {
    pub granter: Arc<Table<P>>,
    pub r: u32,
    pub mfn: Mfn,
    pub access: Access,
    pub host: Part,
    pub device: Part,
    /// The request named the page-table entry by its machine address.
    pub by_pte: bool,
}

/// The state of one of the two kinds of mapping that a handle can stand for: for CPUs, and for devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// There is no such mapping.
    No,
    /// The mapping exists, and may be unmapped.
    Mapped,
    /// Another vCPU is unmapping it.
    Leaving,
}

impl<P> Handles<P> {
    pub fn new(max_blocks: u32) -> Self {
        Self {
            blocks: Vec::new(),
            max_blocks,
            free: None,
            cursor: 0,
            dying: false,
        }
    }

    /// Reserves a free handle, and allocates a block of them if necessary.
    pub fn reserve(&mut self) -> Result<u32, GrantError> {
        if self.dying {
            return Err(GrantError::General);
        }
        if self.free.is_none() {
            self.add_block()?;
        }
        let n = self.free.ok_or(GrantError::NoSpace)?;
        let slot = self.slot(n).ok_or(GrantError::NoSpace)?;
        if let Slot::Free(next) = *slot {
            *slot = Slot::Reserved;
            self.free = next;
        }
        Ok(n)
    }

    /// Makes a reserved handle stand for a grant.
    pub fn set(&mut self, n: u32, handle: Handle<P>) {
        if let Some(slot @ Slot::Reserved) = self.slot(n) {
            *slot = Slot::Taken(handle);
        }
    }

    /// Frees handle `n`. Returns the grant for which it stood, if any.
    pub fn free(&mut self, n: u32) -> Option<Handle<P>> {
        let next = self.free;
        let slot = self.slot(n)?;
        let was = core::mem::replace(slot, Slot::Free(next));
        self.free = Some(n);
        if let Slot::Taken(handle) = was {
            Some(handle)
        } else {
            None
        }
    }

    /// Returns the grant for which handle `n` stands.
    pub fn get(&mut self, n: u32) -> Option<&mut Handle<P>> {
        match self.slot(n)? {
            Slot::Taken(handle) => Some(handle),
            Slot::Free(_) | Slot::Reserved => None,
        }
    }

    /// Returns the number of handles, free or not.
    pub fn len(&self) -> u32 {
        (self.blocks.len() as u32).saturating_mul(HANDLES_PER_FRAME)
    }

    /// Returns all slots. For the audit.
    #[cfg(feature = "audit")]
    pub fn slots(&self) -> impl Iterator<Item = &Slot<P>> {
        self.blocks.iter().flatten()
    }

    /// Returns the slot of handle `n`. For the audit.
    #[cfg(feature = "audit")]
    pub fn peek(&self, n: u32) -> Option<&Slot<P>> {
        let block = self.blocks.get((n / HANDLES_PER_FRAME) as usize)?;
        block.get((n % HANDLES_PER_FRAME) as usize)
    }

    /// Returns the head of the list of free handles. For the audit.
    #[cfg(feature = "audit")]
    pub const fn first_free(&self) -> Option<u32> {
        self.free
    }

    fn slot(&mut self, n: u32) -> Option<&mut Slot<P>> {
        let block = self.blocks.bounded_mut((n / HANDLES_PER_FRAME) as usize)?;
        block.get_mut((n % HANDLES_PER_FRAME) as usize)
    }

    fn add_block(&mut self) -> Result<(), GrantError> {
        if self.blocks.len() as u32 >= self.max_blocks {
            return Err(GrantError::NoSpace);
        }
        if !heap::can_grow(u64::from(HANDLES_PER_FRAME).saturating_mul(size_of::<Slot<P>>() as u64))
        {
            return Err(GrantError::NoSpace);
        }
        let first = self.len();
        let mut block = Vec::new();
        let room = block.try_reserve_exact(HANDLES_PER_FRAME as usize);
        room.and_then(|()| self.blocks.try_reserve(1))
            .map_err(|_| GrantError::NoSpace)?;
        for n in 1..=HANDLES_PER_FRAME {
            let next = (n != HANDLES_PER_FRAME).then_some(first.saturating_add(n));
            block.push(Slot::Free(next));
        }
        self.blocks.push(block);
        self.free = Some(first);
        Ok(())
    }
}

impl<P> Handle<P> {
    /// Whether nothing is mapped or being unmapped under it.
    pub fn is_over(&self) -> bool {
        self.host == Part::No && self.device == Part::No
    }
}

#[cfg(test)]
impl<P: crate::kit::SharedWords> Table<P> {
    /// What `each` makes of every grant in use.
    pub(super) fn in_use<R>(&self, each: impl Fn(&Handle<P>) -> R) -> Vec<R> {
        let mut handles = self.handles.lock();
        (0..handles.len())
            .filter_map(|n| handles.get(n).map(|h| each(h)))
            .collect()
    }
}
