//! From an address to the entry that maps it, as the machine walks. The tables may change meanwhile:
//! what comes out is a claim that the caller checks by taking references.

use crate::kit::atomic::{AtomicU64, Ordering};

use super::{GuestRoot, Machine, Memory, Pte, Types};
use crate::kit::{Mfn, Vaddr};
use crate::mm::layout;

impl<M: Memory> Types<M> {
    /// The L1 table and the index in it that map the guest address `va` under the root `root`.
    pub fn l1_of(&self, root: Mfn, va: Vaddr) -> Option<(Mfn, usize)> {
        let seen = self.0.entry(root)?.load();
        self.l1_under(self.0.words_of(root, seen)?, va)
    }

    /// The same under the L4 whose words are `root`.
    #[inline]
    fn l1_under(&self, root: &[AtomicU64; 512], va: Vaddr) -> Option<(Mfn, usize)> {
        if !layout::guest_range(va, 1) {
            return None;
        }
        let l4e = Pte(root.get(va.index(4))?.load(Ordering::Relaxed));
        let mut table = Some(l4e).filter(|pte| pte.is_present())?.mfn();
        for level in [3, 2] {
            let pte = self.read_entry(table, va.index(level))?;
            if !pte.has(Pte::PRESENT) || pte.has(Pte::PAT_OR_LARGE) {
                return None;
            }
            table = pte.mfn();
        }
        Some((table, va.index(1)))
    }

    /// The L1 entry that maps the guest address `va` under the root `root`, present or not.
    pub fn lookup(&self, root: Mfn, va: Vaddr) -> Option<Pte> {
        let (table, index) = self.l1_of(root, va)?;
        self.read_entry(table, index)
    }

    /// One entry of a frame that is a table now, or is used by its domain otherwise.
    #[inline]
    pub fn read_entry(&self, table: Mfn, index: usize) -> Option<Pte> {
        let seen = self.0.entry(table)?.load();
        let word = self.0.words_of(table, seen)?.get(index)?;
        Some(Pte(word.load(Ordering::Relaxed)))
    }
}

impl Types<Machine> {
    /// As [`Types::l1_of`], under the tables of a vCPU.
    #[inline]
    pub fn l1_of_root(&self, root: &GuestRoot, va: Vaddr) -> Option<(Mfn, usize)> {
        self.l1_under(root.page()?.words(), va)
    }
}
