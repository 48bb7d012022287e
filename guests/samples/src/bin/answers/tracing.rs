//! Trace buffers: VIRQ_TBUF says that one is half full.

use xenlike_rt::abi::errno::Errno;
use xenlike_rt::abi::sysctl::{self, TbufOp};
use xenlike_rt::abi::trace::TRC_ALL;
use xenlike_rt::abi::xen::VIRQ_TBUF;
use xenlike_rt::{events, hyper, time};

use crate::check;
use crate::control::ask;

/// Pages of each CPU's buffer.
const PAGES: u32 = 1;
/// Each writes a record of at least four bytes, so that half a page is full long before.
const CALLS: u32 = 4096;
const PATIENCE_NS: u64 = 5 * time::SECOND_NS;

fn tbuf_op(cmd: u32, number: u32) -> Result<u64, Errno> {
    let mut body = TbufOp {
        cmd,
        evt_mask: number,
        size: number,
        ..TbufOp::default()
    };
    ask(sysctl::XEN_SYSCTL_TBUF_OP, &mut body)
}

pub fn run() {
    let port = events::bind_virq(VIRQ_TBUF, 0).expect("VIRQ_TBUF");
    events::take(port);
    let made = tbuf_op(sysctl::XEN_SYSCTL_TBUFOP_SET_SIZE, PAGES);
    check("trace buffers are made", made == Ok(0));
    let all = tbuf_op(sysctl::XEN_SYSCTL_TBUFOP_SET_EVT_MASK, TRC_ALL);
    check("all events are recorded", all == Ok(0));
    check("an empty buffer says nothing", !events::is_pending(port));
    let on = tbuf_op(sysctl::XEN_SYSCTL_TBUFOP_ENABLE, 0);
    check("tracing is switched on", on == Ok(0));
    for _ in 0..CALLS {
        hyper::yield_now();
    }
    let end = time::now_ns() + PATIENCE_NS;
    let told = events::wait(&[port], end).is_ok() && events::take(port);
    check("a buffer that is half full says so", told);
    let off = tbuf_op(sysctl::XEN_SYSCTL_TBUFOP_DISABLE, 0);
    check("tracing is switched off", off == Ok(0));
    for _ in 0..CALLS {
        hyper::yield_now();
    }
    check("and nothing more is said", !events::is_pending(port));
    let closed = events::close(port);
    check("the port is closed", closed.is_ok());
}
