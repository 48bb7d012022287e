//! callback_op and set_callbacks register the guest's entry points for events, failed returns and system calls.

use guest_pv_abi::Width;
use guest_pv_abi::callback::{self as abi, CallbackRegister, CallbackUnregister};
use guest_pv_abi::errno::{self, Errno};

use super::Ctx;
use super::arguments::{Command, SetCallbacks};
use crate::kit::Vaddr;
use crate::pv::state::{Callback, outside_ring0};

/// `callback_op(cmd, arg)`: registers or unregisters one entry point.
pub fn call(ctx: &mut Ctx<'_>, args: &Command) -> Result<(), Errno> {
    match args.cmd {
        abi::CALLBACKOP_REGISTER => register(ctx, &ctx.guest().read::<CallbackRegister>(args.arg)?),
        abi::CALLBACKOP_UNREGISTER => {
            unregister(ctx, &ctx.guest().read::<CallbackUnregister>(args.arg)?)
        }
        // As Xen answers, which has a handler for each width.
        _ => match ctx.st.pv().width {
            Width::Wide => Err(errno::ENOSYS),
            Width::Narrow => Err(errno::EINVAL),
        },
    }
}

fn register(ctx: &mut Ctx<'_>, request: &CallbackRegister) -> Result<(), Errno> {
    let masks_events = u32::from(request.flags) & abi::CALLBACKF_MASK_EVENTS != 0;
    let width = ctx.st.pv().width;
    let callback = Callback::of_word(width, request.address, masks_events.into());
    if !Vaddr(callback.entry).is_canonical() {
        return Err(errno::EINVAL);
    }
    let (_, callbacks) = ctx.st.pv_mut().entries_mut();
    match u32::from(request.type_) {
        // CALLBACKF_MASK_EVENTS doesn't matter for the event callback: event delivery always masks events. SYSENTER
        // stores the flag and uses it.
        abi::CALLBACKTYPE_EVENT => callbacks.event = callback,
        abi::CALLBACKTYPE_SYSENTER | abi::CALLBACKTYPE_SYSENTER_DEPRECATED => {
            callbacks.sysenter = callback;
        }
        abi::CALLBACKTYPE_FAILSAFE => callbacks.failsafe = callback,
        // Only wide guests have 64-bit code.
        abi::CALLBACKTYPE_SYSCALL if width == Width::Wide => callbacks.syscall = callback,
        abi::CALLBACKTYPE_SYSCALL32 => callbacks.syscall32 = callback,
        abi::CALLBACKTYPE_NMI => return set_nmi(ctx, callback.entry),
        _ => return Err(errno::ENOSYS),
    }
    Ok(())
}

fn unregister(ctx: &mut Ctx<'_>, request: &CallbackUnregister) -> Result<(), Errno> {
    match u32::from(request.type_) {
        abi::CALLBACKTYPE_NMI => set_nmi(ctx, 0),
        abi::CALLBACKTYPE_SYSCALL if ctx.st.pv().width == Width::Wide => Err(errno::EINVAL),
        abi::CALLBACKTYPE_EVENT
        | abi::CALLBACKTYPE_FAILSAFE
        | abi::CALLBACKTYPE_SYSCALL32
        | abi::CALLBACKTYPE_SYSENTER
        | abi::CALLBACKTYPE_SYSENTER_DEPRECATED => Err(errno::EINVAL),
        _ => Err(errno::ENOSYS),
    }
}

/// Sets the calling vCPU's NMI handler, which is also entry 2 of its trap table. 0 removes it.
pub fn set_nmi(ctx: &mut Ctx<'_>, address: u64) -> Result<(), Errno> {
    if !Vaddr(address).is_canonical() {
        return Err(errno::EINVAL);
    }
    ctx.st.pv_mut().set_nmi_handler(address);
    Ok(())
}

/// `set_callbacks(event, failsafe, syscall)`: the older call, which registers three entry points at once.
pub fn set_callbacks(ctx: &mut Ctx<'_>, args: &SetCallbacks) -> Result<(), Errno> {
    let SetCallbacks {
        selectors: [event_cs, failsafe_cs],
        event,
        failsafe,
        syscall,
    } = *args;
    if ![event, failsafe, syscall]
        .iter()
        .all(|entry| entry.is_canonical())
    {
        return Err(errno::EINVAL);
    }
    let width = ctx.st.pv().width;
    let (_, callbacks) = ctx.st.pv_mut().entries_mut();
    callbacks.event.entry = event.0;
    callbacks.event.cs = outside_ring0(width, event_cs);
    callbacks.failsafe.entry = failsafe.0;
    callbacks.failsafe.cs = outside_ring0(width, failsafe_cs);
    callbacks.syscall.entry = syscall.0;
    Ok(())
}
