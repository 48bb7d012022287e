//! Finds the owner of the frames that a page-table call names, and checks that the caller may name them.

use guest_pv_abi::errno::{self, Errno};

use super::Ctx;
use crate::kit::DomId;

/// The owner of the frames that a page-table call names: DOMID_SELF, DOMID_IO, DOMID_XEN or another domain. As in
/// Xen, the caller can't name itself by its own id.
#[inline]
pub fn of_frames(ctx: &Ctx<'_>, domid: u16) -> Result<DomId, Errno> {
    if domid == DomId::SELF.0 {
        Ok(ctx.dom.id())
    } else {
        of_others(ctx, domid)
    }
}

#[inline(never)] // cold: nearly all calls name the caller's own frames
fn of_others(ctx: &Ctx<'_>, domid: u16) -> Result<DomId, Errno> {
    let id = DomId(domid);
    match id {
        DomId::IO => return Ok(id),
        DomId::XEN => {}
        _ if id == ctx.dom.id() => return Err(errno::ESRCH),
        _ => {
            ctx.target(domid)?;
        }
    }
    ctx.require_control()?;
    Ok(id)
}
