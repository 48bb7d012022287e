//! The page of a domain's Xenstore ring, and its event channel.

use core::sync::atomic::Ordering;

use dom0_tools::ops::Created;
use dom0_tools::store::Page;
use xenlike_rt::abi::{Errno, errno};
use xenlike_rt::events;
use xenlike_rt::foreign::SharedPage;

use crate::events::bind_domain;

/// A mapped page and its event channel.
pub struct StorePage {
    page: SharedPage,
    port: events::Port,
}

impl StorePage {
    /// Maps the ring of a new domain and binds its channel.
    pub fn open(created: &Created) -> Result<StorePage, Errno> {
        let port = created.store_port.ok_or(errno::EINVAL)?;
        let page = SharedPage::map(created.id.0, created.store.0)?;
        let port = bind_domain(created.id.0, port.0)?;
        Ok(StorePage { page, port })
    }
}

impl Page for StorePage {
    fn load(&self, offset: usize) -> u32 {
        self.page.word(offset).load(Ordering::Acquire)
    }

    fn store(&mut self, offset: usize, value: u32) {
        self.page.word(offset).store(value, Ordering::Release);
    }

    fn read(&self, offset: usize, bytes: &mut [u8]) {
        let shared = self.page.bytes(offset, bytes.len());
        for (byte, shared) in bytes.iter_mut().zip(shared) {
            *byte = shared.load(Ordering::Relaxed);
        }
    }

    fn write(&mut self, offset: usize, bytes: &[u8]) {
        let shared = self.page.bytes(offset, bytes.len());
        for (byte, shared) in bytes.iter().zip(shared) {
            shared.store(*byte, Ordering::Relaxed);
        }
    }

    fn notify(&mut self) {
        // The domain may be gone, and then doesn't need the signal.
        let _ = events::send(self.port);
    }
}

impl Drop for StorePage {
    fn drop(&mut self) {
        // If the port can't be closed, it is closed already.
        let _ = events::close(self.port);
    }
}
