//! All domains, by id. A domain stays listed until the last of its frames is back. Looking one up
//! takes no lock.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::Domain;
use crate::kit::{DomId, IdTable};

static DOMAINS: IdTable<Domain> = IdTable::new();

/// The domain `id`, counted: it can't go while the caller holds it.
pub fn lookup(id: DomId) -> Option<Arc<Domain>> {
    DOMAINS.get(id)
}

/// As [`lookup`], for keys of timers, which keep the id that a domain was created with: when the boot domain is
/// gone, it may have become domain 0. If that is another domain, it gets a deadline that is not its own, and finds
/// that nothing of its own is due.
pub fn lookup_noted(id: DomId) -> Option<Arc<Domain>> {
    lookup(id).or_else(|| lookup(DomId::DOM0).filter(|_| id == DomId::BOOT))
}

/// Lists a new domain. Refused (the domain comes back) if the id is taken.
pub fn insert(domain: Arc<Domain>) -> Result<(), Arc<Domain>> {
    DOMAINS.insert(domain.id(), domain)
}

/// Unlists a domain. Another one that got its id meanwhile stays.
pub fn remove(dom: &Arc<Domain>) {
    DOMAINS.remove(dom.id(), dom);
}

/// Lists the domain `old`, which is the caller's, under `new` instead, which must be free. It is
/// found by one of the two ids at any time.
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

/// All domains that guests can name, by ascending id, from `first` on.
pub fn from(first: DomId) -> Vec<Arc<Domain>> {
    DOMAINS
        .iter()
        .filter(|d| d.id() >= first && d.id() < DomId::BOOT)
        .collect()
}

/// All domains there are, for the audit.
#[cfg(feature = "audit")]
pub fn all() -> Vec<Arc<Domain>> {
    DOMAINS.iter().collect()
}

/// The lowest id from 1 on that no domain has, starting the search at `from` and wrapping.
pub fn free_id(from: u16) -> Option<DomId> {
    let last = DomId::BOOT.0;
    let ids = (from.max(1)..last).chain(1..from.min(last));
    ids.map(DomId).find(|id| lookup(*id).is_none())
}
