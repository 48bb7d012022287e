//! The guest's side of a ring, for tests.

use alloc::rc::Rc;
use alloc::vec;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::mem::offset_of;

use guest_pv_abi::io_xenbus::{DomainInterface, SockMsg};
use zerocopy::{FromBytes, IntoBytes};

use super::Page;
use super::wire::HEADER;

/// The page, shared by both sides.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) page: Rc<RefCell<Vec<u8>>>,
    pub(crate) told: Rc<Cell<usize>>,
}

impl Page for Shared {
    fn load(&self, offset: usize) -> u32 {
        let mut word = [0; 4];
        self.read(offset, &mut word);
        u32::from_le_bytes(word)
    }

    fn store(&mut self, offset: usize, value: u32) {
        self.write(offset, &value.to_le_bytes());
    }

    fn read(&self, offset: usize, bytes: &mut [u8]) {
        bytes.copy_from_slice(&self.page.borrow()[offset..offset + bytes.len()]);
    }

    fn write(&mut self, offset: usize, bytes: &[u8]) {
        self.page.borrow_mut()[offset..offset + bytes.len()].copy_from_slice(bytes);
    }

    fn notify(&mut self) {
        self.told.set(self.told.get() + 1);
    }
}

pub(crate) const REQ_CONS: usize = offset_of!(DomainInterface, req_cons);
pub(crate) const REQ_PROD: usize = offset_of!(DomainInterface, req_prod);
pub(crate) const RSP_CONS: usize = offset_of!(DomainInterface, rsp_cons);
pub(crate) const RSP_PROD: usize = offset_of!(DomainInterface, rsp_prod);
pub(crate) const CONNECTION: usize = offset_of!(DomainInterface, connection);
pub(crate) const ERROR: usize = offset_of!(DomainInterface, error);

/// A guest's end of the ring.
pub(crate) struct End {
    pub(crate) shared: Shared,
    /// Bytes that it has read from the ring.
    pub(crate) got: Vec<u8>,
}

impl End {
    pub(crate) fn new() -> End {
        let shared = Shared {
            page: Rc::new(RefCell::new(vec![0; 4096])),
            told: Rc::default(),
        };
        let got = Vec::new();
        End { shared, got }
    }

    /// Puts as many bytes into the ring as fit; returns their number.
    pub(crate) fn put(&mut self, bytes: &[u8]) -> usize {
        let (cons, mut prod) = (self.shared.load(REQ_CONS), self.shared.load(REQ_PROD));
        let room = 1024 - prod.wrapping_sub(cons) as usize;
        for byte in &bytes[..room.min(bytes.len())] {
            self.shared.write(prod as usize % 1024, &[*byte]);
            prod = prod.wrapping_add(1);
        }
        self.shared.store(REQ_PROD, prod);
        room.min(bytes.len())
    }

    /// Takes at most `most` bytes out of the ring.
    pub(crate) fn take(&mut self, most: usize) {
        let (mut cons, prod) = (self.shared.load(RSP_CONS), self.shared.load(RSP_PROD));
        for _ in 0..most.min(prod.wrapping_sub(cons) as usize) {
            let mut byte = [0];
            self.shared.read(1024 + cons as usize % 1024, &mut byte);
            self.got.push(byte[0]);
            cons = cons.wrapping_add(1);
        }
        self.shared.store(RSP_CONS, cons);
    }

    /// The complete messages that it has read.
    pub(crate) fn messages(&mut self) -> Vec<(SockMsg, Vec<u8>)> {
        let mut messages = Vec::new();
        while let Ok((header, rest)) = SockMsg::read_from_prefix(&self.got) {
            if rest.len() < header.len as usize {
                break;
            }
            messages.push((header, rest[..header.len as usize].to_vec()));
            self.got.drain(..HEADER + header.len as usize);
        }
        messages
    }
}

pub(crate) fn request(type_: u32, req_id: u32, payload: &[u8]) -> Vec<u8> {
    let len = payload.len() as u32;
    let header = SockMsg {
        type_,
        req_id,
        tx_id: 0,
        len,
    };
    [header.as_bytes(), payload].concat()
}
