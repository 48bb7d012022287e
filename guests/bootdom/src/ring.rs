//! The toolstack's end of a domain's console ring (io/console.h).

use alloc::vec::Vec;
use core::mem::offset_of;
use core::sync::atomic::Ordering;

use dom0_tools::ops::Created;
use dom0_tools::shell::Ring;
use xenlike_rt::abi::Errno;
use xenlike_rt::abi::io_console::ConsInterface;
use xenlike_rt::events;
use xenlike_rt::foreign::SharedPage;

use crate::events::bind_domain;

const IN_BYTES: u32 = 1024;
const OUT_BYTES: u32 = 2048;

/// A mapped console ring and its event channel.
pub struct ConsoleRing {
    page: SharedPage,
    port: events::Port,
}

impl ConsoleRing {
    /// Maps the ring of a new domain and binds its channel.
    pub fn open(created: &Created) -> Result<ConsoleRing, Errno> {
        let page = SharedPage::map(created.id.0, created.console.0)?;
        let port = bind_domain(created.id.0, created.console_port.0)?;
        Ok(ConsoleRing { page, port })
    }

    fn load(&self, offset: usize) -> u32 {
        self.page.word(offset).load(Ordering::Acquire)
    }

    fn store(&self, offset: usize, value: u32) {
        self.page.word(offset).store(value, Ordering::Release);
        // The domain may be gone, and then doesn't need the signal.
        let _ = events::send(self.port);
    }
}

impl Ring for ConsoleRing {
    fn take(&mut self, output: &mut Vec<u8>) {
        // The domain refills the ring while it is emptied, so the number of rounds is bounded; the next event
        // continues.
        for _ in 0..8 {
            let consumed = self.load(offset_of!(ConsInterface, out_cons));
            let produced = self.load(offset_of!(ConsInterface, out_prod));
            // Indices wrap at 32 bits. If the domain writes bad indices, its output is garbage, but never longer than
            // the ring.
            let waiting = produced.wrapping_sub(consumed).min(OUT_BYTES);
            if waiting == 0 {
                return;
            }
            let ring = self
                .page
                .bytes(offset_of!(ConsInterface, out), OUT_BYTES as usize);
            for n in 0..waiting {
                let at = consumed.wrapping_add(n) % OUT_BYTES;
                output.extend(
                    ring.get(at as usize)
                        .map(|byte| byte.load(Ordering::Relaxed)),
                );
            }
            self.store(offset_of!(ConsInterface, out_cons), produced);
        }
    }

    fn give(&mut self, keys: &[u8]) -> usize {
        let consumed = self.load(offset_of!(ConsInterface, in_cons));
        let produced = self.load(offset_of!(ConsInterface, in_prod));
        let used = produced.wrapping_sub(consumed);
        let room = IN_BYTES.saturating_sub(used) as usize;
        let count = room.min(keys.len());
        if count == 0 {
            return 0;
        }
        let ring = self
            .page
            .bytes(offset_of!(ConsInterface, in_), IN_BYTES as usize);
        for (n, key) in keys.iter().take(count).enumerate() {
            let at = produced.wrapping_add(n as u32) % IN_BYTES;
            if let Some(byte) = ring.get(at as usize) {
                byte.store(*key, Ordering::Relaxed);
            }
        }
        self.store(
            offset_of!(ConsInterface, in_prod),
            produced.wrapping_add(count as u32),
        );
        count
    }
}

impl Drop for ConsoleRing {
    fn drop(&mut self) {
        // If the port can't be closed, it is closed already.
        let _ = events::close(self.port);
    }
}
