//! nmi_op: the older way to register the NMI callback of vCPU 0 (nmi.h); callback_op is the newer.

use guest_pv_abi::errno::{self, Errno};
use guest_pv_abi::nmi::{NmiCallback, XENNMI_REGISTER_CALLBACK, XENNMI_UNREGISTER_CALLBACK};

use super::{Args, Ctx, get};
use crate::domain::vcpu::Callback;
use crate::kit::Vaddr;

/// `nmi_op(cmd, arg)`.
pub fn call(ctx: &mut Ctx<'_>, args: Args) -> Result<(), Errno> {
    let [cmd, arg, ..] = args.0;
    let entry = match cmd as u32 {
        XENNMI_REGISTER_CALLBACK => get::<NmiCallback>(arg)?.handler_address,
        XENNMI_UNREGISTER_CALLBACK => 0,
        _ => return Err(errno::ENOSYS),
    };
    if ctx.vcpu.id.0 != 0 || !Vaddr(entry).is_canonical() {
        return Err(errno::EINVAL);
    }
    ctx.st.callbacks.nmi = Callback {
        entry,
        masks_events: 0,
    };
    Ok(())
}
