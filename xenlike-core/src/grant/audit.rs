//! Compares handles with entries, for the audit of test builds. Each use of an entry must belong to a handle,
//! and no mapping may be under way.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::handles::{Part, Slot};
use super::table::Active;
use super::{Access, Table};
use crate::kit::{DomId, Gfn, Mfn, SharedWords};

/// Finds the frame that a domain knows by a number.
pub type Resolve = fn(DomId, Gfn) -> Option<Mfn>;

/// The use of another domain's entry by a handle.
pub struct Use<P> {
    /// The domain that has the handle.
    pub mapper: DomId,
    /// The table that has the entry.
    pub granter: Arc<Table<P>>,
    /// The number of the entry.
    pub r: u32,
    /// The frame that the handle refers to.
    pub mfn: Mfn,
    /// Whether the handle may write the frame.
    pub access: Access,
    /// Whether the handle is mapped for CPUs.
    pub is_mapped: bool,
}

impl<P> Use<P> {
    /// The sort key: all uses of one entry follow each other.
    fn key(&self) -> (usize, u32) {
        (Arc::as_ptr(&self.granter).addr(), self.r)
    }
}

impl<P: SharedWords> Table<P> {
    /// Calls `each` with the pages that the table shares with the guest: entries and status words.
    pub fn for_each_page(
        &self,
        each: &mut dyn FnMut(&P) -> Result<(), String>,
    ) -> Result<(), String> {
        let entries = self.entries.lock();
        let frames = entries.frames.iter();
        let pages = frames.filter_map(|frame| frame.page.as_ref());
        pages.chain(&entries.status).try_for_each(each)
    }

    /// Adds the uses by this table's handles to `uses`, and checks the list of free handles.
    ///
    /// # Errors
    /// If the list is broken, if a handle is reserved or partly unmapped, or if there is no memory.
    pub fn collect_uses(&self, uses: &mut Vec<Use<P>>) -> Result<(), String> {
        let mapper = self.dom();
        let handles = self.handles.lock();
        let mut free = 0u32;
        for (n, slot) in (0u32..).zip(handles.slots()) {
            match slot {
                Slot::Free(_) => free = free.saturating_add(1),
                Slot::Reserved => {
                    return Err(format!(
                        "domain {}: grant handle {n} is kept for nothing",
                        mapper.0
                    ));
                }
                Slot::Taken(handle) => {
                    if handle.is_over() || [handle.host, handle.device].contains(&Part::Leaving) {
                        return Err(format!(
                            "domain {}: grant handle {n} is half gone",
                            mapper.0
                        ));
                    }
                    uses.try_reserve(1)
                        .map_err(|_| "no memory for the grants")?;
                    uses.push(Use {
                        mapper,
                        granter: Arc::clone(&handle.granter),
                        r: handle.r,
                        mfn: handle.mfn,
                        access: handle.access,
                        is_mapped: handle.host == Part::Mapped,
                    });
                }
            }
        }
        let (mut next, mut listed) = (handles.first_free(), 0u32);
        while let Some(n) = next {
            match handles.peek(n) {
                Some(Slot::Free(after)) if listed < free => next = *after,
                _ => {
                    return Err(format!(
                        "domain {}: its free grant handles are no list at {n}",
                        mapper.0
                    ));
                }
            }
            listed = listed.saturating_add(1);
        }
        if listed == free {
            Ok(())
        } else {
            Err(format!(
                "domain {}: {free} grant handles are free, {listed} on the list",
                mapper.0
            ))
        }
    }

    /// Calls `each` with every entry that is in use, and checks how many they are.
    fn for_each_active(
        &self,
        each: &mut dyn FnMut(u32, &Active) -> Result<(), String>,
    ) -> Result<(), String> {
        let entries = self.entries.lock();
        let per_frame = entries.version.entries_per_frame();
        let mut used = 0u32;
        for (n, frame) in (0u32..).zip(&entries.frames) {
            let first = n.saturating_mul(per_frame);
            for (place, active) in (0..).zip(&frame.active) {
                if !active.is_unused() {
                    // `active` may be longer than the frame has entries; no reference leads to the rest.
                    each(first.saturating_add(place), active)?;
                    used = used.saturating_add(1);
                }
            }
        }
        if used == entries.used {
            Ok(())
        } else {
            let (dom, noted) = (self.dom().0, entries.used);
            Err(format!(
                "domain {dom}: {used} grant entries are in use, {noted} noted"
            ))
        }
    }
}

/// Compares all uses by handles, which it sorts, with the counts in the entries: those of `granters`, and those
/// of granters that only handles refer to.
///
/// # Errors
/// If the counts differ from the handles.
pub fn compare<P: SharedWords>(
    uses: &mut [Use<P>],
    granters: &mut dyn Iterator<Item = Arc<Table<P>>>,
    resolve: Resolve,
) -> Result<(), String> {
    uses.sort_unstable_by_key(Use::key);
    for of_one in uses.chunk_by(|a, b| a.key() == b.key()) {
        let Some(first) = of_one.first() else {
            continue;
        };
        let entry = first.granter.entries.lock().peek(first.r);
        let active = entry.map_err(|_| {
            format!(
                "domain {}: no grant entry {}",
                first.granter.dom().0,
                first.r
            )
        })?;
        compare_entry(&first.granter, first.r, &active, of_one, resolve)?;
    }
    for granter in granters {
        granter.for_each_active(&mut |r, active| {
            let key = (Arc::as_ptr(&granter).addr(), r);
            match uses.binary_search_by_key(&key, Use::key) {
                Ok(_) => Ok(()),
                Err(_) => compare_entry(&granter, r, active, &[], resolve),
            }
        })?;
    }
    Ok(())
}

/// Compares the counts in an entry with the handles that use it.
fn compare_entry<P: SharedWords>(
    granter: &Table<P>,
    r: u32,
    active: &Active,
    uses: &[Use<P>],
    resolve: Resolve,
) -> Result<(), String> {
    let frame = active.whole().and_then(|gfn| resolve(granter.dom(), gfn));
    let which = || format!("grant entry {r} of domain {}", granter.dom().0);
    if let Some(other) = uses
        .iter()
        .find(|u| u.mapper != active.user || frame != Some(u.mfn))
    {
        return Err(format!(
            "{}: a handle of domain {} on frame {:#x}, but it is in use by domain {} for {:?}",
            which(),
            other.mapper.0,
            other.mfn.0,
            active.user.0,
            active.grant()
        ));
    }
    let count = |access| uses.iter().filter(|u| u.access == access).count();
    for (what, counted, noted) in [
        ("handles that read", count(Access::Read), active.readers),
        ("handles that write", count(Access::Write), active.writers),
    ] {
        if counted != noted as usize {
            return Err(format!("{}: {counted} {what}, {noted} noted", which()));
        }
    }
    Ok(())
}
