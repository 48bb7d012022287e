//! Serves a guest's ring (docs/misc/xenstore-ring.txt). The guest may write anything into the page at any time: each
//! index is read once and checked, each byte is copied out once, and the work of a turn is bounded.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use core::mem::offset_of;

use guest_pv_abi::io_xenbus::{
    DomainInterface, SockMsg, XENSTORE_CONNECTED, XENSTORE_ERROR_NONE, XENSTORE_ERROR_PROTO,
    XENSTORE_ERROR_RINGIDX, XENSTORE_RECONNECT, XENSTORE_RING_SIZE, XENSTORE_SERVER_FEATURE_ERROR,
    XENSTORE_SERVER_FEATURE_RECONNECTION,
};
use zerocopy::FromBytes;

use super::Store;
use super::limits::REQUESTS_PER_TURN;
use super::wire::{HEADER, MAX_PAYLOAD, Message};
use crate::hyper::DomId;

/// A ring's page, shared with the guest, and its event channel. Dropping it releases both.
pub trait Page {
    /// Reads the word at an offset, with acquire ordering towards the guest's writes.
    fn load(&self, offset: usize) -> u32;
    /// Writes the word at an offset, with release ordering: the guest sees earlier writes first.
    fn store(&mut self, offset: usize, value: u32);
    /// Copies bytes from the page.
    fn read(&self, offset: usize, bytes: &mut [u8]);
    /// Copies bytes into the page.
    fn write(&mut self, offset: usize, bytes: &[u8]);
    /// Signals the guest.
    fn notify(&mut self);
}

/// The outcome of a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// There was no request.
    Idle,
    /// All pending requests have been answered.
    Worked,
    /// More requests may be pending than one turn answers.
    More,
}

/// The error code that the guest is told (`XENSTORE_ERROR_*`).
type Fault = u32;

/// One direction of the ring: the offsets of its indices and bytes.
struct Lane {
    bytes: usize,
    consumer: usize,
    producer: usize,
}

const REQUESTS: Lane = Lane {
    bytes: offset_of!(DomainInterface, req),
    consumer: offset_of!(DomainInterface, req_cons),
    producer: offset_of!(DomainInterface, req_prod),
};
const RESPONSES: Lane = Lane {
    bytes: offset_of!(DomainInterface, rsp),
    consumer: offset_of!(DomainInterface, rsp_cons),
    producer: offset_of!(DomainInterface, rsp_prod),
};
const SIZE: u32 = XENSTORE_RING_SIZE as u32;

impl Lane {
    /// Reads both indices; returns them and the number of bytes between them.
    fn used(&self, page: &dyn Page) -> Result<(u32, u32, u32), Fault> {
        let (consumer, producer) = (page.load(self.consumer), page.load(self.producer));
        // The guest can write both indices, so only the checked difference is used, never a second read.
        match producer.wrapping_sub(consumer) {
            used @ 0..=SIZE => Ok((consumer, producer, used)),
            _ => Err(XENSTORE_ERROR_RINGIDX),
        }
    }
}

/// The connection of a guest.
pub struct Link {
    page: Box<dyn Page>,
    dom: DomId,
    /// The received part of a request.
    input: Vec<u8>,
    /// The part of a message that has not been sent.
    output: Vec<u8>,
    /// Whether the ring is invalid, until the guest requests a reset.
    broken: bool,
    /// Whether bytes were taken or put, so that the guest must be signalled.
    moved: bool,
}

impl Link {
    /// Starts serving a guest, whose ring is empty.
    #[must_use]
    pub fn new(mut page: Box<dyn Page>, dom: DomId) -> Link {
        let features = XENSTORE_SERVER_FEATURE_RECONNECTION | XENSTORE_SERVER_FEATURE_ERROR;
        page.store(offset_of!(DomainInterface, server_features), features);
        Link {
            page,
            dom,
            input: Vec::new(),
            output: Vec::new(),
            broken: false,
            moved: false,
        }
    }

