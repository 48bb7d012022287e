//! Transactions. A node is copied when a transaction first touches it, so the transaction keeps seeing the same
//! state, and its writes stay in the copy. At the end, all writes are applied at once if every touched node is
//! unchanged; otherwise the client tries again (EAGAIN). So each successful transaction saw and did exactly what it
//! would have seen and done if it had run alone at its end.

use alloc::collections::BTreeMap;
use alloc::rc::Rc;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use guest_pv_abi::{Errno, errno};

use super::ledger::Ledger;
use super::limits::{self, ENTRY};
use super::tree::{Batch, Change, Node, Scope, Tree, View};
use crate::hyper::DomId;

/// A path that a transaction has touched.
#[derive(Debug)]
struct Touched {
    /// The node's generation at the first touch; `None` if it didn't exist.
    seen: Option<u64>,
    now: Option<Rc<Node>>,
    written: bool,
}

/// An open transaction.
#[derive(Debug, Default)]
pub(super) struct Transaction {
    touched: BTreeMap<String, Touched>,
    changes: BTreeMap<String, Change>,
    /// Bytes that the ledger has recorded for it.
    taken: usize,
}

impl Transaction {
    /// Returns its memory to the ledger.
    pub(super) fn drop_from(self, ledger: &mut Ledger, dom: DomId) {
        ledger.give(dom, self.taken);
    }

    /// Applies all writes; returns the changes for watches.
    ///
    /// # Errors
    /// EAGAIN, ENOSPC or ENOMEM; then nothing has changed.
    pub(super) fn commit(
        self,
        tree: &mut Tree,
        ledger: &mut Ledger,
        dom: DomId,
    ) -> Result<Vec<Change>, Errno> {
        // The transaction's copies are dropped in any case; the nodes that it writes are booked by `apply`.
        ledger.give(dom, self.taken);
        let is_same = |(path, touched): (&String, &Touched)| tree.generation(path) == touched.seen;
        if !self.touched.iter().all(is_same) {
            return Err(errno::EAGAIN);
        }
        let written = self
            .touched
            .into_iter()
            .filter(|(_, touched)| touched.written);
        let batch: Batch = written
            .map(|(path, touched)| (path, touched.now.map(|node| (*node).clone())))
            .collect();
        tree.apply(ledger, dom, batch)?;
        Ok(self.changes.into_values().collect())
    }
}

/// A transaction's view of the store.
pub(super) struct Within<'a> {
    pub(super) tree: &'a Tree,
    pub(super) ledger: &'a mut Ledger,
    pub(super) dom: DomId,
    pub(super) transaction: &'a mut Transaction,
}

impl Within<'_> {
    fn take(&mut self, bytes: usize) -> Result<(), Errno> {
        self.ledger.take(self.dom, bytes)?;
        self.transaction.taken += bytes;
        Ok(())
    }

    /// The entry of a path, copied from the store at the first touch.
    fn touch(&mut self, path: &str) -> Result<&mut Touched, Errno> {
        if !self.transaction.touched.contains_key(path) {
            if self.transaction.touched.len() >= limits::TOUCHED {
                return Err(errno::ENOSPC);
            }
            let now = self.tree.nodes.get(path).cloned();
            let bytes = now.as_ref().map_or(0, |node| node.bytes());
            self.take(path.len() + bytes + ENTRY)?;
            let seen = now.as_ref().map(|node| node.generation);
            let touched = Touched {
                seen,
                now,
                written: false,
            };
            self.transaction.touched.insert(path.to_string(), touched);
        }
        self.transaction.touched.get_mut(path).ok_or(errno::EIO)
    }
}

impl View for Within<'_> {
    fn get(&mut self, path: &str) -> Result<Option<Rc<Node>>, Errno> {
        self.touch(path).map(|touched| touched.now.clone())
    }

    fn apply(&mut self, _who: DomId, batch: Batch) -> Result<(), Errno> {
        // The steps that may fail come first.
        let mut bytes = 0;
        for (path, node) in &batch {
            self.touch(path)?;
            bytes += path.len() + node.as_ref().map_or(0, Node::bytes) + ENTRY;
        }
        self.take(bytes)?;
        for (path, node) in batch {
            let touched = self.touch(&path)?;
            (touched.now, touched.written) = (node.map(Rc::new), true);
        }
        Ok(())
    }

    fn tell(&mut self, change: Change) {
        let changes = &mut self.transaction.changes;
        let before = changes.get(&change.path);
        let above = before.is_some_and(|before| before.scope == Scope::Above);
        let scope = if above { Scope::Above } else { change.scope };
        changes.insert(change.path.clone(), Change { scope, ..change });
    }
}

#[cfg(test)]
impl Transaction {
    /// The memory that the ledger must have recorded for it.
    pub(super) fn bytes(&self) -> usize {
        let copies = self.touched.iter().map(|(path, touched)| {
            path.len() + touched.now.as_ref().map_or(0, |node| node.bytes())
        });
        assert!(
            copies.sum::<usize>() <= self.taken,
            "more is kept than was taken"
        );
        self.taken
    }
}
