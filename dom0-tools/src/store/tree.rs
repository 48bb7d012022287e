//! The nodes of the store. A batch of changes is applied completely or not at all.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::rc::Rc;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use guest_pv_abi::Errno;
use hashbrown::HashMap;

use super::ledger::{Difference, Ledger, Usage};
use super::limits::ENTRY;
use super::path::{INTRODUCED, RELEASED};
use super::perms::{Perms, Want};
use crate::hyper::DomId;

/// A node of the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) value: Vec<u8>,
    /// Names of the child nodes. They are shared, since each change of a node copies the set.
    pub(super) children: BTreeSet<Rc<str>>,
    pub(super) perms: Perms,
    /// Differs from the generation of every earlier state of this path.
    pub(super) generation: u64,
}

impl Node {
    pub(super) fn new(value: Vec<u8>, perms: Perms) -> Node {
        Node {
            value,
            children: BTreeSet::new(),
            perms,
            generation: 0,
        }
    }

    /// Number of bytes that its contents count.
    pub(super) fn bytes(&self) -> usize {
        let names: usize = self.children.iter().map(|name| name.len() + 1).sum();
        self.value.len() + names + self.perms.entries() * size_of::<(DomId, u32)>()
    }
}

/// New nodes by path; `None` removes a node.
pub(super) type Batch = BTreeMap<String, Option<Node>>;

/// A change that may cause watch events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) path: String,
    pub(super) scope: Scope,
    /// A domain that may read under one of these may know of the change.
    pub(super) readers: Vec<Perms>,
}

/// Which watches a change concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    /// Watches of the node and of all nodes above it.
    Above,
    /// Only watches of the node. It was removed with a node above it, which has a change of its own.
    Exact,
}

impl Change {
    /// Whether this domain may know of the change.
    pub(super) fn is_for(&self, dom: DomId) -> bool {
        self.readers
            .iter()
            .any(|perms| perms.allow(dom, Want::Read))
    }
}

/// What requests read and change: the store itself, or a transaction on it.
pub(super) trait View {
    /// The node at a path.
    ///
    /// # Errors
    /// ENOSPC or ENOMEM if a transaction can't touch more nodes.
    fn get(&mut self, path: &str) -> Result<Option<Rc<Node>>, Errno>;

    /// Applies all changes, or none.
    ///
    /// # Errors
    /// ENOSPC or ENOMEM if `who` would exceed its limits.
    fn apply(&mut self, who: DomId, batch: Batch) -> Result<(), Errno>;

    /// Records a change for the watches.
    fn tell(&mut self, change: Change);
}

/// All nodes of the store.
#[derive(Debug)]
pub(super) struct Tree {
    /// The nodes by full path, which is how each request names one.
    pub(super) nodes: HashMap<String, Rc<Node>>,
    generation: u64,
}

impl Tree {
    /// A tree with the root, and the two special events, which have permissions like nodes.
    pub(super) fn new() -> Tree {
        let root = || Rc::new(Node::new(Vec::new(), Perms::private(DomId::ZERO)));
        let paths = ["/", INTRODUCED, RELEASED];
        Tree {
            nodes: HashMap::from_iter(paths.map(|path| (path.to_string(), root()))),
            generation: 0,
        }
    }

    pub(super) fn generation(&self, path: &str) -> Option<u64> {
        self.nodes.get(path).map(|node| node.generation)
    }

    /// Applies changes, and records their memory in the ledger.
    ///
    /// # Errors
    /// ENOSPC or ENOMEM; then nothing has changed.
    pub(super) fn apply(
        &mut self,
        ledger: &mut Ledger,
        who: DomId,
        batch: Batch,
    ) -> Result<(), Errno> {
        let mut differences: BTreeMap<DomId, Difference> = BTreeMap::new();
        for (path, new) in &batch {
            if let Some(old) = self.nodes.get(path) {
                add(
                    &mut differences.entry(old.perms.owner).or_default().less,
                    path,
                    old,
                );
            }
            if let Some(new) = new {
                add(
                    &mut differences.entry(new.perms.owner).or_default().more,
                    path,
                    new,
                );
            }
        }
        ledger.book(who, &differences)?;
        for (path, new) in batch {
            self.generation += 1;
            let generation = self.generation;
            match new {
                Some(node) => self
                    .nodes
                    .insert(path, Rc::new(Node { generation, ..node })),
                None => self.nodes.remove(&path),
            };
        }
        Ok(())
    }
}

fn add(usage: &mut Usage, path: &str, node: &Node) {
    usage.nodes += 1;
    usage.bytes += path.len() + node.bytes() + ENTRY;
}

/// A view of the store itself.
pub(super) struct Live<'a> {
    pub(super) tree: &'a mut Tree,
    pub(super) ledger: &'a mut Ledger,
    pub(super) changes: Vec<Change>,
}

impl View for Live<'_> {
    fn get(&mut self, path: &str) -> Result<Option<Rc<Node>>, Errno> {
        Ok(self.tree.nodes.get(path).cloned())
    }

    fn apply(&mut self, who: DomId, batch: Batch) -> Result<(), Errno> {
        self.tree.apply(self.ledger, who, batch)
    }

    fn tell(&mut self, change: Change) {
        self.changes.push(change);
    }
}
