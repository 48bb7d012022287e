//! Operations on nodes, with permission checks: read, write, make, remove, set permissions. They work on the store
//! itself and in a transaction.

use alloc::rc::Rc;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use guest_pv_abi::{Errno, errno};

use super::limits;
use super::path;
use super::perms::{Perms, Want};
use super::tree::{Batch, Change, Node, Scope, View};
use crate::hyper::DomId;

/// Finds a node; `None` if it doesn't exist and `who` may know that.
///
/// # Errors
/// EACCES if the node, or the nearest node above a missing one, doesn't allow it.
fn find(
    view: &mut dyn View,
    who: DomId,
    path: &str,
    want: Want,
) -> Result<Option<Rc<Node>>, Errno> {
    let node = view.get(path)?;
    let judge = match &node {
        Some(node) => node.clone(),
        None => nearest(view, path)?.1,
    };
    if judge.perms.allow(who, want) {
        Ok(node)
    } else {
        Err(errno::EACCES)
    }
}

/// The nearest existing node above a path.
fn nearest(view: &mut dyn View, path: &str) -> Result<(String, Rc<Node>), Errno> {
    let mut above = path;
    loop {
        above = path::parent(above).ok_or(errno::ENOENT)?;
        if let Some(node) = view.get(above)? {
            return Ok((above.to_string(), node));
        }
    }
}

/// A node that `who` may read.
///
/// # Errors
/// ENOENT; EACCES without the right to read.
pub(super) fn read(view: &mut dyn View, who: DomId, path: &str) -> Result<Rc<Node>, Errno> {
    find(view, who, path, Want::Read)?.ok_or(errno::ENOENT)
}

/// Sets the value of a node. Creates the node and missing nodes above it.
///
/// # Errors
/// EACCES, ENOSPC, or ENOMEM.
pub(super) fn write(
    view: &mut dyn View,
    who: DomId,
    path: &str,
    value: &[u8],
) -> Result<(), Errno> {
    match find(view, who, path, Want::Write)? {
        None => make(view, who, path, value, None),
        Some(old) => {
            let node = Node {
                value: value.to_vec(),
                ..(*old).clone()
            };
            let readers = Vec::from([node.perms.clone()]);
            replace(view, who, path, node, readers)
        }
    }
}

/// Sets value and permissions of a node for domain 0. Creates the node and missing nodes above it.
///
/// # Errors
/// EINVAL for a path that has no node above it.
pub(super) fn put(
    view: &mut dyn View,
    path: &str,
    value: &[u8],
    perms: Perms,
) -> Result<(), Errno> {
    match view.get(path)? {
        None => make(view, DomId::ZERO, path, value, Some(perms)),
        Some(old) => {
            let readers = Vec::from([perms.clone(), old.perms.clone()]);
            let mut node = (*old).clone();
            (node.value, node.perms) = (value.to_vec(), perms);
            replace(view, DomId::ZERO, path, node, readers)
        }
    }
}

/// Replaces an existing node. Domains that may read under one of `readers` may know of the change.
fn replace(
    view: &mut dyn View,
    who: DomId,
    path: &str,
    node: Node,
    readers: Vec<Perms>,
) -> Result<(), Errno> {
    check_size(who, &node)?;
    let change = change(view, path, Scope::Above, readers)?;
    view.apply(who, Batch::from([(path.to_string(), Some(node))]))?;
    view.tell(change);
    Ok(())
}

/// Makes a node without a value, unless it exists.
///
/// # Errors
/// EACCES, ENOSPC, or ENOMEM.
pub(super) fn mkdir(view: &mut dyn View, who: DomId, path: &str) -> Result<(), Errno> {
    match find(view, who, path, Want::Write)? {
        Some(_) => Ok(()),
        None => make(view, who, path, &[], None),
    }
}

