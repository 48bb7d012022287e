//! The domain on which the rules are tested.

use std::sync::Arc;
use std::vec::Vec;

use super::fake::Fake;
use crate::kit::{DomId, Mfn, Vaddr};
use crate::pagetype::{DomainPages, Keep, PageType, Pte, Refused, Types, Update, Work};

pub(super) const ME: DomId = DomId(1);
pub(super) const RO: u64 = Pte::PRESENT | Pte::USER;
pub(super) const RW: u64 = RO | Pte::WRITABLE;
pub(super) const DATA_VA: Vaddr = Vaddr(0x3000);

/// A domain with a tree of one table at each level, and a few pages of data.
pub(super) struct Tree {
    pub(super) types: Types<Fake>,
    pub(super) pages: Arc<DomainPages>,
    /// The tables by level. 0 is a page of data, which is mapped read-only at [`DATA_VA`].
    pub(super) table: [Mfn; 5],
    pub(super) spare: Vec<Mfn>,
    pub(super) work: Work,
}

pub(super) fn tree() -> Tree {
    let types = Fake::new(3);
    let pages = types.0.add_domain(ME.0, 20);
    let table = [(); 5].map(|()| types.give(&pages).unwrap());
    let spare = (0..6).map(|_| types.give(&pages).unwrap()).collect();
    types.set(table[1], 3, Pte::new(table[0], RO));
    for level in 2..5 {
        types.set(table[level], 0, Pte::new(table[level - 1], RW));
    }
    Tree {
        types,
        pages,
        table,
        spare,
        work: Work::new(),
    }
}

impl Tree {
    pub(super) fn pinned() -> Self {
        let mut tree = tree();
        tree.types
            .pin(tree.table[4], 4, ME, &mut tree.work)
            .unwrap();
        tree
    }

    pub(super) fn update(&mut self, level: usize, index: usize, new: Pte) -> Result<(), Refused> {
        let update = Update {
            table: self.table[level],
            index,
            new,
            keep: Keep::Nothing,
            page_owner: ME,
        };
        self.types.change(ME, &update, &mut self.work)
    }

    pub(super) fn is(&self, mfn: Mfn) -> (PageType, u64) {
        let state = self.types.0.state(mfn);
        (PageType::from_bits(state.type_bits()), state.type_refs())
    }

    pub(super) fn unused(&self, mfn: Mfn) -> bool {
        let state = self.types.0.state(mfn);
        state.type_refs() == 0 && state.refs() == 1
    }
}
