//! [`IdTable`]: counted values by domain id, found without a lock. Guests can look up domains as often as they like;
//! such a lookup waits neither for another one nor for a domain that is created or destroyed.
//!
//! *Protocol.* A slot is one word: the address of its value, and the number of CPUs that are just taking a reference to
//! it (the slot's *pins*). A lookup adds a pin and reads the address in one atomic instruction. The value stays valid
//! until the pin is removed; before that, the lookup takes a reference of its own. A removal clears the address, waits
//! until there are no pins, and only then drops the slot's reference. A pin is held for a few instructions with
//! interrupts off, and a lookup that sees an empty slot adds none, so the wait is bounded by the number of CPUs,
//! whatever they look up next. It is harmless if a new value appears at the address of an old one (A-B-A): a lookup
//! pins whichever value is in the slot at that moment.
#![expect(unsafe_code, reason = "turns the address back into the Arc it was")]

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::marker::PhantomData;

use super::ids::DomId;
use super::lock::{Lock, Once, Rank, wait_step};
use crate::kit::atomic::{AtomicU64, Ordering};

/// The number of ids in one block. A block is allocated when one of its ids is first used, and is never freed.
const BLOCK: usize = 256;
const BLOCKS: usize = DomId::FIRST_RESERVED.0 as usize / BLOCK + 1;

/// The value of one id: bits 63 to 16 are bits 47 to 0 of its address, bits 15 to 0 count pins. Addresses are
/// canonical, so the upper 16 bits of an address follow from bit 47.
struct Slot<T> {
    word: AtomicU64,
    value: PhantomData<Arc<T>>,
}

const PIN_BITS: u32 = 16;
const PINS: u64 = (1 << PIN_BITS) - 1;

/// The value whose reference a slot with this word owns.
fn value_in<T>(word: u64) -> Option<*const T> {
    let address = (word as i64 >> PIN_BITS) as usize;
    (address != 0).then(|| core::ptr::with_exposed_provenance(address))
}

impl<T> Slot<T> {
    const fn new() -> Self {
        Self {
            word: AtomicU64::new(0),
            value: PhantomData,
        }
    }

    /// A new reference to the value, if there is one.
    #[inline]
    fn get(&self) -> Option<Arc<T>> {
        // An empty slot gets no pin, so that lookups can't prolong the wait of a removal.
        value_in::<T>(self.word.load(Ordering::Relaxed))?;
        // One instruction pins and reads the address, so the value read is the one that is pinned. Acquire pairs with
        // the release in `put`: what was stored before the insertion is visible.
        let pinned = self.word.fetch_add(1, Ordering::Acquire);
        #[cfg(loom)] // loom doesn't know the count in an `Arc`: lets it switch CPUs here
        self.word.load(Ordering::Relaxed);
        let found = value_in(pinned).map(|value| {
            // SAFETY: the slot's reference came from an `Arc` and is not dropped while the pin is there.
            unsafe {
                Arc::increment_strong_count(value);
                Arc::from_raw(value)
            }
        });
        // Release pairs with the acquire in `take`: the new reference is counted before the pin is gone.
        self.word.fetch_sub(1, Ordering::Release);
        found
    }

    fn holds(&self, value: &Arc<T>) -> bool {
        value_in(self.word.load(Ordering::Relaxed)) == Some(Arc::as_ptr(value))
    }

    /// The caller holds the table's lock.
    fn put(&self, value: Arc<T>) -> Result<(), Arc<T>> {
        if value_in::<T>(self.word.load(Ordering::Relaxed)).is_some() {
            return Err(value);
        }
        let address = Arc::into_raw(value).expose_provenance() as u64;
        // An OR and not a store, because a lookup that found the slot occupied a moment ago may still hold a pin.
        self.word.fetch_or(address << PIN_BITS, Ordering::Release);
        Ok(())
    }

    /// The caller holds the table's lock. Acquire in the loop pairs with the release that removes a pin: the references
    /// that lookups took are visible before the slot's reference is handed on.
    fn take(&self) -> Option<Arc<T>> {
        let value = value_in(self.word.fetch_and(PINS, Ordering::AcqRel))?;
        while self.word.load(Ordering::Acquire) & PINS != 0 {
            wait_step();
        }
        // SAFETY: `put` turned an `Arc` into this reference, which has just left the slot.
        Some(unsafe { Arc::from_raw(value) })
    }
}

