//! Whose frames a page-table call names, and whether the caller may name them.

use guest_pv_abi::errno::{self, Errno};

use super::Ctx;
use crate::kit::DomId;

/// Whose frames a page-table call names: DOMID_SELF, DOMID_IO, DOMID_XEN or another domain, but not
/// the caller by its own id.
pub fn of_frames(ctx: &Ctx<'_>, domid: u16) -> Result<DomId, Errno> {
    let id = DomId(domid);
    match id {
        DomId::SELF => return Ok(ctx.dom.id()),
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
