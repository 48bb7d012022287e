//! Transfers the ownership of frames to other domains.

use guest_pv_abi::errno::Errno;
use guest_pv_abi::grant_table as abi;

use super::{Ctx, granter, status};
use crate::grant::GrantError;
use crate::kit::{Gfn, Mfn};
use crate::mm::{alloc as frames, m2p};
use crate::pagetype::{Charge, machine};

/// Transfers one frame. Once it is taken from the caller, the caller has lost it, even if the transfer then fails
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
    if !to.pages.reach().allows(mfn) {
        return Err(GrantError::General);
    }
    // Once its entry is committed, the receiver waits for the frame, so everything that can fail is done before.
    to.pages.charge(1).map_err(|_| GrantError::General)?;
    let given = to.grants.begin_transfer(op.ref_, ctx.dom.id());
    let given = given.and_then(|()| {
        // Fails only if the receiver is dying, and then it waits for nothing.
        let assigned = machine().assign(&to.pages, mfn, 0, Charge::Exchanged);
        assigned.map_err(|_| GrantError::General)
    });
    given.inspect_err(|_| machine().uncharge(&to.pages, 1))?;
    // The receiver may free the frame at once. The reference keeps it from becoming another domain's while this call
    // waits for the receiver's table.
    let held = machine().get_page(mfn, to.id());
    if let (Some(pfn), Some(page)) = (to.grants.finish_transfer(op.ref_, mfn), held) {
        m2p::set(page.mfn(), pfn);
    }
    Ok(())
}
