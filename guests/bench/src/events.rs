//! Rows about event channels within one domain.

use xenlike_rt::abi::event_channel::{EVTCHNOP_SEND, EVTCHNOP_UNMASK, EvtchnSend, EvtchnUnmask};
use xenlike_rt::abi::xen::DOMID_SELF;
use xenlike_rt::events::{self, Port};
use xenlike_rt::hyper;

use crate::meter;

fn nothing(_: Port) {}

/// Measures all rows of this module.
pub fn measure() {
    let target = events::alloc_unbound(DOMID_SELF).expect("a port");
    let port = events::bind_interdomain(DOMID_SELF, target).expect("its other end");
    let send = || {
        let _ = hyper::event_channel_op(EVTCHNOP_SEND, &mut EvtchnSend { port });
    };
    events::mask_port(target);
    meter::measure("event_send_masked", send);
    events::take(target);
    meter::measure("event_unmask", || {
        let _ = hyper::event_channel_op(EVTCHNOP_UNMASK, &mut EvtchnUnmask { port: target });
    });
    events::on(target, nothing);
    events::open();
    meter::measure("event_send_upcall", send);
    events::close_upcalls();
    events::close(port).expect("closed");
    events::close(target).expect("closed");
}
