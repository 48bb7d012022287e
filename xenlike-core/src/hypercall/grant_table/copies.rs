//! Copying between frames by the hypervisor. Consecutive pieces mostly share a side (a ring's page, a packet's
//! buffer), so a side stays held until a piece names another one.

use alloc::sync::Arc;

use guest_pv_abi::Width;
use guest_pv_abi::errno::{self, Errno};
use guest_pv_abi::grant_table as abi;

use super::{Ctx, List, Outcome, mapper, status};
use crate::domain::Domain;
use crate::domain::page::HeldPage;
use crate::domain::registry;
use crate::grant::{self, Access, CopySide, GrantError, HeldSide, Piece};
use crate::kit::{DomId, Gfn, Vaddr};
use crate::mm::SharedPage;
use crate::mm::guest::{Guest, NARROW, WIDE, offset_in};

/// Number of pieces between two checks for preemption.
const STRIDE: u32 = 8;

/// Copies all pieces of a list.
pub fn copy(ctx: &mut Ctx<'_>, list: &mut List) -> Outcome {
    let mut sides = Sides::default();
    let outcome = match ctx.st.kind.width() {
        Width::Wide => copy_with::<WIDE>(ctx, list, &mut sides),
        Width::Narrow => copy_with::<NARROW>(ctx, list, &mut sides),
    };
    for (_, held) in [&sides.source, &sides.dest].into_iter().flatten() {
        grant::let_go(held, &mut mapper(ctx));
    }
    outcome
}

fn copy_with<const FORM: bool>(ctx: &mut Ctx<'_>, list: &mut List, sides: &mut Sides) -> Outcome {
    let mut at = list.array;
    loop {
        let pieces = list.count.min(STRIDE);
        for _ in 0..pieces {
            if let Err(error) = one::<FORM>(ctx, at, sides) {
                return error.into();
            }
            at = at.wrapping_add(Guest::in_form::<FORM>().size::<abi::GnttabCopy>());
        }
        if list.count <= STRIDE {
            return Outcome::Done(0);
        }
        list.count = list.count.saturating_sub(STRIDE);
        if ctx.preempted() {
            list.array = at;
            return Outcome::Again;
        }
    }
}

/// A side with its reference held.
type Held = HeldSide<HeldPage, SharedPage>;

/// The sides of the previous piece.
#[derive(Default)]
struct Sides {
    source: Option<(Named, Held)>,
    dest: Option<(Named, Held)>,
}

/// A side as the request names it. It has only two words, because it is compared for every piece.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Named {
    /// The frame number, or the grant reference.
    u: u64,
    /// The domain in the low 16 bits; above, whether the side is a grant.
    whose: u32,
}

impl Named {
    fn of(side: &abi::GnttabCopyPtr, by_grant: bool) -> Self {
        let whose = u32::from(side.domid) | u32::from(by_grant) << 16;
        Self { u: side.u, whose }
    }
    const fn domid(self) -> u16 {
        self.whose as u16
    }
    const fn is_by_grant(self) -> bool {
        self.whose >> 16 != 0
    }
}

/// Copies the piece described at `at`, and writes its status.
#[inline(always)] // one instance for each form
fn one<const FORM: bool>(ctx: &mut Ctx<'_>, at: Vaddr, sides: &mut Sides) -> Result<(), Errno> {
    let op = Guest::in_form::<FORM>().read::<abi::GnttabCopy>(at)?;
    let mut copied = piece(ctx, &op, sides);
    if copied == Err(GrantError::NotWhole) {
        copied = copy_other(ctx, at);
    }
    let status = status(copied);
    let form = Guest::in_form::<FORM>().width();
    let place = Vaddr(at.0.wrapping_add(offset_in!(form, abi::GnttabCopy, status)));
    ctx.guest()
        .write(place, &(status as u16))
        .map_err(|_| errno::EFAULT)
}

#[inline(always)] // one instance for each form
const fn place_of(op: &abi::GnttabCopy) -> Piece {
    Piece {
        from: op.source.offset,
        to: op.dest.offset,
        bytes: op.len,
    }
}

