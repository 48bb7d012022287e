//! A Xenstore client, over the ring that the toolstack gives to a guest (io/xs_wire.h).

#![expect(unsafe_code, reason = "shares a page with the store")]

use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec::Vec;
use core::mem::offset_of;
use core::sync::atomic::{AtomicU8, AtomicU32, Ordering};

use guest_pv_abi::io_xenbus::{
    DomainInterface, SockMsg, XENSTORE_CONNECTED, XENSTORE_ERROR_NONE, XENSTORE_RECONNECT,
    XENSTORE_RING_SIZE, XS_ERROR, XS_READ, XS_WATCH, XS_WATCH_EVENT, XS_WRITE,
};
use zerocopy::{FromBytes, IntoBytes};

use crate::arch::from_long;
use crate::events;
use crate::info::start_info;
use crate::memory::{PAGE_BYTES, direct, pfn_of_mfn};

/// The ring's page, as bytes and words that the store may change at any time.
#[derive(Debug, Clone, Copy)]
pub struct Page(*mut u8);

impl Page {
    /// All bytes of the page.
    #[must_use]
    pub fn bytes(&self) -> &[AtomicU8; PAGE_BYTES] {
        // SAFETY: the builder mapped the page permanently; as atomics, the bytes may change at any time.
        unsafe { &*self.0.cast() }
    }

    /// The word at `offset`, the offset of a field of [`DomainInterface`].
    ///
    /// # Panics
    /// If `offset` is not a multiple of 4 inside the page.
    #[must_use]
    pub fn word(&self, offset: usize) -> &AtomicU32 {
        assert!(
            offset.is_multiple_of(4) && offset < PAGE_BYTES,
            "no word at {offset}"
        );
        // SAFETY: an aligned word of the page, see `bytes`.
        unsafe { &*self.0.wrapping_add(offset).cast::<AtomicU32>() }
    }
}

/// Why a request failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The store refused the request with this error name, such as ENOENT.
    Refused(String),
    /// The store closed the connection with this code (`XENSTORE_ERROR_*`).
    Broken(u32),
}

impl core::fmt::Display for Fault {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Fault::Refused(name) => f.write_str(name),
            Fault::Broken(error) => write!(f, "the connection is broken ({error})"),
        }
    }
}

/// The connection to the store. A domain has one; two values of this type would take each other's answers.
#[derive(Debug)]
pub struct Store {
    page: Page,
    port: events::Port,
    events: VecDeque<Vec<u8>>,
}

const SIZE: u32 = XENSTORE_RING_SIZE as u32;
const REQ: usize = offset_of!(DomainInterface, req);
const RSP: usize = offset_of!(DomainInterface, rsp);

impl Store {
    /// Opens the connection; `None` if no Xenstore serves this domain.
    #[must_use]
    pub fn open() -> Option<Store> {
        let info = start_info();
        let page = direct(pfn_of_mfn(from_long(info.store_mfn)));
        (info.store_evtchn != 0).then(|| Store {
            page: Page(core::ptr::with_exposed_provenance_mut(page as usize)),
            port: info.store_evtchn,
            events: VecDeque::new(),
        })
    }

    /// The ring's page, for tests that write to it directly.
    #[must_use]
    pub fn page(&self) -> Page {
        self.page
    }

    /// The event channel. It is pending when the ring may hold data.
    #[must_use]
    pub fn port(&self) -> events::Port {
        self.port
    }

    fn word(&self, offset: usize) -> u32 {
        self.page.word(offset).load(Ordering::Acquire)
    }

    /// Publishes a new index in the ring and signals the store.
    fn moved(&self, offset: usize, value: u32) {
        self.page.word(offset).store(value, Ordering::Release);
        // If the store is gone, the caller's wait will find out.
        let _ = events::send(self.port);
    }

    fn check(&self) -> Result<(), Fault> {
        match self.word(offset_of!(DomainInterface, error)) {
            XENSTORE_ERROR_NONE => Ok(()),
            error => Err(Fault::Broken(error)),
        }
    }

    /// Sleeps until the store signals.
    fn wait(&self) -> Result<(), Fault> {
        self.check()?;
        let _ = events::wait(&[self.port], 0);
        events::take(self.port);
        self.check()
    }

