//! Values by domain id: looked up in two steps, whatever their number.

use alloc::boxed::Box;

use super::ids::DomId;

/// Ids in one block; blocks are made as ids are used.
const BLOCK: usize = 256;
const BLOCKS: usize = DomId::FIRST_RESERVED.0 as usize / BLOCK + 1;

type Block<T> = Box<[Option<T>; BLOCK]>;

/// A table of values by domain id. An id past all that there are has no value.
#[derive(Debug)]
pub struct IdTable<T> {
    blocks: [Option<Block<T>>; BLOCKS],
}

impl<T> IdTable<T> {
    /// Without any value.
    pub const fn new() -> Self {
        Self {
            blocks: [const { None }; BLOCKS],
        }
    }

    /// The value of `id`.
    #[inline]
    pub fn get(&self, id: DomId) -> Option<&T> {
        let (block, place) = place(id);
        self.blocks.get(block)?.as_ref()?.get(place)?.as_ref()
    }

    /// All values, by ascending id.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        let blocks = self.blocks.iter().flatten();
        blocks.flat_map(|block| block.iter().flatten())
    }

    /// Sets the value of `id`; gives the old one.
    pub fn insert(&mut self, id: DomId, value: T) -> Option<T> {
        let (block, place) = place(id);
        let block = self.blocks.get_mut(block)?;
        let block = block.get_or_insert_with(|| Box::new([const { None }; BLOCK]));
        block.get_mut(place)?.replace(value)
    }

    /// Takes the value of `id` away.
    pub fn remove(&mut self, id: DomId) -> Option<T> {
        let (block, place) = place(id);
        self.blocks.get_mut(block)?.as_mut()?.get_mut(place)?.take()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_in_is_found_and_nothing_else() {
        let mut table = IdTable::new();
        for id in [0, 255, 256, DomId::BOOT.0] {
            assert_eq!(table.insert(DomId(id), id), None);
        }
        assert!(table.iter().eq(&[0, 255, 256, DomId::BOOT.0]));
        assert_eq!(table.get(DomId(255)), Some(&255));
        assert_eq!(table.get(DomId::BOOT), Some(&DomId::BOOT.0));
        assert_eq!((table.get(DomId(1)), table.get(DomId(512))), (None, None));
        assert_eq!(table.insert(DomId(255), 7), Some(255));
        assert_eq!(table.remove(DomId(255)), Some(7));
        assert_eq!(table.get(DomId(255)), None);
    }

    #[test]
    fn ids_past_the_end_have_no_value() {
        let mut table = IdTable::new();
        assert_eq!(table.insert(DomId(u16::MAX), 1), None);
        assert_eq!(table.get(DomId(u16::MAX)), None);
        assert_eq!(table.remove(DomId(u16::MAX)), None);
    }
}
