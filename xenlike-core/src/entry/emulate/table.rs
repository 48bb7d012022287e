//! The guest's page tables: its stores into them, and its kernel's memory seen from either mode.

use core::sync::atomic::Ordering;

use super::guest::Emulated;
use crate::domain::VcpuState;
use crate::emul::ptwr::{Entries, EntryError};
use crate::kit::{Mfn, Vaddr};
use crate::mm::directmap::SharedPage;
use crate::mm::frame::frames;
use crate::pagetype::{Refused, Write, machine};

/// The type number of an L1 in the frame table.
const L1: u64 = 1;

/// The frame that the guest's kernel may read, but not write, at the address.
fn read_only_frame(st: &VcpuState, at: Vaddr) -> Option<Mfn> {
    let entry = machine().lookup(st.kernel_l4?, at)?;
    (entry.is_present() && !entry.is_writable()).then(|| entry.mfn())
}

/// Whether a write fault at the address may be a store into a page table.
pub fn maybe_table(guest: &Emulated<'_, '_>, at: Vaddr) -> bool {
    let frame = read_only_frame(guest.ctx.st, at);
    let frame = frame.and_then(|frame| frames().get(frame));
    frame.is_some_and(|frame| frame.load().type_bits() == L1 && frame.owner() == guest.ctx.dom.id())
}

/// A frame of the guest at an address of its kernel's.
fn kernel_page(st: &VcpuState, at: Vaddr) -> Option<SharedPage> {
    let entry = machine().lookup(st.kernel_l4?, at)?;
    if !entry.is_present() {
        return None;
    }
    SharedPage::new(entry.mfn())
}

/// A byte of the kernel's memory, in whichever mode the guest is.
pub fn kernel_byte(st: &VcpuState, at: Vaddr) -> Option<u8> {
    Some(
        kernel_page(st, at)?
            .u8(at.offset())?
            .load(Ordering::Relaxed),
    )
}

/// An aligned word of the kernel's memory, in whichever mode the guest is.
pub fn kernel_word(st: &VcpuState, at: Vaddr) -> Option<u64> {
    Some(
        kernel_page(st, at)?
            .u64(at.offset())?
            .load(Ordering::Relaxed),
    )
}

impl Entries for Emulated<'_, '_> {
    fn read_entry(&mut self, at: Vaddr) -> Result<u64, EntryError> {
        let frame = read_only_frame(self.ctx.st, at).ok_or(EntryError::NotATable)?;
        let entry = machine().read_entry(frame, at.offset() / 8);
        entry.map(|entry| entry.0).ok_or(EntryError::NotATable)
    }

    fn exchange_entry(&mut self, at: Vaddr, old: u64, new: u64) -> Result<(), EntryError> {
        let table = read_only_frame(self.ctx.st, at).ok_or(EntryError::NotATable)?;
        let write = Write {
            table,
            offset: at.offset(),
            bytes: 8,
            value: new,
            expected: Some(old),
        };
        match machine().emulate_write(self.ctx.dom.id(), &write) {
            Ok(now) if now == old => Ok(()),
            Ok(now) => Err(EntryError::Changed(now)),
            Err(Refused::Again) => Err(EntryError::Again),
            Err(_) => Err(EntryError::Refused),
        }
    }
}
