//! Records how much of the store each guest uses, and enforces the limits.

use alloc::collections::BTreeMap;

use guest_pv_abi::{Errno, errno};

use super::limits;
use crate::hyper::DomId;

/// What one domain uses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Number of nodes that it owns.
    pub nodes: usize,
    /// Bytes of its nodes, watches and transactions.
    pub bytes: usize,
}

/// A change of a domain's usage.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Difference {
    pub(super) more: Usage,
    pub(super) less: Usage,
}

/// The usage of all domains. Domain 0 has no limits.
#[derive(Debug, Default)]
pub struct Ledger {
    usages: BTreeMap<DomId, Usage>,
    /// Bytes that all guests use together.
    guests: usize,
}

impl Ledger {
    /// The usage of a domain.
    #[must_use]
    pub fn usage(&self, dom: DomId) -> Usage {
        self.usages.get(&dom).copied().unwrap_or_default()
    }

    /// Records all changes, or none if `who` would cause a guest to exceed its limits.
    ///
    /// # Errors
    /// ENOSPC for too many nodes, ENOMEM for too many bytes.
    pub(super) fn book(
        &mut self,
        who: DomId,
        differences: &BTreeMap<DomId, Difference>,
    ) -> Result<(), Errno> {
        for (dom, difference) in differences {
            if who != DomId::ZERO && *dom != DomId::ZERO {
                self.check(*dom, *difference)?;
            }
        }
        for (dom, difference) in differences {
            self.set(*dom, after(self.usage(*dom), *difference));
        }
        Ok(())
    }

    /// Records bytes that the domain itself uses.
    ///
    /// # Errors
    /// ENOMEM if they exceed its limit.
    pub(super) fn take(&mut self, dom: DomId, bytes: usize) -> Result<(), Errno> {
        let more = Usage { nodes: 0, bytes };
        let difference = Difference {
            more,
            less: Usage::default(),
        };
        self.book(dom, &BTreeMap::from([(dom, difference)]))
    }

    /// Records that the domain released bytes.
    pub(super) fn give(&mut self, dom: DomId, bytes: usize) {
        let usage = self.usage(dom);
        let bytes = usage.bytes.saturating_sub(bytes);
        self.set(dom, Usage { bytes, ..usage });
    }

    /// Removes a domain that owns nothing any more.
    pub(super) fn forget(&mut self, dom: DomId) {
        self.set(dom, Usage::default());
        self.usages.remove(&dom);
    }

    fn set(&mut self, dom: DomId, usage: Usage) {
        if dom != DomId::ZERO {
            self.guests = (self.guests + usage.bytes).saturating_sub(self.usage(dom).bytes);
        }
        self.usages.insert(dom, usage);
    }

    /// Reducing usage is always allowed.
    fn check(&self, dom: DomId, difference: Difference) -> Result<(), Errno> {
        let Difference { more, less } = difference;
        let usage = after(self.usage(dom), difference);
        if usage.nodes > limits::NODES && more.nodes > less.nodes {
            return Err(errno::ENOSPC);
        }
        let all = (self.guests + more.bytes).saturating_sub(less.bytes);
        let most = if all > limits::ALL_MEMORY {
            limits::LITTLE
        } else {
            limits::MEMORY
        };
        if usage.bytes > most && more.bytes > less.bytes {
            return Err(errno::ENOMEM);
        }
        Ok(())
    }
}

#[cfg(test)]
impl Ledger {
    /// Recounts the bytes that all guests use.
    pub(super) fn of_guests(&self) -> usize {
        let guests = self.usages.iter().filter(|(dom, _)| **dom != DomId::ZERO);
        let all = guests.map(|(_, usage)| usage.bytes).sum();
        assert_eq!(self.guests, all);
        all
    }
}

fn after(usage: Usage, difference: Difference) -> Usage {
    let change = |old: usize, more: usize, less: usize| (old + more).saturating_sub(less);
    Usage {
        nodes: change(usage.nodes, difference.more.nodes, difference.less.nodes),
        bytes: change(usage.bytes, difference.more.bytes, difference.less.bytes),
    }
}
