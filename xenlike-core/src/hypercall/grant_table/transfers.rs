//! Giving frames away for good.

use guest_pv_abi::errno::Errno;
use guest_pv_abi::grant_table as abi;

use super::{Ctx, granter, status};
use crate::grant::GrantError;
use crate::kit::{Gfn, Mfn};
use crate::mm::{alloc as frames, m2p};
use crate::pagetype::{Charge, machine};

/// Transfers one frame. Once it is taken from the caller it is gone, whatever becomes of it
/// (grant_table.h, `GNTTABOP_transfer`).
pub fn transfer(ctx: &mut Ctx<'_>, op: &mut abi::GnttabTransfer) -> Result<(), Errno> {
    let stolen = ctx.dom.resolve(Gfn(op.mfn)).filter(|&mfn| {
        let steal = machine().steal(&ctx.dom.pages, mfn, Charge::Counted);
        steal.is_ok()
    });
    let Some(mfn) = stolen else {
        op.status = abi::GNTST_BAD_PAGE;
        return Ok(());
    };
    m2p::clear(mfn);
    let given = give(ctx, op, mfn);
    if given.is_err() {
        frames::free(mfn, 0);
    }
    op.status = status(given);
    Ok(())
}

fn give(ctx: &Ctx<'_>, op: &abi::GnttabTransfer, mfn: Mfn) -> Result<(), GrantError> {
    let to = granter(ctx, op.domid)?;
    // The receiver waits from when its entry is committed: what can fail comes before.
    to.pages.charge(1).map_err(|_| GrantError::General)?;
    let given = to.grants.begin_transfer(op.ref_, ctx.dom.id());
    let given = given.and_then(|()| {
        // Refused only to a receiver that is dying, which waits for nothing.
        let assigned = machine().assign(&to.pages, mfn, 0, Charge::Exchanged);
        assigned.map_err(|_| GrantError::General)
    });
    given.inspect_err(|_| machine().uncharge(&to.pages, 1))?;
    // The receiver may let the frame go at once: while its table is waited for, it must not become another's.
    let held = machine().get_page(mfn, to.id());
    if let (Some(pfn), Some(page)) = (to.grants.finish_transfer(op.ref_, mfn), held) {
        m2p::set(page.mfn(), pfn);
    }
    Ok(())
}
