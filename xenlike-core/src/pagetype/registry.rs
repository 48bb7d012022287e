//! The domains' frames, by id: for who has a frame and needs its domain.

use alloc::sync::Arc;

use super::DomainPages;
use crate::kit::{DomId, IdTable, RwLock};

static REGISTRY: RwLock<IdTable<Arc<DomainPages>>> = RwLock::new(IdTable::new());

/// Makes a domain's frames findable by its id.
pub fn register(pages: Arc<DomainPages>) {
    let id = pages.id();
    let before = REGISTRY.write().insert(id, pages);
    drop(before);
}

/// Forgets what is registered under `id`, if that is `pages`: the id may be somebody else's by now.
pub fn forget(id: DomId, pages: &Arc<DomainPages>) {
    let mut registry = REGISTRY.write();
    if registry
        .get(id)
        .is_some_and(|found| Arc::ptr_eq(found, pages))
    {
        registry.remove(id);
    }
}

/// The frames of the domain with this id.
pub fn registered(id: DomId) -> Option<Arc<DomainPages>> {
    REGISTRY.read().get(id).cloned()
}
