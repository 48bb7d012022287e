//! Copying between frames by the hypervisor.

use alloc::sync::Arc;

use guest_pv_abi::errno::Errno;
use guest_pv_abi::grant_table as abi;

use super::{Ctx, mapper, status};
use crate::domain::Domain;
use crate::domain::page::HeldPage;
use crate::grant::{self, CopySide, GrantError};
use crate::kit::{DomId, Mfn};

/// Copies one piece.
pub fn copy(ctx: &mut Ctx<'_>, op: &mut abi::GnttabCopy) -> Result<(), Errno> {
    op.status = status(decode_and_copy(ctx, op));
    Ok(())
}

fn decode_and_copy(ctx: &mut Ctx<'_>, op: &abi::GnttabCopy) -> Result<(), GrantError> {
    let caller = Arc::clone(ctx.dom);
    let source = owner(ctx, &op.source, op.flags & abi::GNTCOPY_SOURCE_GREF)?;
    let dest = owner(ctx, &op.dest, op.flags & abi::GNTCOPY_DEST_GREF)?;
    let from = (side(&op.source, source.as_ref()), op.source.offset);
    let to = (side(&op.dest, dest.as_ref()), op.dest.offset);
    grant::copy(&caller.grants, from, to, op.len, &mut mapper(ctx))
}

/// The granter of a side that is a grant; a frame must be the caller's own.
fn owner(
    ctx: &Ctx<'_>,
    side: &abi::GnttabCopyPtr,
    by_grant: u16,
) -> Result<Option<Arc<Domain>>, GrantError> {
    if by_grant != 0 {
        ctx.named(side.domid).map(Some).ok_or(GrantError::BadDomain)
    } else if side.domid == DomId::SELF.0 {
        Ok(None)
    } else {
        Err(GrantError::PermissionDenied)
    }
}

fn side<'a>(side: &abi::GnttabCopyPtr, granter: Option<&'a Arc<Domain>>) -> CopySide<'a, HeldPage> {
    match granter {
        Some(dom) => CopySide::Grant(&dom.grants, side.u as u32),
        None => CopySide::Frame(Mfn(side.u)),
    }
}
