//! Counted values by domain id, found without a lock: guests look domains up at will, and neither
//! make each other wait for that nor a domain that comes or goes.
//!
//! *The protocol.* A slot is one word: where its value is, and how many CPUs are just taking a
//! reference to that (its *pins*). A CPU that looks adds a pin and reads the address by the same
//! instruction; what it found stays until its pin is gone, and it takes a reference of its own
//! meanwhile. Who removes the value takes the address out of the word, waits until there are no
//! pins, and drops the slot's reference. A pin is held for a few instructions with interrupts off,
//! and a CPU that finds a slot empty adds none; so the wait is bounded by the number of CPUs, whatever
//! they go on to look up. An address that comes back in between does no harm: whoever pins it has
//! the value that is there then.
#![expect(unsafe_code, reason = "turns the address back into the Arc it was")]

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::marker::PhantomData;

use super::ids::DomId;
use super::lock::{Lock, Once, Rank, wait_step};
use crate::kit::atomic::{AtomicU64, Ordering};

/// Ids in one block; blocks are made as ids are used, and stay.
const BLOCK: usize = 256;
const BLOCKS: usize = DomId::FIRST_RESERVED.0 as usize / BLOCK + 1;

/// The value of one id. Addresses are canonical, so that their upper 16 bits need no place.
struct Slot<T> {
    word: AtomicU64,
    value: PhantomData<Arc<T>>,
}

const PIN_BITS: u32 = 16;
const PINS: u64 = (1 << PIN_BITS) - 1;

/// The value of which a slot with this word has a reference.
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

    #[inline]
    fn get(&self) -> Option<Arc<T>> {
        value_in::<T>(self.word.load(Ordering::Relaxed))?;
        let pinned = self.word.fetch_add(1, Ordering::Acquire);
        #[cfg(loom)] // the count of an `Arc` is no atomic of loom's: another CPU may go on here
        self.word.load(Ordering::Relaxed);
        let found = value_in(pinned).map(|value| {
            // SAFETY: the slot's own reference to the value came from an `Arc`, and stays while
            // the pin is there.
            unsafe {
                Arc::increment_strong_count(value);
                Arc::from_raw(value)
            }
        });
        self.word.fetch_sub(1, Ordering::Release);
        found
    }

    fn holds(&self, value: &Arc<T>) -> bool {
        value_in(self.word.load(Ordering::Relaxed)) == Some(Arc::as_ptr(value))
    }

    /// Only for whoever has the table's lock.
    fn put(&self, value: Arc<T>) -> Result<(), Arc<T>> {
        if value_in::<T>(self.word.load(Ordering::Relaxed)).is_some() {
            return Err(value);
        }
        let address = Arc::into_raw(value).expose_provenance() as u64;
        self.word.fetch_or(address << PIN_BITS, Ordering::Release);
        Ok(())
    }

    /// Only for whoever has the table's lock.
    fn take(&self) -> Option<Arc<T>> {
        let value = value_in(self.word.fetch_and(PINS, Ordering::AcqRel))?;
        while self.word.load(Ordering::Acquire) & PINS != 0 {
            wait_step();
        }
        // SAFETY: the reference that `put` made of an `Arc`, which has just left the slot.
        Some(unsafe { Arc::from_raw(value) })
    }
}

type Block<T> = Box<[Slot<T>]>;

/// Made in place: it is half a page, which would be much on the stack.
fn new_block<T>() -> Block<T> {
    (0..BLOCK).map(|_| Slot::new()).collect()
}

/// A table of values by domain id. An id past all that there are has no value.
pub struct IdTable<T> {
    blocks: [Once<Block<T>>; BLOCKS],
    change: Lock<()>,
}

impl<T> IdTable<T> {
    /// Without any value.
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

    /// A reference to the value of `id`.
    #[inline]
    pub fn get(&self, id: DomId) -> Option<Arc<T>> {
        self.slot(id)?.get()
    }

    /// All values, by ascending id; one that comes or goes meanwhile may be there or not.
    pub fn iter(&self) -> impl Iterator<Item = Arc<T>> {
        let blocks = self.blocks.iter().filter_map(Once::get);
        blocks.flat_map(|block| block.iter()).filter_map(Slot::get)
    }

    /// Gives `id` a value.
    ///
    /// # Errors
    /// The value comes back if `id` has one, or is past all that there are.
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

    /// Takes the value of `id` away, if it is `value`; true if it was.
    pub fn remove(&self, id: DomId, value: &Arc<T>) -> bool {
        let _one = self.change.lock();
        let slot = self.slot(id).filter(|slot| slot.holds(value));
        // The caller's own reference keeps the value from ending under the lock.
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
        // Neither another value under an id that has one, nor another's removal.
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

    /// Stands for a domain: `set_up` is stored, without order, before it is listed.
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
        // Touches the atomics.
        domain.set_up.load(Relaxed);
        ended.load(Relaxed);
        (Arc::new(domain), ended)
    }

    /// What a caller may count on while it has a reference.
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

    /// Two CPUs look a domain up while a third one destroys it: who finds it has it alive, and at
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

    /// A domain is destroyed and the next one gets its id and, perhaps, its address, while another CPU
    /// looks the id up twice.
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