    /// Answers requests, and delivers events.
    pub fn serve(&mut self, store: &mut Store) -> Turn {
        if self.page.load(offset_of!(DomainInterface, connection)) == XENSTORE_RECONNECT {
            self.begin_again(store);
        }
        if self.broken {
            return Turn::Idle;
        }
        let turn = self.turn(store).unwrap_or_else(|fault| {
            self.broken = true;
            self.forget(store);
            self.page.store(offset_of!(DomainInterface, error), fault);
            self.moved = true;
            Turn::Idle
        });
        if core::mem::take(&mut self.moved) {
            self.page.notify();
        }
        turn
    }

    fn turn(&mut self, store: &mut Store) -> Result<Turn, Fault> {
        let mut turn = Turn::Idle;
        for _ in 0..REQUESTS_PER_TURN {
            // A guest that doesn't take its answers gets no new ones.
            if !self.send(store)? {
                return Ok(turn);
            }
            let Some(message) = self.receive()? else {
                return Ok(turn);
            };
            store.request(self.dom, &message);
            turn = Turn::Worked;
        }
        self.send(store)?;
        Ok(Turn::More)
    }

    /// Puts pending messages into the ring; returns whether all of them had room.
    fn send(&mut self, store: &mut Store) -> Result<bool, Fault> {
        loop {
            if self.output.is_empty() {
                match store.next_message(self.dom) {
                    Some(message) => self.output = message,
                    None => return Ok(true),
                }
            }
            let (_, at, used) = RESPONSES.used(&*self.page)?;
            let start = at % SIZE;
            let room = (SIZE - used).min(SIZE - start) as usize;
            if room == 0 {
                return Ok(false);
            }
            let count = room.min(self.output.len());
            let chunk: Vec<u8> = self.output.drain(..count).collect();
            self.page.write(RESPONSES.bytes + start as usize, &chunk);
            self.page
                .store(RESPONSES.producer, at.wrapping_add(count as u32));
            self.moved = true;
        }
    }

    /// Reads a request, if it is complete.
    fn receive(&mut self) -> Result<Option<Message>, Fault> {
        loop {
            let wanted = match SockMsg::read_from_prefix(&self.input) {
                Err(_) => HEADER,
                Ok((header, _)) => {
                    let length = header.len as usize;
                    if length > MAX_PAYLOAD {
                        return Err(XENSTORE_ERROR_PROTO);
                    }
                    if self.input.len() == HEADER + length {
                        let payload = self.input.split_off(HEADER);
                        self.input.clear();
                        return Ok(Some(Message { header, payload }));
                    }
                    HEADER + length
                }
            };
            let (at, _, used) = REQUESTS.used(&*self.page)?;
            if used == 0 {
                return Ok(None);
            }
            let start = at % SIZE;
            let count = (used.min(SIZE - start) as usize).min(wanted - self.input.len());
            let mut chunk = vec![0; count];
            self.page.read(REQUESTS.bytes + start as usize, &mut chunk);
            self.input.extend_from_slice(&chunk);
            self.page
                .store(REQUESTS.consumer, at.wrapping_add(count as u32));
            self.moved = true;
        }
    }

    fn forget(&mut self, store: &mut Store) {
        store.reset(self.dom);
        self.input.clear();
        self.output.clear();
    }

    /// Resets the connection as the guest requested: empties the ring and drops all state.
    fn begin_again(&mut self, store: &mut Store) {
        self.forget(store);
        self.broken = false;
        for lane in [&REQUESTS, &RESPONSES] {
            self.page.store(lane.consumer, 0);
            self.page.store(lane.producer, 0);
        }
        self.page
            .store(offset_of!(DomainInterface, error), XENSTORE_ERROR_NONE);
        self.page
            .store(offset_of!(DomainInterface, connection), XENSTORE_CONNECTED);
        self.moved = true;
    }
}
