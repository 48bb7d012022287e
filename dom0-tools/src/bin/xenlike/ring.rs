//! The toolstack's end of a domain's console ring (io/console.h).

use std::io;
use std::mem::offset_of;
use std::os::fd::RawFd;
use std::sync::atomic::Ordering;

use anyhow::Result;
use guest_pv_abi::io_console::ConsInterface;

use crate::evtchn::Channel;
use crate::privcmd::{Privcmd, SharedPage};
use crate::runtime::Record;

const IN_BYTES: u32 = 1024;
const OUT_BYTES: u32 = 2048;

/// A mapped console ring and its event channel.
pub struct Ring {
    page: SharedPage,
    channel: Channel,
}

impl Ring {
    /// Maps a domain's console ring and connects to its event channel.
    ///
    /// # Errors
    /// If the domain is gone, or another process serves its console.
    pub fn open(h: &Privcmd, record: &Record) -> Result<Ring> {
        let page = h.map_shared(record.id, record.console)?;
        let channel = Channel::connect(record.id, record.console_port)?;
        Ok(Ring { page, channel })
    }

    /// The file descriptor that becomes readable when the domain signals.
    pub fn fd(&self) -> RawFd {
        self.channel.fd()
    }

    /// Takes pending signals and the domain's new output.
    ///
    /// # Errors
    /// If the event channel fails.
    pub fn take(&mut self) -> io::Result<Vec<u8>> {
        self.channel.take()?;
        let word = |offset| self.page.word(offset);
        let consumed = word(offset_of!(ConsInterface, out_cons)).load(Ordering::Acquire);
        let produced = word(offset_of!(ConsInterface, out_prod)).load(Ordering::Acquire);
        // Indices wrap at 32 bits. If the domain writes bad indices, its output is garbage, but never longer than the
        // ring.
        let waiting = produced.wrapping_sub(consumed).min(OUT_BYTES);
        let ring = offset_of!(ConsInterface, out);
        let place = |n: u32| ring + (consumed.wrapping_add(n) % OUT_BYTES) as usize;
        let output: Vec<u8> = (0..waiting)
            .map(|n| self.page.byte(place(n)).load(Ordering::Relaxed))
            .collect();
        if waiting != 0 {
            word(offset_of!(ConsInterface, out_cons)).store(produced, Ordering::Release);
            // The domain may be gone, and then doesn't need the signal.
            let _ = self.channel.notify();
        }
        Ok(output)
    }

    /// Sends as many keys to the domain as the ring has room for; returns their number.
    pub fn give(&mut self, keys: &[u8]) -> usize {
        let word = |offset| self.page.word(offset);
        let consumed = word(offset_of!(ConsInterface, in_cons)).load(Ordering::Acquire);
        let produced = word(offset_of!(ConsInterface, in_prod)).load(Ordering::Acquire);
        let used = produced.wrapping_sub(consumed);
        let count = keys.len().min(IN_BYTES.saturating_sub(used) as usize);
        for (n, key) in (0..).zip(keys.iter().take(count)) {
            let at = (produced.wrapping_add(n) % IN_BYTES) as usize;
            self.page.byte(at).store(*key, Ordering::Relaxed);
        }
        if count != 0 {
            let now = produced.wrapping_add(count as u32);
            word(offset_of!(ConsInterface, in_prod)).store(now, Ordering::Release);
            let _ = self.channel.notify();
        }
        count
    }
}
