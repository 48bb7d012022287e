//! The table of all domains, by id. A domain stays listed until its last frame is freed. Looking up a domain
//! takes no lock.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::Domain;
use crate::kit::{DomId, IdTable};

static DOMAINS: IdTable<Domain> = IdTable::new();

/// Returns domain `id`, counted: it is not freed while the caller holds the reference.
pub fn lookup(id: DomId) -> Option<Arc<Domain>> {
    DOMAINS.get(id)
}

/// As [`lookup`], for keys of timers, which keep the id that a domain was created with: when the boot domain is
/// gone, it may have become domain 0. If that is another domain, it gets a deadline that is not its own, and finds
/// that nothing of its own is due.
pub fn lookup_noted(id: DomId) -> Option<Arc<Domain>> {
    lookup(id).or_else(|| lookup(DomId::DOM0).filter(|_| id == DomId::BOOT))
}

/// Lists a new domain. If the id is taken, returns the domain as the error.
pub fn insert(domain: Arc<Domain>) -> Result<(), Arc<Domain>> {
    DOMAINS.insert(domain.id(), domain)
}

/// Unlists a domain. If another domain has got the id meanwhile, that one stays listed.
pub fn remove(dom: &Arc<Domain>) {
    DOMAINS.remove(dom.id(), dom);
}

/// Lists the caller's domain `old` under `new` instead, which must be free. The domain can be found by at least
/// one of the two ids at any time.
pub fn rename(old: DomId, new: DomId) -> bool {
    let Some(domain) = lookup(old) else {
        return false;
    };
    if DOMAINS.insert(new, Arc::clone(&domain)).is_err() {
        return false;
    }
    domain.set_id(new);
    DOMAINS.remove(old, &domain)
}

/// Returns all domains that guests can name, by ascending id, beginning with `first`.
pub fn from(first: DomId) -> Vec<Arc<Domain>> {
    DOMAINS
        .iter()
        .filter(|d| d.id() >= first && d.id() < DomId::BOOT)
        .collect()
}

/// Iterates over all domains, including the boot domain.
pub fn all() -> impl Iterator<Item = Arc<Domain>> {
    DOMAINS.iter()
}

/// Returns the lowest free id from `from` on (at least 1), wrapping to 1. `None` if all ids are taken.
pub fn free_id(from: u16) -> Option<DomId> {
    let last = DomId::BOOT.0;
    let ids = (from.max(1)..last).chain(1..from.min(last));
    ids.map(DomId).find(|id| lookup(*id).is_none())
}
