//! A Xenstore, for a control domain that is its own store daemon: the embedded one. What it keeps are names, what the
//! toolstack tells guests (`memory/target`, `control/shutdown`) and what they answer.
//!
//! [`Store`] is the whole of it, without rings: nodes (`tree`, `nodes`), permissions (`perms`), transactions, watches
//! (`client`), the requests of guests (`requests`, `wire`), what each guest may use (`ledger`, [`limits`]). A [`Link`] is
//! one guest's ring over a [`Page`]; nothing that a guest writes there does more than end its own connection. The toolstack
//! is domain 0: it may do everything, by [`Store`]'s own functions.

mod client;
#[cfg(test)]
pub(crate) mod fake;
mod ledger;
pub mod limits;
mod link;
mod nodes;
pub mod path;
mod perms;
mod requests;
mod transaction;
mod tree;
mod wire;

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use guest_pv_abi::Errno;

use crate::hyper::DomId;
use client::Client;
pub use ledger::{Ledger, Usage};
pub use link::{Link, Page, Turn};
pub use perms::{Access, Perms, Want};
use tree::{Batch, Change, Live, Node, Scope, Tree};
pub use wire::Message;

/// The store.
pub struct Store {
    tree: Tree,
    ledger: Ledger,
    clients: BTreeMap<DomId, Client>,
}

impl Default for Store {
    fn default() -> Self {
        Store {
            tree: Tree::new(),
            ledger: Ledger::default(),
            clients: BTreeMap::new(),
        }
    }
}

impl Store {
    /// A node's value.
    #[must_use]
    pub fn read(&self, path: &str) -> Option<&[u8]> {
        self.tree.nodes.get(path).map(|node| &node.value[..])
    }

    /// Sets a value, making the node and all above it.
    ///
    /// # Errors
    /// EINVAL for what is no path.
    pub fn write(&mut self, path: &str, value: &str) -> Result<(), Errno> {
        self.change(path, |live, path| {
            nodes::write(live, DomId::ZERO, path, value.as_bytes())
        })
    }

    /// Sets who may read and write a node.
    ///
    /// # Errors
    /// EINVAL, ENOENT.
    pub fn set_perms(&mut self, path: &str, perms: Perms) -> Result<(), Errno> {
        self.change(path, |live, path| {
            nodes::set_perms(live, DomId::ZERO, path, perms)
        })
    }

    /// Sets a value and who may read and write the node, making it and all above it.
    ///
    /// # Errors
    /// EINVAL for what is no path.
    pub fn put(&mut self, path: &str, value: &str, perms: Perms) -> Result<(), Errno> {
        self.change(path, |live, path| {
            nodes::put(live, path, value.as_bytes(), perms)
        })
    }

    /// Removes a node with all below it.
    ///
    /// # Errors
    /// EINVAL, ENOENT if not even the node above is there.
    pub fn remove(&mut self, path: &str) -> Result<(), Errno> {
        self.change(path, |live, path| nodes::remove(live, DomId::ZERO, path))
    }

    fn change(
        &mut self,
        path: &str,
        how: impl FnOnce(&mut Live<'_>, &str) -> Result<(), Errno>,
    ) -> Result<(), Errno> {
        let path = path::absolute(DomId::ZERO, path.as_bytes())?;
        let mut live = Live {
            tree: &mut self.tree,
            ledger: &mut self.ledger,
            changes: Vec::new(),
        };
        let done = how(&mut live, &path);
        let changes = live.changes;
        self.tell(&changes);
        done
    }

    /// Makes a guest known: from now on it may ask.
    pub fn introduce(&mut self, dom: DomId) {
        self.clients.insert(dom, Client::new(dom));
        self.announce(path::INTRODUCED);
    }

    /// Forgets a guest that has ended. What it owned goes with it, and what it was allowed: its number may be another's.
    pub fn release(&mut self, dom: DomId) {
        self.reset(dom);
        self.clients.remove(&dom);
        self.disown(dom);
        self.ledger.forget(dom);
        self.announce(path::RELEASED);
    }

    fn disown(&mut self, dom: DomId) {
        let owned = self.paths(|node| node.perms.owner == dom);
        for path in owned {
            // It may be gone with one above it.
            let _ = self.remove(&path);
        }
        let named = |node: &Node| node.perms.named.iter().any(|(named, _)| *named == dom);
        let mut batch = Batch::new();
        for path in self.paths(named) {
            if let Some(node) = self.tree.nodes.get(&path) {
                let mut node = (**node).clone();
                node.perms.named.retain(|(named, _)| *named != dom);
                batch.insert(path, Some(node));
            }
        }
        // Domain 0 has no limits.
        let _ = self.tree.apply(&mut self.ledger, DomId::ZERO, batch);
    }

    fn paths(&self, wanted: impl Fn(&Node) -> bool) -> Vec<String> {
        let nodes = self.tree.nodes.iter().filter(|(_, node)| wanted(node));
        nodes.map(|(path, _)| path.clone()).collect()
    }

    /// Drops a guest's watches, transactions and what it was to be told.
    pub fn reset(&mut self, dom: DomId) {
        if let Some(client) = self.clients.get_mut(&dom) {
            client.reset(&mut self.ledger);
        }
    }

    /// Does a guest watch this node, or one above it?
    #[must_use]
    pub fn is_watched_by(&self, dom: DomId, path: &str) -> bool {
        let client = self.clients.get(&dom);
        client.is_some_and(|client| client.watches(path))
    }

    /// What a guest uses.
    #[must_use]
    pub fn usage(&self, dom: DomId) -> Usage {
        self.ledger.usage(dom)
    }

    /// The next message for a guest's ring: the answer, then events.
    pub(crate) fn next_message(&mut self, dom: DomId) -> Option<Vec<u8>> {
        self.clients.get_mut(&dom)?.next_message()
    }

    fn announce(&mut self, event: &str) {
        let perms = self.tree.nodes.get(event).map(|node| node.perms.clone());
        self.tell(&[Change {
            path: event.to_string(),
            scope: Scope::Above,
            readers: perms.into_iter().collect(),
        }]);
    }

    fn tell(&mut self, changes: &[Change]) {
        for client in self.clients.values_mut() {
            changes.iter().for_each(|change| client.tell(change));
        }
    }
}

#[cfg(test)]
mod tests;
