//! Fake guest memory for tests: pages that a test has mapped are accessible, all others fault.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::Fault;
use super::frames::Told;
use crate::arch::frame::TrapFrame;
use crate::kit::{Lock, PAGE_SIZE, Rank, Vaddr};
use crate::mm::layout::guest_or_nowhere;

static PAGES: Lock<BTreeMap<u64, Box<[u8; PAGE_SIZE]>>> =
    Lock::new(Rank::HostMemory, BTreeMap::new());

/// Maps zeroed pages. Each test uses addresses of its own.
pub fn map(va: Vaddr, pages: u64) {
    let mut memory = PAGES.lock();
    for page in 0..pages {
        memory.insert((va.0 >> 12) + page, Box::new([0; PAGE_SIZE]));
    }
}

/// Calls `touch` with each byte from `at` on until one is not mapped. Returns the number of bytes left.
fn each(at: Vaddr, bytes: usize, mut touch: impl FnMut(usize, &mut u8)) -> usize {
    let (at, mut memory) = (guest_or_nowhere(at), PAGES.lock());
    for n in 0..bytes {
        let va = Vaddr(at.0.wrapping_add(n as u64));
        match memory.get_mut(&(va.0 >> 12)) {
            Some(page) => touch(n, &mut page[va.offset()]),
            None => return bytes - n,
        }
    }
    0
}

pub(super) fn copy_from(at: Vaddr, out: &mut [u8]) -> usize {
    each(at, out.len(), |n, byte| out[n] = *byte)
}

pub(super) fn copy_to(at: Vaddr, bytes: &[u8]) -> usize {
    each(at, bytes.len(), |n, byte| *byte = bytes[n])
}

pub(super) const fn is_loaded<T>() -> bool {
    matches!(size_of::<T>(), 1..=72)
}

pub(super) const fn is_stored<T>() -> bool {
    is_loaded::<T>()
}

pub(super) fn load<T: FromBytes + IntoBytes>(at: Vaddr) -> Result<T, Fault> {
    let mut value = T::new_zeroed();
    match copy_from(at, value.as_mut_bytes()) {
        0 => Ok(value),
        _ => Err(Fault),
    }
}

pub(super) fn store<T: IntoBytes + Immutable>(at: Vaddr, value: &T) -> Result<(), Fault> {
    match copy_to(at, value.as_bytes()) {
        0 => Ok(()),
        _ => Err(Fault),
    }
}

pub(super) fn push_frame(top: u64, regs: &TrapFrame, told: Told) -> Result<(), Fault> {
    let interrupted = [regs.rip, told.cs, told.rflags, regs.rsp, regs.ss & 0xffff];
    let words: Vec<u64> = [regs.rcx, regs.r11]
        .into_iter()
        .chain(told.error.map(u64::from))
        .chain(interrupted)
        .collect();
    let at = top.wrapping_sub(words.len() as u64 * 8);
    match copy_to(Vaddr(at), words.as_bytes()) {
        0 => Ok(()),
        _ => Err(Fault),
    }
}
