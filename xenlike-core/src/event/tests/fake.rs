//! A page shared with a guest, on the host; and a domain that owns one.
#![expect(
    unsafe_code,
    reason = "views of one memory as atomics of several widths"
)]

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering::SeqCst};

use crate::event::{Limits, SharedWords, Table};
use crate::kit::{DomId, Port, VcpuId};

/// 4096 bytes.
#[repr(align(4096))]
struct Bytes([AtomicU64; 512]);

/// A handle on a page, as the guest and the hypervisor both have.
#[derive(Clone)]
pub(super) struct Page(Arc<Bytes>);

impl Page {
    pub fn new() -> Self {
        Self(Arc::new(Bytes([const { AtomicU64::new(0) }; 512])))
    }
    /// Number of handles on it.
    pub fn handles(&self) -> usize {
        Arc::strong_count(&self.0)
    }
    fn at<T>(&self, offset: usize) -> Option<&T> {
        let fits =
            offset.checked_add(size_of::<T>())? <= 4096 && offset.is_multiple_of(align_of::<T>());
        // SAFETY: inside the page, aligned, and all accesses are atomic.
        fits.then(|| unsafe { &*self.0.0.as_ptr().cast::<u8>().add(offset).cast::<T>() })
    }
}

impl SharedWords for Page {
    fn u8(&self, offset: usize) -> Option<&AtomicU8> {
        self.at(offset)
    }
    fn u32(&self, offset: usize) -> Option<&AtomicU32> {
        self.at(offset)
    }
    fn u64(&self, offset: usize) -> Option<&AtomicU64> {
        self.at(offset)
    }
}

/// A table and its guest's pages.
pub(super) struct Dom {
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
    /// 2-level: the guest handles all that is pending on `vcpu`: returns the selector it saw.
    pub fn take_upcall(&self, vcpu: VcpuId) -> Option<u64> {
        let info = vcpu.0 as usize * 64;
        let flag = self.shared.u8(info).unwrap().swap(0, SeqCst);
        (flag != 0).then(|| self.shared.u64(info + 8).unwrap().swap(0, SeqCst))
    }
    pub fn clear(&self, port: Port) {
        self.bit(2048, port)
            .fetch_and(!(1 << (port.0 % 64)), SeqCst);
    }
    fn bit(&self, base: usize, port: Port) -> &AtomicU64 {
        self.shared.u64(base + port.0 as usize / 64 * 8).unwrap()
    }
}
