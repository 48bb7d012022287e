//! All domains, by id. A domain stays listed until the last of its frames is back.

use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;

use super::Domain;
use crate::kit::{DomId, IdTable, Once, RwLock};

static DOMAINS: RwLock<IdTable<Arc<Domain>>> = RwLock::new(IdTable::new());

/// Who was listed under another id before: deadlines that were set then still name that.
static RENAMED: Once<(DomId, Weak<Domain>)> = Once::new();

/// The domain `id`, counted: it can't go while the caller holds it.
pub fn lookup(id: DomId) -> Option<Arc<Domain>> {
    DOMAINS.read().get(id).cloned()
}

/// As [`lookup`], for the core's own notes: the boot domain that became domain 0 is found by the id
/// it had.
pub fn lookup_noted(id: DomId) -> Option<Arc<Domain>> {
    lookup(id).or_else(|| {
        let (old, domain) = RENAMED.get()?;
        if *old == id { domain.upgrade() } else { None }
    })
}

/// Lists a new domain. Refused (the domain comes back) if the id is taken.
pub fn insert(domain: Arc<Domain>) -> Result<(), Arc<Domain>> {
    let mut map = DOMAINS.write();
    if map.get(domain.id()).is_some() {
        return Err(domain);
    }
    map.insert(domain.id(), domain);
    Ok(())
}

/// Unlists a domain. Another one that got its id meanwhile stays.
pub fn remove(dom: &Arc<Domain>) {
    let mut map = DOMAINS.write();
    let id = dom.id();
    if map.get(id).is_some_and(|listed| Arc::ptr_eq(listed, dom)) {
        map.remove(id);
    }
}

/// Lists the domain `old` under `new` instead, which must be free.
pub fn rename(old: DomId, new: DomId) -> bool {
    let mut map = DOMAINS.write();
    if map.get(new).is_some() {
        return false;
    }
    let Some(domain) = map.remove(old) else {
        return false;
    };
    domain.set_id(new);
    RENAMED.call_once(|| (old, Arc::downgrade(&domain)));
    map.insert(new, domain);
    true
}

/// All domains that guests can name, by ascending id, from `first` on.
pub fn from(first: DomId) -> Vec<Arc<Domain>> {
    let map = DOMAINS.read();
    map.iter()
        .filter(|d| d.id() >= first && d.id() < DomId::BOOT)
        .cloned()
        .collect()
}

/// All domains there are, for the audit.
#[cfg(feature = "audit")]
pub fn all() -> Vec<Arc<Domain>> {
    DOMAINS.read().iter().cloned().collect()
}

/// The lowest id from 1 on that no domain has, starting the search at `from` and wrapping.
pub fn free_id(from: u16) -> Option<DomId> {
    let map = DOMAINS.read();
    let last = DomId::BOOT.0;
    let ids = (from.max(1)..last).chain(1..from.min(last));
    ids.map(DomId).find(|id| map.get(*id).is_none())
}