type Block<T> = Box<[Slot<T>]>;

/// Built in place: a block of half a page would take too much of the stack.
fn new_block<T>() -> Block<T> {
    (0..BLOCK).map(|_| Slot::new()).collect()
}

/// A table of values by domain id. An id beyond the last block never has a value.
pub struct IdTable<T> {
    blocks: [Once<Block<T>>; BLOCKS],
    change: Lock<()>,
}

impl<T> IdTable<T> {
    /// Makes an empty table, which allocates nothing yet.
    pub const fn new() -> Self {
        Self {
            blocks: [const { Once::new() }; BLOCKS],
            change: Lock::new(Rank::IdTable, ()),
        }
    }

    fn slot(&self, id: DomId) -> Option<&Slot<T>> {
        let (block, place) = place(id);
        self.blocks.get(block)?.get()?.get(place)
    }

    /// A new reference to the value of `id`, if it has one. Takes no lock.
    #[inline]
    pub fn get(&self, id: DomId) -> Option<Arc<T>> {
        self.slot(id)?.get()
    }

    /// Iterates over all values by ascending id. A value that is inserted or removed meanwhile may be included or not.
    pub fn iter(&self) -> impl Iterator<Item = Arc<T>> {
        let blocks = self.blocks.iter().filter_map(Once::get);
        blocks.flat_map(|block| block.iter()).filter_map(Slot::get)
    }

    /// Gives `id` the value `value`.
    ///
    /// # Errors
    /// Returns `value` if the id has one already, or lies beyond the last block.
    pub fn insert(&self, id: DomId, value: Arc<T>) -> Result<(), Arc<T>> {
        let _one = self.change.lock();
        let (block, place) = place(id);
        let block = self.blocks.get(block);
        let block = block.map(|it| it.call_once(new_block));
        match block.and_then(|block| block.get(place)) {
            Some(slot) => slot.put(value),
            None => Err(value),
        }
    }

    /// Removes the value of `id` if it is `value`; returns whether it was.
    pub fn remove(&self, id: DomId, value: &Arc<T>) -> bool {
        let _one = self.change.lock();
        let slot = self.slot(id).filter(|slot| slot.holds(value));
        // The caller's reference keeps the value from being dropped under the lock.
        slot.and_then(Slot::take).is_some()
    }
}

impl<T> Default for IdTable<T> {
    fn default() -> Self {
        Self::new()
    }
}

const fn place(id: DomId) -> (usize, usize) {
    (id.0 as usize / BLOCK, id.0 as usize % BLOCK)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[test]
    fn what_is_put_in_is_found_and_nothing_else() {
        let table = IdTable::new();
        let ids = [0, 255, 256, DomId::BOOT.0];
        let values = ids.map(Arc::new);
        for value in &values {
            assert!(table.insert(DomId(**value), Arc::clone(value)).is_ok());
        }
        assert!(table.iter().eq(values.iter().cloned()));
        assert_eq!(table.get(DomId(255)).as_deref(), Some(&255));
        assert_eq!(table.get(DomId::BOOT).as_deref(), Some(&DomId::BOOT.0));
        assert_eq!((table.get(DomId(1)), table.get(DomId(512))), (None, None));
        // An id that has a value takes no other, and a removal that names another value fails.
        assert_eq!(table.insert(DomId(255), Arc::new(7)), Err(Arc::new(7)));
        assert!(!table.remove(DomId(255), &Arc::new(255)));
        for value in &values {
            assert!(table.remove(DomId(**value), value));
            assert_eq!(
                (table.get(DomId(**value)), Arc::strong_count(value)),
                (None, 1)
            );
        }
    }

    #[test]
    fn ids_past_the_end_have_no_value() {
        let table = IdTable::new();
        let value = Arc::new(1);
        assert!(table.insert(DomId(u16::MAX), Arc::clone(&value)).is_err());
        assert_eq!(table.get(DomId(u16::MAX)), None);
        assert!(!table.remove(DomId(u16::MAX), &value));
    }

    #[test]
    fn values_come_and_go_under_readers() {
        const ROUNDS: u32 = if cfg!(miri) { 50 } else { 20_000 };
        let table = IdTable::new();
        let over = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    while !over.load(Ordering::Relaxed) {
                        let found: Vec<Arc<u32>> = table.iter().collect();
                        assert!(found.iter().all(|value| **value < ROUNDS));
                    }
                });
            }
            for round in 0..ROUNDS {
                let value = Arc::new(round);
                assert!(table.insert(DomId(3), Arc::clone(&value)).is_ok());
                assert!(table.remove(DomId(3), &value));
            }
            over.store(true, Ordering::Relaxed);
        });
    }
}