    /// Sends bytes, waiting for room in the ring as needed.
    ///
    /// # Errors
    /// If the store has closed the connection.
    pub fn send(&mut self, mut bytes: &[u8]) -> Result<(), Fault> {
        while !bytes.is_empty() {
            let produced = self.word(offset_of!(DomainInterface, req_prod));
            let used = produced.wrapping_sub(self.word(offset_of!(DomainInterface, req_cons)));
            let count = bytes.len().min(SIZE.saturating_sub(used) as usize);
            if count == 0 {
                self.wait()?;
                continue;
            }
            let (now, later) = bytes.split_at(count);
            for (n, byte) in now.iter().enumerate() {
                let at = produced.wrapping_add(n as u32) % SIZE;
                self.page.bytes()[REQ + at as usize].store(*byte, Ordering::Relaxed);
            }
            let end = produced.wrapping_add(count as u32);
            self.moved(offset_of!(DomainInterface, req_prod), end);
            bytes = later;
        }
        Ok(())
    }

    /// Reads `count` bytes from the ring, waiting for them as needed.
    fn take(&mut self, count: usize) -> Result<Vec<u8>, Fault> {
        let mut bytes = Vec::new();
        while bytes.len() < count {
            let consumed = self.word(offset_of!(DomainInterface, rsp_cons));
            let waiting = self
                .word(offset_of!(DomainInterface, rsp_prod))
                .wrapping_sub(consumed);
            let some = (waiting.min(SIZE) as usize).min(count - bytes.len());
            if some == 0 {
                self.wait()?;
                continue;
            }
            for n in 0..some {
                let at = consumed.wrapping_add(n as u32) % SIZE;
                bytes.push(self.page.bytes()[RSP + at as usize].load(Ordering::Relaxed));
            }
            let end = consumed.wrapping_add(some as u32);
            self.moved(offset_of!(DomainInterface, rsp_cons), end);
        }
        Ok(bytes)
    }

    fn message(&mut self) -> Result<(SockMsg, Vec<u8>), Fault> {
        let bytes = self.take(size_of::<SockMsg>())?;
        let header = SockMsg::read_from_bytes(&bytes).unwrap_or_default();
        Ok((header, self.take(header.len as usize)?))
    }

    /// Sends a request and waits for the answer. Watch events that arrive meanwhile are queued.
    ///
    /// # Errors
    /// The store's refusal, or a closed connection.
    pub fn ask(&mut self, kind: u32, transaction: u32, payload: &[u8]) -> Result<Vec<u8>, Fault> {
        let header = SockMsg {
            type_: kind,
            tx_id: transaction,
            len: payload.len() as u32,
            ..SockMsg::default()
        };
        self.send(&[header.as_bytes(), payload].concat())?;
        loop {
            let (header, payload) = self.message()?;
            match header.type_ {
                XS_WATCH_EVENT => self.events.push_back(payload),
                XS_ERROR => {
                    let name = String::from_utf8_lossy(&payload);
                    return Err(Fault::Refused(name.trim_end_matches('\0').into()));
                }
                _ => return Ok(payload),
            }
        }
    }

    /// Reads a node's value.
    ///
    /// # Errors
    /// The store's refusal, or a closed connection.
    pub fn read(&mut self, path: &str) -> Result<Vec<u8>, Fault> {
        self.ask(XS_READ, 0, &[path.as_bytes(), b"\0"].concat())
    }

    /// Sets a node's value; creates the node if it doesn't exist.
    ///
    /// # Errors
    /// The store's refusal, or a closed connection.
    pub fn write(&mut self, path: &str, value: &[u8]) -> Result<(), Fault> {
        let payload = [path.as_bytes(), b"\0", value].concat();
        self.ask(XS_WRITE, 0, &payload).map(drop)
    }

    /// Watches a node and everything below it.
    ///
    /// # Errors
    /// The store's refusal, or a closed connection.
    pub fn watch(&mut self, path: &str, token: &str) -> Result<(), Fault> {
        let payload = [path.as_bytes(), b"\0", token.as_bytes(), b"\0"].concat();
        self.ask(XS_WATCH, 0, &payload).map(drop)
    }

    /// The next watch event (path and token), if one has arrived.
    ///
    /// # Errors
    /// If the store has closed the connection.
    pub fn event(&mut self) -> Result<Option<Vec<u8>>, Fault> {
        let (consumer, producer) = (
            offset_of!(DomainInterface, rsp_cons),
            offset_of!(DomainInterface, rsp_prod),
        );
        if self.events.is_empty() && self.word(consumer) != self.word(producer) {
            // No request is outstanding, so the message is an event.
            let (_, payload) = self.message()?;
            return Ok(Some(payload));
        }
        Ok(self.events.pop_front())
    }

    /// Requests a reset of the connection: empty rings, no watches, no transactions. Waits until it is done.
    pub fn reconnect(&mut self) {
        self.events.clear();
        let connection = offset_of!(DomainInterface, connection);
        self.moved(connection, XENSTORE_RECONNECT);
        while self.word(connection) != XENSTORE_CONNECTED {
            let _ = events::wait(&[self.port], 0);
            events::take(self.port);
        }
    }
}
