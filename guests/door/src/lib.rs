//! The toolstack's hypercalls by the instruction itself, for control domains over the runtime: the boot domain
//! and the benchmark guest.

#![no_std]
#![expect(
    unsafe_code,
    reason = "makes any hypercall that the toolstack asks for"
)]

extern crate alloc;

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

use dom0_tools::hyper::memory::MAX_BATCH;
use dom0_tools::hyper::{Arena, DomId, Hypercalls, Mfn};
use xenlike_rt::abi::{Errno, GuestHandle};
use xenlike_rt::foreign::Place;
use xenlike_rt::hyper;

/// Size of the memory for arguments, in bytes.
const ARENA_BYTES: usize = 64 << 10;

/// Makes hypercalls and maps other domains' frames.
pub struct Door {
    arena: Box<[u8]>,
    place: Place,
}

impl Door {
    /// Allocates memory for arguments and addresses for mappings.
    ///
    /// # Errors
    /// ENOMEM when the address space is used up.
    pub fn new() -> Result<Door, Errno> {
        Ok(Door {
            arena: vec![0; ARENA_BYTES].into(),
            place: Place::new(MAX_BATCH as u64)?,
        })
    }
}

impl Hypercalls for Door {
    fn arena(&mut self) -> Arena<'_> {
        Arena {
            address: GuestHandle::of_mut(&mut *self.arena).0,
            bytes: &mut self.arena,
        }
    }

    fn call(&mut self, number: u64, args: [u64; 5]) -> Result<u64, Errno> {
        // SAFETY: the toolstack's pointers point into the arena, which is mutably borrowed here, and none of its
        // calls changes this domain's own page tables or registers.
        let result = Errno::check(unsafe { hyper::raw(number, args) });
        core::hint::black_box(&mut self.arena);
        result
    }

    fn with_frames(
        &mut self,
        dom: DomId,
        frames: &[Mfn],
        access: &mut dyn FnMut(&mut [u8]),
    ) -> Result<(), Errno> {
        for frames in frames.chunks(MAX_BATCH) {
            let numbers: Vec<u64> = frames.iter().map(|frame| frame.0).collect();
            self.place.with(dom.0, &numbers, access)?;
        }
        Ok(())
    }

    fn read_frames(
        &mut self,
        dom: DomId,
        frames: &[Mfn],
        look: &mut dyn FnMut(&[u8]),
    ) -> Result<(), Errno> {
        for frames in frames.chunks(MAX_BATCH) {
            let numbers: Vec<u64> = frames.iter().map(|frame| frame.0).collect();
            self.place.read(dom.0, &numbers, look)?;
        }
        Ok(())
    }
}
