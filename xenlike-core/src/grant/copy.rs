//! Copies by the hypervisor (`GNTTABOP_copy`): one piece within two pages.

use alloc::sync::Arc;

use super::entry::{Grant, Use, Window};
use super::{Access, GrantError, Machine, Table};
use crate::kit::{DomId, Gfn, Mfn, SharedWords};

/// The source or the destination of a copy.
pub enum CopySide<'a, P> {
    /// A frame that the caller owns.
    Frame(Mfn),
    /// An entry of another domain's table that grants to the caller.
    Grant(&'a Arc<Table<P>>, u32),
}

/// A source or destination that is a whole page, with its references. It can be used for several copies.
#[must_use = "it is given back by let_go"]
pub struct HeldSide<P, B> {
    mfn: Mfn,
    bytes: B,
    access: Access,
    grant: Option<(Arc<Table<P>>, u32)>,
}

/// A source or destination of any kind, with its references, for one copy.
pub(super) struct AnySide<P, B> {
    side: HeldSide<P, B>,
    /// The bytes that may be accessed.
    window: Window,
    /// The entry to which a transitive grant leads.
    beyond: Option<(Arc<Table<P>>, u32)>,
}

/// The position of a piece in its two pages.
#[derive(Clone, Copy, Debug)]
pub struct Piece {
    /// The first byte in the source page.
    pub from: u16,
    /// The first byte in the destination page.
    pub to: u16,
    /// The number of bytes.
    pub bytes: u16,
}

impl Piece {
    /// Checks that the piece is within both windows.
    ///
    /// # Errors
    /// [`GrantError::BadCopyArg`] if it crosses the end of a page, [`GrantError::General`] if it is outside
    /// the granted bytes.
    fn check(self, from: Window, to: Window) -> Result<(), GrantError> {
        let fits = |from: Window, to: Window| {
            from.has(self.from, self.bytes) && to.has(self.to, self.bytes)
        };
        if !fits(Window::PAGE, Window::PAGE) {
            Err(GrantError::BadCopyArg)
        } else if !fits(from, to) {
            Err(GrantError::General)
        } else {
            Ok(())
        }
    }
}

/// Copies a piece on behalf of the domain of `caller`, between sides of any kind. `find` returns the table
/// of a domain.
///
/// # Errors
/// As grant_table.h describes for each status. Nothing has been copied then.
pub fn copy<P: SharedWords, M: Machine>(
    caller: &Table<P>,
    (from, to): (&CopySide<'_, P>, &CopySide<'_, P>),
    piece: Piece,
    find: &impl Fn(DomId) -> Option<Arc<Table<P>>>,
    machine: &mut M,
) -> Result<(), GrantError> {
    let source = AnySide::hold(caller, from, Access::Read, find, machine)?;
    let copied = AnySide::hold(caller, to, Access::Write, find, machine).and_then(|dest| {
        let fits = piece.check(source.window, dest.window);
        let copied = fits.and_then(|()| copy_held(&source.side, &dest.side, piece, machine));
        dest.let_go(machine);
        copied
    });
    source.let_go(machine);
    copied
}

/// Copies a piece between two held sides.
///
/// # Errors
/// [`GrantError::BadCopyArg`] if it crosses the end of a page.
#[inline]
pub fn copy_held<P, M: Machine>(
    from: &HeldSide<P, M::Bytes>,
    to: &HeldSide<P, M::Bytes>,
    piece: Piece,
    machine: &mut M,
) -> Result<(), GrantError> {
    let copied = machine.copy((from.bytes, piece.from), (to.bytes, piece.to), piece.bytes);
    copied.ok_or(GrantError::BadCopyArg)
}

/// Takes the references of a side that is a whole page.
///
/// # Errors
/// As for [`copy`], and [`GrantError::NotWhole`] for a side that only [`copy`] can handle.
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
            let gfn = granter.pin(r, caller.dom(), access, Use::Copy)?;
            if gfn == Gfn::INVALID {
                granter.unpin(r, access);
                return Err(GrantError::NotWhole);
            }
            let (mfn, bytes) = take_granted(gfn, granter.dom(), access, machine)
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

