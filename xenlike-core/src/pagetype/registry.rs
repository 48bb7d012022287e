//! The domains' frames by domain id, for code that has a frame and needs its domain. A lookup takes no lock.

use alloc::sync::Arc;

use super::DomainPages;
use crate::kit::{DomId, IdTable};

static REGISTRY: IdTable<DomainPages> = IdTable::new();

/// Registers a domain's frames under its id.
///
/// # Errors
/// If another domain is registered under that id, the frames are returned.
pub fn register(pages: Arc<DomainPages>) -> Result<(), Arc<DomainPages>> {
    REGISTRY.insert(pages.id(), pages)
}

/// Removes the entry of `id`, if it is `pages`. The id may have been reused by now.
pub fn forget(id: DomId, pages: &Arc<DomainPages>) {
    REGISTRY.remove(id, pages);
}

/// Returns the frames of the domain with this id.
#[inline(never)] // off the loops over a table's entries
pub fn registered(id: DomId) -> Option<Arc<DomainPages>> {
    REGISTRY.get(id)
}
