//! A binary min-heap of small ids whose owner always knows where each id stands, so that any id can
//! be taken out in O(log n). It never allocates but in [`IndexedHeap::reserve`].

use alloc::vec::Vec;

/// Memory for the heap could not be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoMemory;

/// Where the owner of the ids keeps each id's place in the heap.
pub trait Places {
    /// Notes that `id` now stands at `place`.
    fn set(&self, id: u32, place: u32);
    /// The place last noted for `id`.
    fn get(&self, id: u32) -> u32;
}

/// The heap: pairs of key and id, the least key first.
#[derive(Debug, Default)]
pub struct IndexedHeap {
    items: Vec<(u64, u32)>,
}

impl IndexedHeap {
    /// An empty heap without memory.
    pub const fn new() -> Self {
        Self { items: Vec::new() }
    }
    /// Makes room for `total` ids in all.
    pub fn reserve(&mut self, total: usize) -> Result<(), NoMemory> {
        let missing = total.saturating_sub(self.items.len());
        self.items.try_reserve(missing).map_err(|_| NoMemory)
    }
    /// How many ids are in the heap.
    pub fn len(&self) -> usize {
        self.items.len()
    }
    /// Whether the heap is empty.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }
    /// The least key and its id.
    pub fn first(&self) -> Option<(u64, u32)> {
        self.items.first().copied()
    }
    /// The first `count` pairs in heap order: near the front, not sorted.
    pub fn near_front(&self, count: usize) -> &[(u64, u32)] {
        self.items.get(..count).unwrap_or(&self.items)
    }
    /// Puts `id` in under `key`; an id may be in at most once. Room must have been reserved.
    pub fn push(&mut self, key: u64, id: u32, places: &impl Places) {
        self.items.push((key, id));
        self.sift_up(self.items.len() - 1, places);
    }
    /// Takes out the least key's id.
    pub fn pop_first(&mut self, places: &impl Places) -> Option<u32> {
        if self.items.is_empty() {
            return None;
        }
        let (_, id) = self.items.swap_remove(0);
        self.sift_down(0, places);
        Some(id)
    }
    /// Takes `id` out; whether it was in.
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

    /// Gives `id` another key; whether it was in.
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