/// The source and the destination of a piece.
#[inline(always)] // one instance for each form
fn sides_of(op: &abi::GnttabCopy) -> (Named, Named) {
    (
        Named::of(&op.source, op.flags & abi::GNTCOPY_SOURCE_GREF != 0),
        Named::of(&op.dest, op.flags & abi::GNTCOPY_DEST_GREF != 0),
    )
}

#[inline(always)] // one instance for each form
fn piece(ctx: &mut Ctx<'_>, op: &abi::GnttabCopy, sides: &mut Sides) -> Result<(), GrantError> {
    let (from, to) = sides_of(op);
    let source = held(ctx, &mut sides.source, from, Access::Read)?;
    let dest = held(ctx, &mut sides.dest, to, Access::Write)?;
    grant::copy_held(source, dest, place_of(op), &mut mapper(ctx))
}

/// Copies the piece described at `at` if a side covers only a part of a page or comes from a transitive grant. Such
/// sides are not kept. The piece is read and checked again, so that the common path need not keep it in memory.
#[cold]
#[inline(never)]
fn copy_other(ctx: &mut Ctx<'_>, at: Vaddr) -> Result<(), GrantError> {
    let op = ctx
        .guest()
        .read::<abi::GnttabCopy>(at)
        .map_err(|_| GrantError::General)?;
    let (piece, (from, to)) = (place_of(&op), sides_of(&op));
    let (caller, granters) = (ctx.dom, [granter(ctx, from)?, granter(ctx, to)?]);
    let from = side(caller, from, granters[0].as_ref())?;
    let to = side(caller, to, granters[1].as_ref())?;
    let find = |id| {
        let dom = registry::lookup(id).filter(|_| id != DomId::BOOT);
        dom.map(|dom| dom.grants.clone())
    };
    grant::copy(&caller.grants, (&from, &to), piece, &find, &mut mapper(ctx))
}

/// Returns the side `named`, held: that of the previous piece if it is the same one, or else a new one in its place.
#[inline(always)] // one instance for each form
fn held<'a>(
    ctx: &mut Ctx<'_>,
    before: &'a mut Option<(Named, Held)>,
    named: Named,
    access: Access,
) -> Result<&'a Held, GrantError> {
    if before.as_ref().is_none_or(|held| held.0 != named) {
        exchange(ctx, before, named, access)?;
    }
    before
        .as_ref()
        .map(|held| &held.1)
        .ok_or(GrantError::General)
}

/// Releases the previous side and holds the one `named`.
#[inline(never)]
fn exchange(
    ctx: &mut Ctx<'_>,
    held: &mut Option<(Named, Held)>,
    named: Named,
    access: Access,
) -> Result<(), GrantError> {
    if let Some((_, old)) = held.take() {
        grant::let_go(&old, &mut mapper(ctx));
    }
    *held = Some((named, take(ctx, named, access)?));
    Ok(())
}

/// Checks a side and holds it.
fn take(ctx: &mut Ctx<'_>, named: Named, access: Access) -> Result<Held, GrantError> {
    let (caller, granter) = (ctx.dom, granter(ctx, named)?);
    let side = side(caller, named, granter.as_ref())?;
    grant::hold(&caller.grants, &side, access, &mut mapper(ctx))
}

/// The granting domain of a side, if the side is a grant.
#[inline(always)] // two callers, one of which is hot
fn granter(ctx: &Ctx<'_>, named: Named) -> Result<Option<Arc<Domain>>, GrantError> {
    if !named.is_by_grant() {
        return Ok(None);
    }
    let granter = ctx.named(named.domid()).ok_or(GrantError::BadDomain)?;
    Ok(Some(granter))
}

/// Resolves a side: a grant, or a frame, which must be the caller's own.
#[inline(always)] // see above
fn side<'a>(
    caller: &Domain,
    named: Named,
    granter: Option<&'a Arc<Domain>>,
) -> Result<CopySide<'a, HeldPage>, GrantError> {
    match granter {
        Some(granter) => Ok(CopySide::Grant(&granter.grants, named.u as u32)),
        None if named.domid() == DomId::SELF.0 => {
            let mfn = caller.resolve(Gfn(named.u)).ok_or(GrantError::BadPage)?;
            Ok(CopySide::Frame(mfn))
        }
        None => Err(GrantError::PermissionDenied),
    }
}
