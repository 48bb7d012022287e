//! Copying by the hypervisor (`GNTTABOP_copy`): one bounded piece inside two pages.

use alloc::sync::Arc;

use super::entry::{Grant, Use, Window};
use super::{Access, GrantError, Machine, Table};
use crate::kit::{DomId, Mfn, SharedWords};

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
    window: Window,
    /// Whether the window is less than the page.
    is_part: bool,
    access: Access,
    grant: Used<P>,
    /// The grant that a transitive one goes through to.
    beyond: Used<P>,
}

/// An entry in use, if there is a table.
struct Used<P> {
    table: Option<Arc<Table<P>>>,
    r: u32,
}

impl<P> Used<P> {
    const NONE: Self = Self { table: None, r: 0 };

    const fn new(table: Arc<Table<P>>, r: u32) -> Self {
        Self {
            table: Some(table),
            r,
        }
    }
}

/// Where a piece lies in its two pages.
#[derive(Clone, Copy, Debug)]
pub struct Piece {
    /// The first byte in the page that it comes from.
    pub from: u16,
    /// The first byte in the page that it goes to.
    pub to: u16,
    /// How many bytes.
    pub bytes: u16,
}

impl Piece {
    /// Whether it lies inside both pages.
    ///
    /// # Errors
    /// [`GrantError::BadCopyArg`]
    #[inline]
    pub fn check(self) -> Result<(), GrantError> {
        let fits = |first| Window::PAGE.has(first, self.bytes);
        if fits(self.from) && fits(self.to) {
            Ok(())
        } else {
            Err(GrantError::BadCopyArg)
        }
    }
}

/// Copies a piece for the domain of `caller`; `find` gives the table of a domain.
///
/// # Errors
/// As grant_table.h says for each status; nothing has been copied then.
pub fn copy<P: SharedWords, M: Machine>(
    caller: &Table<P>,
    (from, to): (CopySide<'_, P>, CopySide<'_, P>),
    piece: Piece,
    find: &impl Fn(DomId) -> Option<Arc<Table<P>>>,
    machine: &mut M,
) -> Result<(), GrantError> {
    piece.check()?;
    let source = hold(caller, &from, Access::Read, find, machine)?;
    let copied = hold(caller, &to, Access::Write, find, machine).and_then(|dest| {
        let copied = copy_held(&source, &dest, piece, machine);
        let_go(&dest, machine);
        copied
    });
    let_go(&source, machine);
    copied
}

/// Copies a piece.
///
/// # Errors
/// [`GrantError::BadCopyArg`] as of [`Piece::check`]; [`GrantError::General`] if a side lends other bytes.
#[inline]
pub fn copy_held<P, M: Machine>(
    from: &HeldSide<P, M::Bytes>,
    to: &HeldSide<P, M::Bytes>,
    piece: Piece,
    machine: &mut M,
) -> Result<(), GrantError> {
    piece.check()?;
    if from.is_part && !lends(from.window, piece.from, piece.bytes)
        || to.is_part && !lends(to.window, piece.to, piece.bytes)
    {
        return Err(GrantError::General);
    }
    machine.copy((from.bytes, piece.from), (to.bytes, piece.to), piece.bytes);
    Ok(())
}

/// Whether a side that lends a part of a page lends these bytes.
#[cold]
#[inline(never)]
fn lends(window: Window, first: u16, bytes: u16) -> bool {
    window.has(first, bytes)
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
    find: &impl Fn(DomId) -> Option<Arc<Table<P>>>,
    machine: &mut M,
) -> Result<HeldSide<P, M::Bytes>, GrantError> {
    match *side {
        CopySide::Frame(mfn) => Ok(HeldSide {
            mfn,
            bytes: take(mfn, caller.dom(), access, machine)?,
            window: Window::PAGE,
            is_part: false,
            access,
            grant: Used::NONE,
            beyond: Used::NONE,
        }),
        CopySide::Grant(granter, r) => {
            let mfn = granter.pin(r, caller.dom(), access, Use::Copy)?;
            if mfn == Mfn::INVALID {
                let other = take_other(granter, r, access, find, machine);
                return other.inspect_err(|_| granter.unpin(r, access));
            }
            let bytes = take(mfn, granter.dom(), access, machine)
                .inspect_err(|_| granter.unpin(r, access))?;
            Ok(HeldSide {
                mfn,
                bytes,
                window: Window::PAGE,
                is_part: false,
                access,
                grant: Used::new(Arc::clone(granter), r),
                beyond: Used::NONE,
            })
        }
    }
}

/// Takes what entry `r` of `granter` grants, which is in use and no whole frame: a part of one, or what another
/// domain grants. Only one step: a grant that is transitive itself leads no further.
#[cold]
#[inline(never)]
fn take_other<P: SharedWords, M: Machine>(
    granter: &Arc<Table<P>>,
    r: u32,
    access: Access,
    find: &impl Fn(DomId) -> Option<Arc<Table<P>>>,
    machine: &mut M,
) -> Result<HeldSide<P, M::Bytes>, GrantError> {
    let side = |mfn, bytes, window, beyond| HeldSide {
        mfn,
        bytes,
        window,
        is_part: window != Window::PAGE,
        access,
        grant: Used::new(Arc::clone(granter), r),
        beyond,
    };
    let (dom, r) = match granter.granted(r)? {
        Grant::Frame(mfn, window) => {
            let bytes = take(mfn, granter.dom(), access, machine)?;
            return Ok(side(mfn, bytes, window, Used::NONE));
        }
        Grant::Through(dom, r) => (dom, r),
    };
    if dom == granter.dom() || !granter.limits.transitive {
        return Err(GrantError::General);
    }
    let table = find(dom).ok_or(GrantError::General)?;
    table.pin(r, granter.dom(), access, Use::Copy)?;
    let taken = table.granted(r).and_then(|grant| match grant {
        Grant::Frame(mfn, window) => {
            take(mfn, table.dom(), access, machine).map(|bytes| (mfn, window, bytes))
        }
        Grant::Through(..) => Err(GrantError::General),
    });
    let (mfn, window, bytes) = taken.inspect_err(|_| table.unpin(r, access))?;
    Ok(side(mfn, bytes, window, Used::new(table, r)))
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
    if let Some(table) = &held.beyond.table {
        table.unpin(held.beyond.r, held.access);
    }
    if let Some(table) = &held.grant.table {
        table.unpin(held.grant.r, held.access);
    }
}
