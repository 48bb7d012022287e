//! Event channels that the toolstack allocates for other domains (event_channel.h).

use guest_pv_abi::event_channel::{
    EVTCHNOP_ALLOC_UNBOUND, EVTCHNOP_STATUS, EVTCHNSTAT_INTERDOMAIN, EvtchnAllocUnbound,
    EvtchnStatus,
};
use guest_pv_abi::hypercall;

use super::{Args, CallError, DomId, Hypercalls, Port};

/// Allocates a port of `dom` to which `remote` may bind.
///
/// # Errors
/// If the hypervisor refuses the call.
pub fn alloc_unbound<H: Hypercalls + ?Sized>(
    h: &mut H,
    dom: DomId,
    remote: DomId,
) -> Result<Port, CallError> {
    let what = CallError::of("make an event channel");
    let mut args = Args::new(h);
    let body = EvtchnAllocUnbound {
        dom: dom.0,
        remote_dom: remote.0,
        port: 0,
    };
    let body = args.put(&body).map_err(&what)?;
    let call = [u64::from(EVTCHNOP_ALLOC_UNBOUND), body.handle.0, 0, 0, 0];
    args.call(hypercall::EVENT_CHANNEL_OP, call).map_err(what)?;
    Ok(Port(args.get::<EvtchnAllocUnbound>(body).port))
}

/// Whether `port` of `dom` is connected to another port.
///
/// # Errors
/// If the hypervisor refuses the call.
pub fn is_connected<H: Hypercalls + ?Sized>(
    h: &mut H,
    dom: DomId,
    port: Port,
) -> Result<bool, CallError> {
    let what = CallError::of("look at an event channel");
    let mut args = Args::new(h);
    let body = EvtchnStatus {
        dom: dom.0,
        port: port.0,
        ..Default::default()
    };
    let body = args.put(&body).map_err(&what)?;
    let call = [u64::from(EVTCHNOP_STATUS), body.handle.0, 0, 0, 0];
    args.call(hypercall::EVENT_CHANNEL_OP, call).map_err(what)?;
    Ok(args.get::<EvtchnStatus>(body).status == EVTCHNSTAT_INTERDOMAIN)
}
