//! nmi_op: the older call to register the NMI handler (nmi.h), superseded by callback_op.

use guest_pv_abi::errno::{self, Errno};
use guest_pv_abi::nmi::{NmiCallback, XENNMI_REGISTER_CALLBACK, XENNMI_UNREGISTER_CALLBACK};

use super::Ctx;
use super::arguments::Command;
use super::callback::set_nmi;

/// `nmi_op(cmd, arg)`: registers or unregisters the calling vCPU's NMI handler.
pub fn call(ctx: &mut Ctx<'_>, args: &Command) -> Result<(), Errno> {
    match args.cmd {
        XENNMI_REGISTER_CALLBACK => set_nmi(
            ctx,
            ctx.guest().read::<NmiCallback>(args.arg)?.handler_address,
        ),
        XENNMI_UNREGISTER_CALLBACK => set_nmi(ctx, 0),
        _ => Err(errno::ENOSYS),
    }
}
