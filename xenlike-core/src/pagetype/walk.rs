//! Walks page tables from an address to its entry, like the CPU. The tables may change meanwhile, so the result
//! is unchecked until the caller takes references.

use crate::kit::atomic::{AtomicU64, Ordering};

use guest_pv_abi::Width;

use super::shape::Shape;
use super::{GuestRoot, Machine, Memory, Pte, Types};
use crate::kit::{Mfn, Vaddr};
use crate::mm::layout;

impl<M: Memory> Types<M> {
    /// Returns the L1 table, and the index in it, that map the guest address `va` under the root `root`, a guest's or
    /// the one that a CPU has loaded.
    pub fn l1_of(&self, root: Mfn, va: Vaddr) -> Option<(Mfn, usize)> {
        let seen = self.0.entry(root)?.load();
        let l3 = match Shape::of(seen).width() {
            Width::Wide => l3_under(self.0.words(root)?, va)?,
            Width::Narrow => narrow_l3(root, va)?,
        };
        self.l1_under(l3, va)
    }

    /// Like [`Self::l1_of`], under an L3.
    #[inline]
    fn l1_under(&self, l3: Mfn, va: Vaddr) -> Option<(Mfn, usize)> {
        let mut table = l3;
        for level in [3, 2] {
            let pte = self.read_entry(table, va.index(level))?;
            if !pte.has(Pte::PRESENT) || pte.has(Pte::PAT_OR_LARGE) {
                return None;
            }
            table = pte.mfn();
        }
        Some((table, va.index(1)))
    }

    /// Returns the L1 entry for the guest address `va` under the root `root`, whether it is present or not.
    pub fn lookup(&self, root: Mfn, va: Vaddr) -> Option<Pte> {
        let (table, index) = self.l1_of(root, va)?;
        self.read_entry(table, index)
    }

    /// Reads an entry of a frame that is a table now, or that its domain uses otherwise.
    #[inline]
    pub fn read_entry(&self, table: Mfn, index: usize) -> Option<Pte> {
        let seen = self.0.entry(table)?.load();
        let word = self.0.words_of(table, seen)?.get(index)?;
        Some(Pte(word.load(Ordering::Relaxed)))
    }
}

/// Returns the L3 for the guest address `va` under the L4 of a wide guest whose entries are `root`.
#[inline]
fn l3_under(root: &[AtomicU64; 512], va: Vaddr) -> Option<Mfn> {
    if !layout::guest_range(va, 1) {
        return None;
    }
    let l4e = Pte(root.get(va.index(4))?.load(Ordering::Relaxed));
    l4e.is_present().then(|| l4e.mfn())
}

/// Returns the L3 of a narrow guest, which is its root, if `va` is an address of the guest's.
#[inline]
fn narrow_l3(root: Mfn, va: Vaddr) -> Option<Mfn> {
    (va.0 < layout::NARROW_START).then_some(root)
}

impl Types<Machine> {
    /// Like [`Types::l1_of`], under the root of a vCPU.
    #[inline]
    pub fn l1_of_root(&self, root: &GuestRoot, va: Vaddr) -> Option<(Mfn, usize)> {
        let l3 = match root.width() {
            Width::Wide => l3_under(root.page()?.words(), va)?,
            Width::Narrow => narrow_l3(root.mfn(), va)?,
        };
        self.l1_under(l3, va)
    }

    /// Like [`Types::lookup`], under the root of a vCPU.
    pub fn lookup_under(&self, root: &GuestRoot, va: Vaddr) -> Option<Pte> {
        let (table, index) = self.l1_of_root(root, va)?;
        self.read_entry(table, index)
    }
}
