//! Copying between frames by the hypervisor. Pieces in a row mostly have their sides in common (a ring's
//! page, a packet's buffer): a side is held until a piece comes that has another.

use guest_pv_abi::errno::{self, Errno};
use guest_pv_abi::grant_table as abi;

use super::{Ctx, List, Outcome, mapper, status};
use crate::domain::page::HeldPage;
use crate::domain::registry;
use crate::grant::{self, Access, CopySide, GrantError, HeldSide, Piece};
use crate::kit::{DomId, Mfn, Vaddr};
use crate::mm::{SharedPage, guest_copy};

/// How many pieces are copied between two looks at what else the CPU has to do.
const STRIDE: u32 = 8;

/// Copies the pieces of a list.
pub fn copy(ctx: &mut Ctx<'_>, list: List<'_>) -> Outcome {
    let mut sides = Sides::default();
    let outcome = copy_with(ctx, list, &mut sides);
    for (_, held) in [&sides.source, &sides.dest].into_iter().flatten() {
        grant::let_go(held, &mut mapper(ctx));
    }
    outcome
}

fn copy_with(ctx: &mut Ctx<'_>, list: List<'_>, sides: &mut Sides) -> Outcome {
    let mut at = list.at;
    for n in 0..list.count {
        if n != 0 && n.is_multiple_of(STRIDE) && ctx.preempted() {
            return list.after::<abi::GnttabCopy>(n);
        }
        if let Err(error) = one(ctx, Vaddr(at), sides) {
            return error.into();
        }
        at = at.wrapping_add(size_of::<abi::GnttabCopy>() as u64);
    }
    Outcome::Done(0)
}

/// A side that is held.
type Held = HeldSide<HeldPage, SharedPage>;

/// The piece before this one's sides.
#[derive(Default)]
struct Sides {
    source: Option<(Named, Held)>,
    dest: Option<(Named, Held)>,
}

/// A side by its name in the request. Two words: it is compared for every piece.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Named {
    /// Frame number, or grant reference.
    u: u64,
    /// Domain, and above its 16 bits whether it is a grant.
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

/// Copies the piece told at `at`, and writes its status.
fn one(ctx: &mut Ctx<'_>, at: Vaddr, sides: &mut Sides) -> Result<(), Errno> {
    let op = guest_copy::read_words::<abi::GnttabCopy>(at).map_err(|_| errno::EFAULT)?;
    let status = status(piece(ctx, &op, sides));
    let place = Vaddr(at.0.wrapping_add(core::mem::offset_of!(abi::GnttabCopy, status) as u64));
    guest_copy::write_u16(place, status as u16).map_err(|_| errno::EFAULT)
}

fn piece(ctx: &mut Ctx<'_>, op: &abi::GnttabCopy, sides: &mut Sides) -> Result<(), GrantError> {
    let piece = Piece {
        from: op.source.offset,
        to: op.dest.offset,
        bytes: op.len,
    };
    let from = Named::of(&op.source, op.flags & abi::GNTCOPY_SOURCE_GREF != 0);
    let to = Named::of(&op.dest, op.flags & abi::GNTCOPY_DEST_GREF != 0);
    let is =
        |side: &Option<(Named, Held)>, named| side.as_ref().is_some_and(|held| held.0 == named);
    if !is(&sides.source, from) || !is(&sides.dest, to) {
        piece.check()?;
        exchange(ctx, &mut sides.source, from, Access::Read)?;
        exchange(ctx, &mut sides.dest, to, Access::Write)?;
    }
    let (Some((_, source)), Some((_, dest))) = (&sides.source, &sides.dest) else {
        return Err(GrantError::General);
    };
    grant::copy_held(source, dest, piece, &mut mapper(ctx))
}

/// Lets the side held before go, unless it is the one `named`, and takes that.
#[inline(never)]
fn exchange(
    ctx: &mut Ctx<'_>,
    held: &mut Option<(Named, Held)>,
    named: Named,
    access: Access,
) -> Result<(), GrantError> {
    if held.as_ref().is_some_and(|held| held.0 == named) {
        return Ok(());
    }
    if let Some((_, old)) = held.take() {
        grant::let_go(&old, &mut mapper(ctx));
    }
    *held = Some((named, take(ctx, named, access)?));
    Ok(())
}

/// Takes a side: a grant, or a frame, which must be the caller's own.
fn take(ctx: &mut Ctx<'_>, named: Named, access: Access) -> Result<Held, GrantError> {
    let (caller, granter) = (
        ctx.dom,
        named.is_by_grant().then(|| ctx.named(named.domid())),
    );
    let side = match &granter {
        Some(granter) => {
            let granter = granter.as_ref().ok_or(GrantError::BadDomain)?;
            CopySide::Grant(&granter.grants, named.u as u32)
        }
        None if named.domid() == DomId::SELF.0 => CopySide::Frame(Mfn(named.u)),
        None => return Err(GrantError::PermissionDenied),
    };
    let find = |id| registry::lookup(id).map(|dom| dom.grants.clone());
    grant::hold(&caller.grants, &side, access, &find, &mut mapper(ctx))
}
