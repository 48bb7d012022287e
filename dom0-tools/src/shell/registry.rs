//! The store of the shell's domains: their entries, and serving their rings.

use super::guests::Guests;
use crate::config::DomainConfig;
use crate::hyper::DomId;
use crate::ops::{Created, Nodes, Wish, entries, vm_path, wish_path};
use crate::store::{Store, Turn, path};
use alloc::string::String;

/// Writes the entries of a new domain.
pub(super) fn enter(store: &mut Store, config: &DomainConfig, created: &Created, uuid: &[u8; 16]) {
    for entry in entries(config, created, uuid) {
        // The store refuses the toolstack only invalid paths, and these are valid; a value may be anything.
        let _ = store.put(&entry.path, &entry.value, entry.perms);
    }
    store.introduce(created.id);
}

/// Removes the entries of a domain that has been destroyed.
pub(super) fn leave(store: &mut Store, id: DomId, uuid: &[u8; 16]) {
    // Missing nodes don't need to be removed.
    let _ = store.remove(&path::home(id));
    let _ = store.remove(&vm_path(uuid));
    store.release(id);
}

/// Changes the name of a domain in its entries.
pub(super) fn rename(store: &mut Store, id: DomId, uuid: &[u8; 16], name: &str) {
    for folder in [path::home(id), vm_path(uuid)] {
        // The store accepts any value here.
        let _ = store.write(&alloc::format!("{folder}/name"), name);
    }
}

impl Nodes for Guests {
    fn read(&mut self, path: &str) -> Option<String> {
        let value = self.store.read(path)?;
        Some(String::from_utf8_lossy(value).into_owned())
    }

    fn write(&mut self, path: &str, value: &str) -> Result<(), String> {
        let written = self.store.write(path, value);
        written.map_err(|error| alloc::format!("{path}: {error}"))?;
        self.serve_store();
        Ok(())
    }

    fn is_watched(&self, dom: DomId, path: &str) -> Option<bool> {
        Some(self.store.is_watched_by(dom, path))
    }
}

impl Guests {
    /// Answers the domains' requests, a bounded number of each, and delivers events.
    pub(super) fn serve_store(&mut self) {
        let mut more = false;
        // A request of one domain may cause an event for one that has had its turn.
        for _ in 0..2 {
            let mut worked = false;
            for guest in &mut self.guests {
                if let Some(link) = &mut guest.link {
                    let turn = link.serve(&mut self.store);
                    worked |= turn != Turn::Idle;
                    more |= turn == Turn::More;
                }
            }
            if !worked {
                break;
            }
        }
        self.busy = more;
    }

    /// Whether a domain's kernel watches for requests.
    pub(super) fn listens(&self, id: DomId) -> bool {
        self.store.is_watched_by(id, &wish_path(id))
    }

    /// Writes a request for a domain, or with `None` withdraws it.
    pub(super) fn wish(&mut self, id: DomId, wish: Option<Wish>) {
        let word = wish.map_or("", Wish::word);
        let _ = self.store.write(&wish_path(id), word);
        self.serve_store();
    }

    /// Whether a domain has accepted its request.
    pub(super) fn has_taken_up(&self, id: DomId) -> bool {
        let word = self.store.read(&wish_path(id));
        word.is_none_or(<[u8]>::is_empty)
    }
}
