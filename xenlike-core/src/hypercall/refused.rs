//! Hypercalls that the core does not have, each with the errno that Xen 4.20 gives for it.

use guest_pv_abi::errno::{self, Errno};

use super::Ctx;
use super::arguments::{DmOp, Nothing};

/// Refuses kexec_op and hypfs_op as a Xen built without them does.
pub fn of_control(ctx: &mut Ctx<'_>, _: &Nothing) -> Errno {
    match ctx.require_control() {
        Ok(()) => errno::ENOSYS,
        Err(errno) => errno,
    }
}

/// Refuses every operation, because there is no virtual PMU.
pub fn xenpmu_op(_: &mut Ctx<'_>, _: &Nothing) -> Errno {
    errno::EOPNOTSUPP
}

/// Maximum number of buffers of a dm_op.
const MAX_BUFFERS: u32 = 2;
/// Size in bytes of each buffer's description (`struct xen_dm_op_buf`).
const BUFFER: usize = 16;

/// Refuses every dm_op, because device models exist only for HVM domains. The checks come in Xen's order, so that
/// each bad argument gets Xen's errno.
pub fn dm_op(ctx: &mut Ctx<'_>, args: &DmOp) -> Errno {
    let DmOp {
        domid,
        count,
        buffers,
    } = *args;
    match count {
        0 => return errno::ENODATA,
        1..=MAX_BUFFERS => {}
        _ => return errno::E2BIG,
    }
    let mut described = [0_u8; BUFFER * MAX_BUFFERS as usize];
    let bytes = BUFFER.saturating_mul(count as usize);
    let read = described
        .get_mut(..bytes)
        .map(|into| ctx.guest().read_bytes(into, buffers));
    if !matches!(read, Some(Ok(()))) {
        return errno::EFAULT;
    }
    match ctx.named(domid) {
        None => errno::ESRCH,
        Some(dom) if dom.id() == ctx.dom.id() => errno::EPERM,
        Some(_) => errno::EINVAL,
    }
}
