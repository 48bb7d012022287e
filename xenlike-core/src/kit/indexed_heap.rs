//! An indexed binary min-heap of small ids. The ids' owner keeps the position of each id in the heap ([`Places`]),
//! so any id can be removed or moved in O(log n). Only [`IndexedHeap::reserve`] allocates. The run queues and
//! timer queues are such heaps.

use alloc::vec::Vec;

/// The heap's array could not be allocated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoMemory;

/// The ids' owner, which stores the position of each id in the heap.
pub trait Places {
    /// Records that `id` is now at position `place`.
    fn set(&self, id: u32, place: u32);
    /// The position last recorded for `id`.
    fn get(&self, id: u32) -> u32;
}

/// The heap: pairs of key and id, with the smallest key first.
#[derive(Debug, Default)]
pub struct IndexedHeap {
    items: Vec<(u64, u32)>,
}

impl IndexedHeap {
    /// Makes an empty heap, which allocates nothing yet.
    pub const fn new() -> Self {
        Self { items: Vec::new() }
    }
    /// Reserves room for `total` ids, counting those already in the heap.
    pub fn reserve(&mut self, total: usize) -> Result<(), NoMemory> {
        let missing = total.saturating_sub(self.items.len());
        self.items.try_reserve(missing).map_err(|_| NoMemory)
    }
    /// The number of ids in the heap.
    pub fn len(&self) -> usize {
        self.items.len()
    }
    /// Whether the heap contains no id.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }
    /// The smallest key and its id.
    pub fn first(&self) -> Option<(u64, u32)> {
        self.items.first().copied()
    }
    /// The first `count` pairs in heap order: small keys, but not sorted.
    pub fn near_front(&self, count: usize) -> &[(u64, u32)] {
        self.items.get(..count).unwrap_or(&self.items)
    }
    /// Inserts `id` with `key`. The caller has reserved room, and `id` is not in the heap yet.
    pub fn push(&mut self, key: u64, id: u32, places: &impl Places) {
        self.items.push((key, id));
        self.sift_up(self.items.len() - 1, places);
    }
    /// Removes the id with the smallest key and returns it.
    pub fn pop_first(&mut self, places: &impl Places) -> Option<u32> {
        if self.items.is_empty() {
            return None;
        }
        let (_, id) = self.items.swap_remove(0);
        self.sift_down(0, places);
        Some(id)
    }
    /// Removes `id`; returns whether it was in the heap.
    pub fn remove(&mut self, id: u32, places: &impl Places) -> bool {
        let at = places.get(id) as usize;
        if self.items.get(at).is_none_or(|item| item.1 != id) {
            return false;
        }
        self.items.swap_remove(at);
        if at < self.items.len() {
            self.sift_down(at, places);
            self.sift_up(at, places);
        }
        true
    }

    /// Changes the key of `id`; returns whether it was in the heap.
    pub fn change(&mut self, id: u32, key: u64, places: &impl Places) -> bool {
        let at = places.get(id) as usize;
        let Some(item) = self.items.get_mut(at).filter(|item| item.1 == id) else {
            return false;
        };
        let is_later = key > item.0;
        item.0 = key;
        if is_later {
            self.sift_down(at, places);
        } else {
            self.sift_up(at, places);
        }
        true
    }

    fn key(&self, at: usize) -> u64 {
        self.items.get(at).map_or(u64::MAX, |item| item.0)
    }

    fn note(&self, at: usize, places: &impl Places) {
        if let Some(&(_, id)) = self.items.get(at) {
            places.set(id, at as u32);
        }
    }

    fn sift_up(&mut self, mut at: usize, places: &impl Places) {
        while at > 0 && self.key(at) < self.key((at - 1) / 2) {
            self.items.swap(at, (at - 1) / 2);
            self.note(at, places);
            at = (at - 1) / 2;
        }
        self.note(at, places);
    }

    fn sift_down(&mut self, mut at: usize, places: &impl Places) {
        loop {
            let (left, right) = (2 * at + 1, 2 * at + 2);
            let child = if self.key(right) < self.key(left) {
                right
            } else {
                left
            };
            if child >= self.items.len() || self.key(child) >= self.key(at) {
                return self.note(at, places);
            }
            self.items.swap(at, child);
            self.note(at, places);
            at = child;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::cell::RefCell;
    use std::vec::Vec;

    struct Table(RefCell<[u32; 64]>);
    impl Places for Table {
        fn set(&self, id: u32, place: u32) {
            self.0.borrow_mut()[id as usize] = place;
        }
        fn get(&self, id: u32) -> u32 {
            self.0.borrow()[id as usize]
        }
    }

    proptest! {
        #[test]
        fn behaves_like_a_sorted_list(steps in proptest::collection::vec((0u32..64, 0u64..50), 1..300)) {
            let places = Table(RefCell::new([0; 64]));
            let mut heap = IndexedHeap::new();
            let mut model: Vec<(u64, u32)> = Vec::new();
            heap.reserve(64).unwrap();
            for (id, key) in steps {
                let known = model.iter().position(|item| item.1 == id);
                match known {
                    Some(at) if key % 2 == 0 => {
                        prop_assert!(heap.change(id, key, &places));
                        model[at].0 = key;
                    }
                    Some(at) => {
                        prop_assert!(heap.remove(id, &places));
                        model.remove(at);
                    }
                    None => {
                        prop_assert!(!heap.remove(id, &places) && !heap.change(id, key, &places));
                        heap.push(key, id, &places);
                        model.push((key, id));
                    }
                }
                if key % 5 == 0 && !model.is_empty() {
                    let first = heap.pop_first(&places).unwrap();
                    let at = model.iter().position(|item| item.1 == first).unwrap();
                    let (key, _) = model.remove(at);
                    prop_assert!(model.iter().all(|item| key <= item.0));
                }
                prop_assert_eq!(heap.len(), model.len());
                prop_assert_eq!(heap.first().map(|item| item.0), model.iter().map(|item| item.0).min());
            }
        }
    }
}
