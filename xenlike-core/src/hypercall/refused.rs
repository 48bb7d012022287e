//! Hypercalls that the core does not have, each with the errno that Xen 4.20 gives for it.

use guest_pv_abi::errno::{self, Errno};
use guest_pv_abi::xen::hypercall as nr;

use super::{Args, Ctx};
use crate::kit::Vaddr;
use crate::mm::guest_copy;

/// Refuses hypercall `number`.
pub fn call(ctx: &Ctx<'_>, number: u64, args: Args) -> Result<i64, Errno> {
    Err(match number {
        // Without a virtual PMU no operation is looked at.
        nr::XENPMU_OP => errno::EOPNOTSUPP,
        nr::DM_OP => dm_op(ctx, args),
        nr::KEXEC_OP | nr::HYPFS_OP if !ctx.dom.is_control() => errno::EPERM,
        // xsm_op: Xen without XSM; libxl takes another way for any other answer. argo, xenoprof,
        // tmem, kexec, hypfs (Xen built without) and numbers that mean nothing are answered alike.
        _ => errno::ENOSYS,
    })
}

/// The most buffers of a dm_op.
const MOST_BUFFERS: u32 = 2;
/// Bytes of the description of each (struct xen_dm_op_buf).
const BUFFER: usize = 16;

/// Device models belong to HVM domains.
fn dm_op(ctx: &Ctx<'_>, args: Args) -> Errno {
    let [domid, count, buffers, ..] = args.0;
    let count = count as u32;
    match count {
        0 => return errno::ENODATA,
        1..=MOST_BUFFERS => {}
        _ => return errno::E2BIG,
    }
    let mut described = [0_u8; BUFFER * MOST_BUFFERS as usize];
    let bytes = BUFFER.saturating_mul(count as usize);
    let read = described
        .get_mut(..bytes)
        .map(|into| guest_copy::copy_from_guest(into, Vaddr(buffers)));
    if !matches!(read, Some(Ok(()))) {
        return errno::EFAULT;
    }
    match ctx.named(domid as u16) {
        None => errno::ESRCH,
        Some(dom) if dom.id() == ctx.dom.id() => errno::EPERM,
        Some(_) => errno::EINVAL,
    }
}
