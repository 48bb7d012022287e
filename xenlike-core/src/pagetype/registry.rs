//! The domains' frames, by id: for who has a frame and needs its domain. Looking them up takes no
//! lock.

use alloc::sync::Arc;

use super::DomainPages;
use crate::kit::{DomId, IdTable};

static REGISTRY: IdTable<DomainPages> = IdTable::new();

/// Makes a domain's frames findable by its id.
///
/// # Errors
/// They come back if others are registered under that id.
pub fn register(pages: Arc<DomainPages>) -> Result<(), Arc<DomainPages>> {
    REGISTRY.insert(pages.id(), pages)
}

/// Forgets what is registered under `id`, if that is `pages`: the id may be somebody else's by now.
pub fn forget(id: DomId, pages: &Arc<DomainPages>) {
    REGISTRY.remove(id, pages);
}

/// The frames of the domain with this id.
#[inline(never)] // off the loops over a table's entries
pub fn registered(id: DomId) -> Option<Arc<DomainPages>> {
    REGISTRY.get(id)
}
