//! Trace buffers, used as xentrace does.

use guest_pv_abi::errno::{self, Errno};
use guest_pv_abi::hypercall as nr;
use guest_pv_abi::sysctl::*;
use guest_pv_abi::trace::{TRC_ALL, TRC_PV_HYPERCALL_SUBCALL, TRC_PV_HYPERCALL_V2};
use zerocopy::FromZeros;

use super::control::Toolstack;
use crate::arch::percpu;
use crate::kit::atomic::Ordering::Relaxed;
use crate::kit::{CpuId, DomId, Mfn};
use crate::mm::{SharedPage, frames};
use crate::{hypercall, trace};

fn tbuf_op(tools: &Toolstack, body: &mut TbufOp) -> Result<i64, Errno> {
    let mut op = Sysctl::new_zeroed();
    op.cmd = XEN_SYSCTL_TBUF_OP;
    op.interface_version = XEN_SYSCTL_INTERFACE_VERSION;
    op.u.set(body);
    tools.0.write(tools.0.at, &op);
    let result = tools.0.call(nr::SYSCTL, &[tools.0.at]);
    *body = tools.0.read::<Sysctl>(tools.0.at).u.get();
    result
}

fn plain(tools: &Toolstack, cmd: u32, size: u32) -> Result<i64, Errno> {
    let mut body = TbufOp::new_zeroed();
    (body.cmd, body.size, body.evt_mask) = (cmd, size, TRC_ALL);
    tbuf_op(tools, &mut body)
}

/// The buffers are shared by the whole process and created once, so everything is in one test.
#[test]
fn buffers_are_made_once_and_filled() {
    percpu::set_online(CpuId(0));
    let tools = Toolstack::new();
    let mut info = TbufOp::new_zeroed();
    tbuf_op(&tools, &mut info).unwrap();
    assert_eq!((info.evt_mask, info.buffer_mfn, info.size), (TRC_ALL, 0, 0));
    let set_size = XEN_SYSCTL_TBUFOP_SET_SIZE;
    let enable = XEN_SYSCTL_TBUFOP_ENABLE;
    assert_eq!(plain(&tools, enable, 0), Err(errno::EINVAL));
    assert_eq!(plain(&tools, set_size, 0), Err(errno::EINVAL));
    assert_eq!(plain(&tools, 6, 0), Err(errno::EINVAL));
    assert!(!trace::on());
    // Other tests record events of other classes.
    trace::EVENTS.store(0x0020_f000, Relaxed);
    assert_eq!(plain(&tools, set_size, 2), Ok(0));
    assert!(trace::on());
    assert_eq!(plain(&tools, set_size, 2), Err(errno::EBUSY));
    assert_eq!(plain(&tools, set_size, 3), Err(errno::EINVAL));

    tbuf_op(&tools, &mut info).unwrap();
    assert_eq!(info.size, 8 * 4096);
    let info = SharedPage::new(Mfn(info.buffer_mfn)).unwrap();
    let half = |at: usize| info.u16(2 * at).unwrap().load(Relaxed);
    let list = usize::from(half(1));
    assert_eq!((half(0), half(2), list), (2, 0, 33));
    let frame = |at: usize| Mfn(info.u32(4 * at).unwrap().load(Relaxed).into());
    assert!(
        [info.mfn(), frame(list), frame(list + 1)]
            .into_iter()
            .all(|mfn| {
                frames()
                    .get(mfn)
                    .is_some_and(|frame| frame.owner() == DomId::XEN)
            })
    );
    assert_eq!(frame(list + 2), Mfn(0));

    let buffer = SharedPage::new(frame(list)).unwrap();
    let word = |at: usize| buffer.u32(4 * at).unwrap().load(Relaxed);
    let start = 2 + word(1) as usize / 4;
    let args = [0x1234_5678_u64, 7, 9, 0];
    hypercall::trace_call(TRC_PV_HYPERCALL_V2, nr::GRANT_TABLE_OP, &args);
    // The header with three words of data, the time, and the call with its arguments 0 and 2.
    assert_eq!(word(start), 0x8000_0000 | 3 << 28 | TRC_PV_HYPERCALL_V2);
    let said = [3, 4, 5].map(|n| word(start + n));
    assert_eq!(
        said,
        [0x0110_0000 | nr::GRANT_TABLE_OP as u32, 0x1234_5678, 9]
    );
    // A narrow guest's, from its own words.
    let start = 2 + word(1) as usize / 4;
    let args = [0x9abc_def0_u32, 7, 9, 0, 0, 0];
    hypercall::trace_call(TRC_PV_HYPERCALL_SUBCALL, nr::GRANT_TABLE_OP, &args);
    let said = [3, 4, 5].map(|n| word(start + n));
    assert_eq!(
        said,
        [0x0110_0000 | nr::GRANT_TABLE_OP as u32, 0x9abc_def0, 9]
    );
    let prod = word(1);
    assert_eq!(plain(&tools, XEN_SYSCTL_TBUFOP_DISABLE, 0), Ok(0));
    trace::record(TRC_PV_HYPERCALL_V2, &[]);
    assert_eq!(word(1), prod);
}
