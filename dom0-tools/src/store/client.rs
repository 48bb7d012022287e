//! The data that the store keeps for each guest: its watches, pending events, and open transactions.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use guest_pv_abi::{Errno, errno};

use super::ledger::Ledger;
use super::limits::{self, ENTRY};
use super::path;
use super::transaction::Transaction;
use super::tree::{Change, Scope};
use super::wire;
use crate::hyper::DomId;

/// A watch of a guest.
#[derive(Debug)]
struct Watch {
    number: u64,
    path: String,
    /// The part that the guest's path leaves out: empty, or the guest's home and a slash.
    home: String,
    token: Vec<u8>,
}

impl Watch {
    fn bytes(&self) -> usize {
        // Counts the path twice, for the event that may replace all others.
        2 * self.path.len() + self.home.len() + self.token.len() + 2 * ENTRY
    }

    fn sees(&self, change: &Change) -> bool {
        match change.scope {
            Scope::Above => path::is_below(&change.path, &self.path),
            Scope::Exact => change.path == self.path,
        }
    }
}

/// An event to be delivered to a guest.
#[derive(Debug, PartialEq, Eq)]
struct Event {
    watch: u64,
    path: String,
}

/// The state of a guest in the store.
#[derive(Debug)]
pub(super) struct Client {
    dom: DomId,
    watches: Vec<Watch>,
    next_watch: u64,
    events: VecDeque<Event>,
    pub(super) reply: Option<Vec<u8>>,
    transactions: BTreeMap<u32, Transaction>,
    next_transaction: u32,
}

impl Client {
    pub(super) fn new(dom: DomId) -> Client {
        Client {
            dom,
            watches: Vec::new(),
            next_watch: 0,
            events: VecDeque::new(),
            reply: None,
            transactions: BTreeMap::new(),
            next_transaction: 1,
        }
    }

    /// Drops everything, and returns its memory to the ledger.
    pub(super) fn reset(&mut self, ledger: &mut Ledger) {
        for watch in self.watches.drain(..) {
            ledger.give(self.dom, watch.bytes());
        }
        for (_, transaction) in core::mem::take(&mut self.transactions) {
            transaction.drop_from(ledger, self.dom);
        }
        self.events.clear();
        self.reply = None;
    }

    /// Whether it watches this node or one above it.
    pub(super) fn watches(&self, node: &str) -> bool {
        self.watches
            .iter()
            .any(|watch| path::is_below(node, &watch.path))
    }

    /// Sets a watch, which fires once at once.
    ///
    /// # Errors
    /// EINVAL; EEXIST; E2BIG for one watch too many; ENOMEM.
    pub(super) fn watch(
        &mut self,
        ledger: &mut Ledger,
        given: &[u8],
        token: &[u8],
    ) -> Result<(), Errno> {
        let path = path::absolute(self.dom, given)?;
        let home = path.len() - given.len();
        let watch = Watch {
            number: self.next_watch,
            home: path.get(..home).unwrap_or_default().to_string(),
            path,
            token: token.to_vec(),
        };
        if self.position(&watch.path, token).is_some() {
            return Err(errno::EEXIST);
        }
        if self.watches.len() >= limits::WATCHES {
            return Err(errno::E2BIG);
        }
        ledger.take(self.dom, watch.bytes())?;
        self.next_watch += 1;
        self.events.push_back(Event {
            watch: watch.number,
            path: watch.path.clone(),
        });
        self.watches.push(watch);
        Ok(())
    }

    /// Removes a watch and its pending events.
    ///
    /// # Errors
    /// EINVAL for a bad path, ENOENT.
    pub(super) fn unwatch(
        &mut self,
        ledger: &mut Ledger,
        given: &[u8],
        token: &[u8],
    ) -> Result<(), Errno> {
        let path = path::absolute(self.dom, given)?;
        let at = self.position(&path, token).ok_or(errno::ENOENT)?;
        let watch = self.watches.remove(at);
        self.events.retain(|event| event.watch != watch.number);
        ledger.give(self.dom, watch.bytes());
        Ok(())
    }

    fn position(&self, path: &str, token: &[u8]) -> Option<usize> {
        let is = |watch: &Watch| watch.path == path && watch.token == token;
        self.watches.iter().position(is)
    }

    /// Queues an event for each watch that covers the change.
    pub(super) fn tell(&mut self, change: &Change) {
        if !change.is_for(self.dom) {
            return;
        }
        for watch in &self.watches {
            if watch.sees(change) {
                queue(&mut self.events, watch, &change.path);
            }
        }
    }

    /// The next message for the guest's ring.
    pub(super) fn next_message(&mut self) -> Option<Vec<u8>> {
        if let Some(reply) = self.reply.take() {
            return Some(reply);
        }
        while let Some(event) = self.events.pop_front() {
            let watch = self
                .watches
                .iter()
                .find(|watch| watch.number == event.watch);
            let message = watch.and_then(|watch| {
                let path = event.path.strip_prefix(&watch.home).unwrap_or(&event.path);
                wire::event(path, &watch.token)
            });
            if message.is_some() {
                return message;
            }
        }
        None
    }

    /// Starts a transaction; returns its id.
    ///
    /// # Errors
    /// ENOSPC if too many are open.
    pub(super) fn begin(&mut self) -> Result<u32, Errno> {
        if self.transactions.len() >= limits::TRANSACTIONS {
            return Err(errno::ENOSPC);
        }
        while self.next_transaction == 0 || self.transactions.contains_key(&self.next_transaction) {
            self.next_transaction = self.next_transaction.wrapping_add(1);
        }
        let id = self.next_transaction;
        self.next_transaction = id.wrapping_add(1);
        self.transactions.insert(id, Transaction::default());
        Ok(id)
    }

    /// An open transaction, by id.
    ///
    /// # Errors
    /// ENOENT if it isn't open.
    pub(super) fn transaction(&mut self, id: u32) -> Result<&mut Transaction, Errno> {
        self.transactions.get_mut(&id).ok_or(errno::ENOENT)
    }

    /// Takes a transaction that is to be ended.
    ///
    /// # Errors
    /// ENOENT if it isn't open.
    pub(super) fn end(&mut self, id: u32) -> Result<Transaction, Errno> {
        self.transactions.remove(&id).ok_or(errno::ENOENT)
    }
}

/// Queues an event unless it is pending already. When too many are pending, one with the watch's own path
/// replaces all of this watch's events: a guest that doesn't take its events misses no change, but doesn't
/// learn which nodes changed.
fn queue(events: &mut VecDeque<Event>, watch: &Watch, path: &str) {
    let waits = |path: &str| {
        let is = |event: &Event| event.watch == watch.number && event.path == path;
        events.iter().any(is)
    };
    if waits(path) {
        return;
    }
    let waiting: usize = events.iter().map(|event| event.path.len() + ENTRY).sum();
    let full = waiting + path.len() + ENTRY > limits::EVENT_BYTES;
    // The one event that remains has the watch's own path, whose length was booked with the watch.
    if full {
        events.retain(|event| event.watch != watch.number);
    }
    events.push_back(Event {
        watch: watch.number,
        path: if full {
            watch.path.clone()
        } else {
            path.to_string()
        },
    });
}

#[cfg(test)]
impl Client {
    /// The memory that the ledger must have recorded for it, besides its nodes.
    pub(super) fn bytes(&self) -> usize {
        let watches: usize = self.watches.iter().map(Watch::bytes).sum();
        let transactions = self.transactions.values();
        watches + transactions.map(Transaction::bytes).sum::<usize>()
    }
}
