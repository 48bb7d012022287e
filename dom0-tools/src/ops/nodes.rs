//! The operations of a Xenstore that the verbs need, whichever program serves it.

use alloc::string::String;

use crate::hyper::DomId;

/// A Xenstore as the toolstack uses it.
pub trait Nodes {
    /// Reads the value of a node; `None` if it doesn't exist.
    fn read(&mut self, path: &str) -> Option<String>;

    /// Sets the value of a node.
    ///
    /// # Errors
    /// A message about the cause.
    fn write(&mut self, path: &str, value: &str) -> Result<(), String>;

    /// Whether the domain's kernel watches this node; `None` if the store doesn't tell.
    fn is_watched(&self, _dom: DomId, _path: &str) -> Option<bool> {
        None
    }
}
