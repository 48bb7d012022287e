//! Copying by the hypervisor (`GNTTABOP_copy`): one bounded piece inside two pages.

use alloc::sync::Arc;

use super::entry::Use;
use super::{Access, GrantError, Machine, Table};
use crate::kit::{DomId, Mfn, PAGE_SIZE, SharedWords};

/// One side of a copy.
pub enum CopySide<'a, P> {
    /// A frame of the caller's own.
    Frame(Mfn),
    /// A grant to the caller.
    Grant(&'a Arc<Table<P>>, u32),
}

/// A side with its references taken: for one copy or for several in a row.
#[must_use = "it is given back by let_go"]
pub struct HeldSide<P, B> {
    mfn: Mfn,
    bytes: B,
    access: Access,
    grant: Option<(Arc<Table<P>>, u32)>,
}

/// Copies `bytes` bytes for the domain of `caller`, each side given with the offset in its page.
///
/// # Errors
/// As grant_table.h says for each status; nothing has been copied then.
pub fn copy<P: SharedWords, M: Machine>(
    caller: &Table<P>,
    from: (CopySide<'_, P>, u16),
    to: (CopySide<'_, P>, u16),
    bytes: u16,
    machine: &mut M,
) -> Result<(), GrantError> {
    check_piece(from.1, to.1, bytes)?;
    let source = hold(caller, &from.0, Access::Read, machine)?;
    let copied = hold(caller, &to.0, Access::Write, machine).map(|dest| {
        copy_held((&source, from.1), (&dest, to.1), bytes, machine);
        let_go(&dest, machine);
    });
    let_go(&source, machine);
    copied
}

/// Whether a piece lies inside both pages.
///
/// # Errors
/// [`GrantError::BadCopyArg`]
#[inline]
pub fn check_piece(from: u16, to: u16, bytes: u16) -> Result<(), GrantError> {
    let fits = |offset: u16| usize::from(offset).saturating_add(bytes.into()) <= PAGE_SIZE;
    if fits(from) && fits(to) {
        Ok(())
    } else {
        Err(GrantError::BadCopyArg)
    }
}

/// Copies a piece that [`check_piece`] has passed.
#[inline]
pub fn copy_held<P, M: Machine>(
    from: (&HeldSide<P, M::Bytes>, u16),
    to: (&HeldSide<P, M::Bytes>, u16),
    bytes: u16,
    machine: &mut M,
) {
    machine.copy((from.0.bytes, from.1), (to.0.bytes, to.1), bytes);
}

/// Takes the references of a side.
///
/// # Errors
/// As [`copy`].
#[inline]
pub fn hold<P: SharedWords, M: Machine>(
    caller: &Table<P>,
    side: &CopySide<'_, P>,
    access: Access,
    machine: &mut M,
) -> Result<HeldSide<P, M::Bytes>, GrantError> {
    match *side {
        CopySide::Frame(mfn) => Ok(HeldSide {
            mfn,
            bytes: take(mfn, caller.dom(), access, machine)?,
            access,
            grant: None,
        }),
        CopySide::Grant(granter, r) => {
            let mfn = granter.pin(r, caller.dom(), access, Use::Copy)?;
            let bytes = take(mfn, granter.dom(), access, machine)
                .inspect_err(|_| granter.unpin(r, access))?;
            Ok(HeldSide {
                mfn,
                bytes,
                access,
                grant: Some((Arc::clone(granter), r)),
            })
        }
    }
}

/// Takes a frame's references, and the way to its bytes.
#[inline]
fn take<M: Machine>(
    mfn: Mfn,
    owner: DomId,
    access: Access,
    machine: &mut M,
) -> Result<M::Bytes, GrantError> {
    machine.get(mfn, owner, access)?;
    let bytes = machine.bytes(mfn);
    bytes.ok_or_else(|| {
        machine.put(mfn, access);
        GrantError::BadPage
    })
}

/// Gives back what [`hold`] took.
#[inline]
pub fn let_go<P: SharedWords, M: Machine>(held: &HeldSide<P, M::Bytes>, machine: &mut M) {
    machine.put(held.mfn, held.access);
    if let Some((granter, r)) = &held.grant {
        granter.unpin(*r, held.access);
    }
}
