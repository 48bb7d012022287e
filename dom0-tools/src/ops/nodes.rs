//! What the verbs want of a Xenstore, whoever serves it.

use alloc::string::String;

use crate::hyper::DomId;

/// A Xenstore as the toolstack sees it.
pub trait Nodes {
    /// A node's value.
    fn read(&mut self, path: &str) -> Option<String>;

    /// Sets a node's value.
    ///
    /// # Errors
    /// A sentence.
    fn write(&mut self, path: &str, value: &str) -> Result<(), String>;

    /// Whether the domain's kernel waits for changes of this node; `None` where the store doesn't tell.
    fn is_watched(&self, _dom: DomId, _path: &str) -> Option<bool> {
        None
    }
}