impl<P: SharedWords, B: Copy> AnySide<P, B> {
    const fn whole(side: HeldSide<P, B>) -> Self {
        Self {
            side,
            window: Window::PAGE,
            beyond: None,
        }
    }

    /// Like [`hold`], for a side of any kind.
    pub(super) fn hold<M: Machine<Bytes = B>>(
        caller: &Table<P>,
        side: &CopySide<'_, P>,
        access: Access,
        find: &impl Fn(DomId) -> Option<Arc<Table<P>>>,
        machine: &mut M,
    ) -> Result<Self, GrantError> {
        let CopySide::Grant(granter, r) = *side else {
            return hold(caller, side, access, machine).map(Self::whole);
        };
        granter.pin(r, caller.dom(), access, Use::Copy)?;
        let held = Self::of_grant(granter, r, access, find, machine);
        held.inspect_err(|_| granter.unpin(r, access))
    }

    /// Takes references to what entry `r` of `granter`, which is in use, grants. A transitive grant leads to an
    /// entry of another domain. That one must not be transitive itself, so the walk ends there.
    fn of_grant<M: Machine<Bytes = B>>(
        granter: &Arc<Table<P>>,
        r: u32,
        access: Access,
        find: &impl Fn(DomId) -> Option<Arc<Table<P>>>,
        machine: &mut M,
    ) -> Result<Self, GrantError> {
        let side = |mfn, bytes| HeldSide {
            mfn,
            bytes,
            access,
            grant: Some((Arc::clone(granter), r)),
        };
        let (dom, r) = match granter.granted(r)? {
            Grant::Frame(gfn, window) => {
                let (mfn, bytes) = take_granted(gfn, granter.dom(), access, machine)?;
                return Ok(Self {
                    window,
                    ..Self::whole(side(mfn, bytes))
                });
            }
            Grant::Through(dom, r) => (dom, r),
        };
        if dom == granter.dom() || !granter.limits.transitive {
            return Err(GrantError::General);
        }
        let table = find(dom).ok_or(GrantError::General)?;
        table.pin(r, granter.dom(), access, Use::Copy)?;
        let taken = table.granted(r).and_then(|grant| match grant {
            Grant::Frame(gfn, window) => {
                Ok((take_granted(gfn, table.dom(), access, machine)?, window))
            }
            Grant::Through(..) => Err(GrantError::General),
        });
        let ((mfn, bytes), window) = taken.inspect_err(|_| table.unpin(r, access))?;
        Ok(Self {
            side: side(mfn, bytes),
            window,
            beyond: Some((table, r)),
        })
    }

    /// Drops what [`Self::hold`] has taken.
    pub(super) fn let_go<M: Machine<Bytes = B>>(self, machine: &mut M) {
        let_go(&self.side, machine);
        if let Some((table, r)) = self.beyond {
            table.unpin(r, self.side.access);
        }
    }
}

/// Takes the references of a frame that `owner` granted, and returns it with access to its bytes.
#[inline]
fn take_granted<M: Machine>(
    gfn: Gfn,
    owner: DomId,
    access: Access,
    machine: &mut M,
) -> Result<(Mfn, M::Bytes), GrantError> {
    let mfn = machine.resolve(gfn, owner)?;
    Ok((mfn, take(mfn, owner, access, machine)?))
}

/// Takes the references of a frame, and returns access to its bytes.
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

/// Drops what [`hold`] has taken.
#[inline]
pub fn let_go<P: SharedWords, M: Machine>(held: &HeldSide<P, M::Bytes>, machine: &mut M) {
    machine.put(held.mfn, held.access);
    if let Some((granter, r)) = &held.grant {
        granter.unpin(*r, held.access);
    }
}
