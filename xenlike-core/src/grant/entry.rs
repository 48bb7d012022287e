//! The shared word of a version 1 entry: flags below, the grantee above. The granter may change it at
//! any moment, so it is claimed by compare-exchange with a bounded number of tries.

use crate::kit::atomic::{AtomicU32, Ordering::SeqCst};

use guest_pv_abi::grant_table as abi;

use super::{Access, GrantError};
use crate::kit::DomId;

/// How often a word that the granter keeps changing is tried.
const TRIES: u32 = 5;

/// What an entry is wanted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// A mapping.
    Map,
    /// A copy by the hypervisor.
    Copy,
}

/// Shows in `word` that `who` uses the entry from now on.
pub(super) fn claim(
    word: &AtomicU32,
    who: DomId,
    access: Access,
    use_: Use,
) -> Result<(), GrantError> {
    let checked = match use_ {
        Use::Map => abi::GTF_TYPE_MASK | abi::GTF_SUB_PAGE,
        Use::Copy => abi::GTF_TYPE_MASK,
    };
    change(word, |flags, dom| {
        let refused = flags & checked != abi::GTF_PERMIT_ACCESS
            || dom != who.0
            || access == Access::Write && flags & abi::GTF_READONLY != 0;
        let mark = match access {
            Access::Read => abi::GTF_READING,
            Access::Write => abi::GTF_READING | abi::GTF_WRITING,
        };
        (!refused).then_some(flags | mark)
    })
}

/// Commits the entry, which must accept a frame from `from`, to a transfer.
pub(super) fn commit_transfer(word: &AtomicU32, from: DomId) -> Result<(), GrantError> {
    change(word, |flags, dom| {
        let accepts = flags == abi::GTF_ACCEPT_TRANSFER && dom == from.0;
        accepts.then_some(flags | abi::GTF_TRANSFER_COMMITTED)
    })
}

/// Says that a committed transfer is complete; the frame has been written.
pub(super) fn complete_transfer(word: &AtomicU32) {
    word.fetch_or(u32::from(abi::GTF_TRANSFER_COMPLETED), SeqCst);
}

/// Shows in `word` which uses remain.
pub(super) fn unclaim(word: &AtomicU32, readers: u32, writers: u32) {
    let mut gone = 0;
    if writers == 0 {
        gone |= abi::GTF_WRITING;
        if readers == 0 {
            gone |= abi::GTF_READING;
        }
    }
    if gone != 0 {
        word.fetch_and(!u32::from(gone), SeqCst);
    }
}

fn change(word: &AtomicU32, to: impl Fn(u16, u16) -> Option<u16>) -> Result<(), GrantError> {
    let mut old = word.load(SeqCst);
    for _ in 0..TRIES {
        let (flags, dom) = (old as u16, (old >> 16) as u16);
        let new = to(flags, dom).ok_or(GrantError::General)?;
        let new = u32::from(dom) << 16 | u32::from(new);
        match word.compare_exchange(old, new, SeqCst, SeqCst) {
            Ok(_) => return Ok(()),
            Err(now) => old = now,
        }
    }
    Err(GrantError::General)
}