/// Makes a node and the missing ones above it. They inherit the permissions of the nearest existing node, but belong
/// to their maker. `own` overrides the permissions of the node itself.
fn make(
    view: &mut dyn View,
    who: DomId,
    path: &str,
    value: &[u8],
    own: Option<Perms>,
) -> Result<(), Errno> {
    let (above, top) = nearest(view, path)?;
    let mut perms = top.perms.clone();
    if who != DomId::ZERO {
        perms.owner = who;
    }
    let mut batch = Batch::new();
    let own = own.unwrap_or_else(|| perms.clone());
    let mut node = Node::new(value.to_vec(), own.clone());
    let mut at = path;
    loop {
        check_size(who, &node)?;
        batch.insert(at.to_string(), Some(node));
        let name = Rc::from(path::name(at));
        at = path::parent(at).ok_or(errno::EINVAL)?;
        if at == above {
            let mut top = (*top).clone();
            top.children.insert(name);
            check_size(who, &top)?;
            batch.insert(above, Some(top));
            break;
        }
        node = Node::new(Vec::new(), perms.clone());
        node.children.insert(name);
    }
    view.apply(who, batch)?;
    let change = change(view, path, Scope::Above, Vec::from([own]))?;
    view.tell(change);
    Ok(())
}

/// Removes a node and everything below it. If the node doesn't exist but the one above does, this succeeds.
///
/// # Errors
/// EINVAL for the root; ENOENT; EACCES.
pub(super) fn remove(view: &mut dyn View, who: DomId, path: &str) -> Result<(), Errno> {
    let node = find(view, who, path, Want::Write)?;
    let above = path::parent(path).ok_or(errno::EINVAL)?;
    let parent = view.get(above)?.ok_or(errno::ENOENT)?;
    let Some(node) = node else { return Ok(()) };
    let mut parent = (*parent).clone();
    parent.children.remove(path::name(path));
    let mut batch = Batch::from([(above.to_string(), Some(parent))]);
    let mut changes = Vec::new();
    let mut left = Vec::from([(path.to_string(), node)]);
    while let Some((at, node)) = left.pop() {
        let scope = if at == path {
            Scope::Above
        } else {
            Scope::Exact
        };
        changes.push(change(view, &at, scope, Vec::from([node.perms.clone()]))?);
        for name in &node.children {
            let child = path::child(&at, name);
            if let Some(node) = view.get(&child)? {
                left.push((child, node));
            }
        }
        batch.insert(at, None);
    }
    view.apply(who, batch)?;
    changes.into_iter().for_each(|change| view.tell(change));
    Ok(())
}

/// Sets the permissions of a node.
///
/// # Errors
/// ENOENT; EACCES unless `who` is the owner; EPERM if a guest gives a node away; ENOSPC.
pub(super) fn set_perms(
    view: &mut dyn View,
    who: DomId,
    path: &str,
    perms: Perms,
) -> Result<(), Errno> {
    let old = find(view, who, path, Want::Own)?.ok_or(errno::ENOENT)?;
    if who != DomId::ZERO {
        if perms.owner != old.perms.owner {
            return Err(errno::EPERM);
        }
        if perms.entries() > limits::PERMISSIONS {
            return Err(errno::ENOSPC);
        }
    }
    let readers = Vec::from([perms.clone(), old.perms.clone()]);
    let node = Node {
        perms,
        ..(*old).clone()
    };
    replace(view, who, path, node, readers)
}

/// Domains that may read the node above are told too, since they see the node appear and disappear.
fn change(
    view: &mut dyn View,
    path: &str,
    scope: Scope,
    mut readers: Vec<Perms>,
) -> Result<Change, Errno> {
    if let Some(above) = path::parent(path)
        && let Some(node) = view.get(above)?
    {
        readers.push(node.perms.clone());
    }
    Ok(Change {
        path: path.to_string(),
        scope,
        readers,
    })
}

fn check_size(who: DomId, node: &Node) -> Result<(), Errno> {
    if who != DomId::ZERO && node.bytes() > limits::NODE_BYTES {
        return Err(errno::ENOSPC);
    }
    Ok(())
}