#[cfg(all(test, loom))]
mod models {
    use std::sync::Arc;

    use loom::thread;

    use super::IdTable;
    use crate::kit::DomId;
    use crate::kit::atomic::Ordering::{AcqRel, Acquire, Relaxed};
    use crate::kit::atomic::model::explore;
    use crate::kit::atomic::{AtomicBool, AtomicU32};

    const ID: DomId = DomId(3);

    /// Stands for a domain. `set_up` is stored, relaxed, before the domain is inserted.
    struct Domain {
        set_up: AtomicU32,
        ended: Arc<AtomicBool>,
    }

    impl Drop for Domain {
        fn drop(&mut self) {
            assert!(!self.ended.swap(true, AcqRel), "ended twice");
        }
    }

    fn domain() -> (Arc<Domain>, Arc<AtomicBool>) {
        let ended = Arc::new(AtomicBool::new(false));
        let domain = Domain {
            set_up: AtomicU32::new(0),
            ended: ended.clone(),
        };
        // Touches the atomics before the first spawn.
        domain.set_up.load(Relaxed);
        ended.load(Relaxed);
        (Arc::new(domain), ended)
    }

    /// Checks what a caller may rely on while it has a reference.
    fn look(table: &IdTable<Domain>) {
        if let Some(domain) = table.get(ID) {
            assert_eq!(
                domain.set_up.load(Relaxed),
                1,
                "listed before it was set up"
            );
            assert!(!domain.ended.load(Acquire), "gone under a reference");
        }
    }

    fn table_with(domain: &Arc<Domain>) -> Arc<IdTable<Domain>> {
        let table = IdTable::new();
        domain.set_up.store(1, Relaxed);
        assert!(table.insert(ID, Arc::clone(domain)).is_ok());
        assert!(table.get(ID).is_some());
        Arc::new(table)
    }

    /// Two CPUs look up a domain as a third one destroys it: a domain that is found is alive, and at
    /// the end it is gone.
    #[test]
    fn lookup_against_destruction() {
        explore(3, || {
            let (domain, ended) = domain();
            let table = table_with(&domain);
            let lookers = [(); 2].map(|()| {
                let table = table.clone();
                thread::spawn(move || look(&table))
            });
            assert!(table.remove(ID, &domain));
            drop(domain);
            for looker in lookers {
                looker.join().unwrap();
            }
            assert!(table.get(ID).is_none());
            assert!(ended.load(Acquire), "never ended");
        });
    }

    /// A domain is destroyed and the next one gets its id and perhaps its address, while another CPU
    /// looks up the id twice.
    #[test]
    fn lookup_against_destruction_and_reuse_of_the_id() {
        explore(3, || {
            let (first, first_ended) = domain();
            let (second, second_ended) = domain();
            let table = table_with(&first);
            let looked = table.clone();
            let looker = thread::spawn(move || {
                look(&looked);
                look(&looked);
            });
            assert!(table.remove(ID, &first));
            drop(first);
            second.set_up.store(1, Relaxed);
            assert!(table.insert(ID, Arc::clone(&second)).is_ok());
            looker.join().unwrap();
            assert!(first_ended.load(Acquire) && !second_ended.load(Acquire));
            assert!(table.remove(ID, &second));
            drop(second);
            assert!(second_ended.load(Acquire));
        });
    }
}
