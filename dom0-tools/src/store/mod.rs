//! A Xenstore for a control domain that is its own store daemon, as the embedded one is. It holds names, requests of
//! the toolstack to guests (`memory/target`, `control/shutdown`) and the guests' answers.
//!
//! [`Store`] is the complete store, without rings: nodes (`tree`, `nodes`), permissions (`perms`), transactions,
//! watches (`client`), the requests of guests (`requests`, `wire`), and the guests' limits (`ledger`, [`limits`]). A
//! [`Link`] serves one guest's ring over a [`Page`]; whatever a guest writes there can at worst end its own
//! connection. The toolstack is domain 0: it may do everything, and calls [`Store`]'s functions.

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

/// The store: its nodes, guests and limits.
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
    /// Reads the value of a node.
    #[must_use]
    pub fn read(&self, path: &str) -> Option<&[u8]> {
        self.tree.nodes.get(path).map(|node| &node.value[..])
    }

    /// Sets the value of a node. Creates the node and missing nodes above it.
    ///
    /// # Errors
    /// EINVAL for an invalid path.
    pub fn write(&mut self, path: &str, value: &str) -> Result<(), Errno> {
        self.change(path, |live, path| {
            nodes::write(live, DomId::ZERO, path, value.as_bytes())
        })
    }

    /// Sets the permissions of a node.
    ///
    /// # Errors
    /// EINVAL for an invalid path, ENOENT.
    pub fn set_perms(&mut self, path: &str, perms: Perms) -> Result<(), Errno> {
        self.change(path, |live, path| {
            nodes::set_perms(live, DomId::ZERO, path, perms)
        })
    }

    /// Sets value and permissions of a node. Creates the node and missing nodes above it.
    ///
    /// # Errors
    /// EINVAL for an invalid path.
    pub fn put(&mut self, path: &str, value: &str, perms: Perms) -> Result<(), Errno> {
        self.change(path, |live, path| {
            nodes::put(live, path, value.as_bytes(), perms)
        })
    }

    /// Removes a node and everything below it.
    ///
    /// # Errors
    /// EINVAL for an invalid path; ENOENT if the node above doesn't exist either.
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

    /// Introduces a guest: from now on it may send requests.
    pub fn introduce(&mut self, dom: DomId) {
        self.clients.insert(dom, Client::new(dom));
        self.announce(path::INTRODUCED);
    }

    /// Removes a guest that has ended, with the nodes that it owned and its permissions elsewhere, since another
    /// domain may get its number.
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
            // It may have been removed together with a node above it.
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
        // Domain 0 has no limits, so this can't fail.
        let _ = self.tree.apply(&mut self.ledger, DomId::ZERO, batch);
    }

    fn paths(&self, wanted: impl Fn(&Node) -> bool) -> Vec<String> {
        let nodes = self.tree.nodes.iter().filter(|(_, node)| wanted(node));
        nodes.map(|(path, _)| path.clone()).collect()
    }

    /// Drops a guest's watches, transactions and pending events.
    pub fn reset(&mut self, dom: DomId) {
        if let Some(client) = self.clients.get_mut(&dom) {
            client.reset(&mut self.ledger);
        }
    }

    /// Whether a guest watches this node or one above it.
    #[must_use]
    pub fn is_watched_by(&self, dom: DomId, path: &str) -> bool {
        let client = self.clients.get(&dom);
        client.is_some_and(|client| client.watches(path))
    }

    /// What a guest uses of the store.
    #[must_use]
    pub fn usage(&self, dom: DomId) -> Usage {
        self.ledger.usage(dom)
    }

    /// The next message for a guest's ring: first the answer, then events.
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
