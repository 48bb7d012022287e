//! By which right a domain maps another domain's frames: the control domain by its own, any other domain by a grant
//! that is in use. If an entry outlived its handle, the mapper would have access for ever.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::domain::page::HeldPage;
use crate::domain::registry;
use crate::grant::Access;
use crate::grant::audit::Use;
pub(super) use crate::pagetype::audit::Borrowed;

/// Records an entry that requires a grant. The control domain's entries require none.
pub(super) fn note(all: &mut Vec<Borrowed>, entry: Borrowed) -> Result<(), String> {
    if registry::lookup(entry.mapper).is_some_and(|dom| dom.is_control()) {
        return Ok(());
    }
    all.try_reserve(1)
        .map_err(|_| "no memory for the entries that map grants")?;
    all.push(entry);
    Ok(())
}

/// Checks that for each frame and kind of access there are no more entries than handles. There may be fewer, because a
/// guest may overwrite an entry, whose handle then can't be ended.
pub(super) fn check(borrowed: &[Borrowed], uses: &[Use<HeldPage>]) -> Result<(), String> {
    let entries = sorted(borrowed.iter().copied())?;
    let of_handle = |u: &Use<HeldPage>| Borrowed {
        mapper: u.mapper,
        mfn: u.mfn,
        writable: u.access == Access::Write,
    };
    let handles = sorted(uses.iter().filter(|u| u.is_mapped).map(of_handle))?;
    for alike in entries.chunk_by(|a, b| a == b) {
        let Some(entry) = alike.first() else { continue };
        let first = handles.partition_point(|handle| handle < entry);
        let end = handles.partition_point(|handle| handle <= entry);
        let allowed = end.saturating_sub(first);
        if alike.len() > allowed {
            let how = if entry.writable {
                "writable"
            } else {
                "to read"
            };
            return Err(format!(
                "frame {:#x}: domain {} maps it {how} in {} entries, and has {allowed} handles for that",
                entry.mfn.0,
                entry.mapper.0,
                alike.len()
            ));
        }
    }
    Ok(())
}

fn sorted(all: impl Iterator<Item = Borrowed>) -> Result<Vec<Borrowed>, String> {
    let mut list = Vec::new();
    for one in all {
        list.try_reserve(1)
            .map_err(|_| "no memory for the grants' entries")?;
        list.push(one);
    }
    list.sort_unstable();
    Ok(list)
}
