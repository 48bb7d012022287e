//! A domain and its shared pages, on the host.

use crate::kit::atomic::{AtomicU64, Ordering::SeqCst};
use alloc::sync::Arc;

use crate::event::{Limits, Table};
pub(in crate::event) use crate::kit::words::fake::FakePage as Page;
use crate::kit::{DomId, Port, SharedWords, VcpuId};

/// A table and the pages of its guest.
pub(in crate::event) struct Dom {
    pub table: Arc<Table<Page>>,
    pub shared: Page,
}

impl Dom {
    pub fn new(id: u16, vcpus: u32, max_port: u32) -> Self {
        let shared = Page::new();
        let limits = Limits { vcpus, max_port };
        Self {
            table: Table::new(DomId(id), limits, shared.clone()).unwrap(),
            shared,
        }
    }
    /// 2-level: whether the guest sees `port` pending.
    pub fn pending(&self, port: Port) -> bool {
        self.bit(2048, port).load(SeqCst) >> (port.0 % 64) & 1 != 0
    }
    pub fn mask(&self, port: Port) {
        self.bit(2560, port).fetch_or(1 << (port.0 % 64), SeqCst);
    }
    /// Clears the upcall flag of `vcpu`; returns whether it was set.
    pub fn take_flag(&self, vcpu: VcpuId) -> bool {
        self.shared
            .u8(vcpu.0 as usize * 64)
            .unwrap()
            .swap(0, SeqCst)
            != 0
    }
    /// 2-level: the guest handles all that is pending on `vcpu`; returns the selector that it saw.
    pub fn take_upcall(&self, vcpu: VcpuId) -> Option<u64> {
        let info = vcpu.0 as usize * 64;
        self.take_flag(vcpu)
            .then(|| self.shared.u64(info + 8).unwrap().swap(0, SeqCst))
    }
    pub fn clear(&self, port: Port) {
        self.bit(2048, port)
            .fetch_and(!(1 << (port.0 % 64)), SeqCst);
    }
    pub fn bit(&self, base: usize, port: Port) -> &AtomicU64 {
        self.shared.u64(base + port.0 as usize / 64 * 8).unwrap()
    }
}
