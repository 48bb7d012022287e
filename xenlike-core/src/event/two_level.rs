//! The 2-level ABI: a pending bit and a mask bit for each port in the shared info page, and a selector word for each
//! vCPU (xen.h, `struct shared_info` and `struct vcpu_info`).

use crate::kit::atomic::{AtomicU64, Ordering::SeqCst};

use core::mem::offset_of;

use guest_pv_abi::xen::SharedInfo;

use super::{SharedWords, TWO_LEVEL_PORTS};
use crate::kit::Port;

const PENDING: usize = offset_of!(SharedInfo, evtchn_pending);
const MASK: usize = offset_of!(SharedInfo, evtchn_mask);

/// The word with the pending bit of a port, and the bit.
pub(super) fn pending<P: SharedWords>(shared: &P, port: Port) -> Option<(&AtomicU64, u64)> {
    word(shared, PENDING, port)
}

/// The word with the mask bit of a port, and the bit.
pub(super) fn mask<P: SharedWords>(shared: &P, port: Port) -> Option<(&AtomicU64, u64)> {
    word(shared, MASK, port)
}

fn word<P: SharedWords>(shared: &P, base: usize, port: Port) -> Option<(&AtomicU64, u64)> {
    if port.0 >= TWO_LEVEL_PORTS {
        return None;
    }
    let offset = base.wrapping_add((port.0 / 64).wrapping_mul(8) as usize);
    Some((shared.u64(offset)?, 1 << (port.0 % 64)))
}

/// The bit of a port's word in a vCPU's selector.
pub(super) fn selector_bit(port: Port) -> u64 {
    1u64.wrapping_shl(port.0 / 64)
}

/// Sets a bit; returns whether it was set already.
pub(super) fn test_and_set(word: &AtomicU64, bit: u64) -> bool {
    word.fetch_or(bit, SeqCst) & bit != 0
}
