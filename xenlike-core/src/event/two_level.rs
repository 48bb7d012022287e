//! The 2-level ABI: a pending bit and a mask bit for each port in the shared info page, and a selector word for each
//! vCPU (xen.h, `struct shared_info` and `struct vcpu_info`). Narrow guests have words of 32 bits, so fewer ports.

use crate::kit::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};

use core::mem::offset_of;

use guest_pv_abi::Width;
use guest_pv_abi::narrow;
use guest_pv_abi::xen::{SharedInfo, VcpuInfo};

use super::{SharedWords, TWO_LEVEL_PORTS};
use crate::kit::Port;

/// Where the bits of a guest's ports are. The pending bits begin at the same byte for both widths, and the bit of a port
/// is the same whether the words that it is counted in have 32 or 64 bits.
#[derive(Clone, Copy)]
pub(super) struct Places {
    width: Width,
    ports: u32,
    mask: usize,
}

const PENDING: usize = offset_of!(SharedInfo, evtchn_pending);
const _: () = assert!(PENDING == offset_of!(narrow::SharedInfo, evtchn_pending));

impl Places {
    pub const WIDE: Self = Self {
        width: Width::Wide,
        ports: TWO_LEVEL_PORTS,
        mask: offset_of!(SharedInfo, evtchn_mask),
    };
    pub const NARROW: Self = Self {
        width: Width::Narrow,
        ports: 32 * 32,
        mask: offset_of!(narrow::SharedInfo, evtchn_mask),
    };

    /// Whether these are a wide guest's.
    pub const fn are_wide(&self) -> bool {
        matches!(self.width, Width::Wide)
    }

    /// The alignment of a vcpu_info in bytes, which is that of the guest's longest integers.
    pub const fn info_alignment(&self) -> usize {
        match self.width {
            Width::Wide => align_of::<VcpuInfo>(),
            Width::Narrow => align_of::<narrow::VcpuInfo>(),
        }
    }

    /// The number of ports.
    pub const fn ports(&self) -> u32 {
        self.ports
    }

    /// The word with the pending bit of a port, and the bit.
    #[inline(always)] // see `word`
    pub fn pending<'a, P: SharedWords>(
        &self,
        shared: &'a P,
        port: Port,
    ) -> Option<(&'a AtomicU64, u64)> {
        self.word(shared, PENDING, port)
    }

    /// The word with the mask bit of a port, and the bit.
    #[inline(always)] // see `word`
    pub fn mask<'a, P: SharedWords>(
        &self,
        shared: &'a P,
        port: Port,
    ) -> Option<(&'a AtomicU64, u64)> {
        self.word(shared, self.mask, port)
    }

    #[inline(always)] // part of every send
    fn word<'a, P: SharedWords>(
        &self,
        shared: &'a P,
        base: usize,
        port: Port,
    ) -> Option<(&'a AtomicU64, u64)> {
        if port.0 >= self.ports {
            return None;
        }
        let offset = base.wrapping_add((port.0 / 64).wrapping_mul(8) as usize);
        Some((shared.u64(offset)?, 1 << (port.0 % 64)))
    }

    /// Sets the bit of a port's word in the selector of the vcpu_info at byte `at` of `page`. Returns whether it was set
    /// already; `None` if the place is bad.
    #[inline(always)] // see `word`
    pub fn select<P: SharedWords>(&self, page: &P, at: usize, port: Port) -> Option<bool> {
        match self.width {
            Width::Wide => {
                let word = page.u64(at.wrapping_add(offset_of!(VcpuInfo, evtchn_pending_sel)))?;
                Some(test_and_set(word, 1u64.wrapping_shl(port.0 / 64)))
            }
            Width::Narrow => {
                let bit = 1u32.wrapping_shl(port.0 / 32);
                Some(narrow_selector(page, at)?.fetch_or(bit, SeqCst) & bit != 0)
            }
        }
    }

    /// Sets all bits of the selector at that place. `None` if the place is bad.
    pub fn select_all<P: SharedWords>(&self, page: &P, at: usize) -> Option<()> {
        match self.width {
            Width::Wide => page
                .u64(at.wrapping_add(offset_of!(VcpuInfo, evtchn_pending_sel)))?
                .store(u64::MAX, SeqCst),
            Width::Narrow => narrow_selector(page, at)?.store(u32::MAX, SeqCst),
        }
        Some(())
    }
}

fn narrow_selector<P: SharedWords>(page: &P, at: usize) -> Option<&AtomicU32> {
    page.u32(at.wrapping_add(offset_of!(narrow::VcpuInfo, evtchn_pending_sel)))
}

/// Sets a bit; returns whether it was set already.
pub(super) fn test_and_set(word: &AtomicU64, bit: u64) -> bool {
    word.fetch_or(bit, SeqCst) & bit != 0
}
