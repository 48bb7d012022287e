//! The guest's page tables: its stores into them, and its kernel's memory as seen from either mode.

use crate::kit::atomic::Ordering;

use super::super::state::State;
use super::guest::Emulated;
use crate::domain::Ctx;
use crate::emul::ptwr::{Entries, EntryError};
use crate::kit::{Mfn, PAGE_SHIFT, Vaddr};
use crate::mm::device_frames;
use crate::mm::directmap::SharedPage;
use crate::mm::frame::frames;
use crate::pagetype::{EntryAt, PageType, Pte, Refused, machine};

/// A page table of the guest, and where the guest sees it.
#[derive(Clone, Copy)]
pub struct Seen {
    /// The number of the page at which it sees the table.
    page: u64,
    frame: Mfn,
}

/// The L1 table of the guest that its kernel sees at the address, mapped read-only.
pub fn at(ctx: &Ctx<'_>, at: Vaddr) -> Option<Seen> {
    let entry = machine().lookup_under(ctx.st.pv().kernel_root.as_ref()?, at)?;
    if !entry.is_present() || entry.is_writable() {
        return None;
    }
    let frame = frames().get(entry.mfn())?;
    let is_table = frame.load().type_bits() == PageType::L1 as u64 && frame.owner() == ctx.dom.id();
    is_table.then_some(Seen {
        page: at.0 >> PAGE_SHIFT,
        frame: entry.mfn(),
    })
}

/// Whether the guest's kernel sees a page of a device at the address, mapped read-only because it may only read it.
pub fn is_only_read_device(ctx: &Ctx<'_>, at: Vaddr) -> bool {
    let root = ctx.st.pv().kernel_root.as_ref();
    let entry = root.and_then(|root| machine().lookup_under(root, at));
    entry.is_some_and(|entry| {
        let to_read = entry.is_present() && !entry.is_writable();
        to_read && frames().get(entry.mfn()).is_none() && device_frames::is_protected(entry.mfn())
    })
}

/// Calls `read` with the frame that the guest's kernel has mapped at the address. Other vCPUs may change the mapping at any
/// time, and the frame may then go to another domain. So a reference is taken first, and the mapping is looked up again.
fn in_kernel_page<R>(
    st: &State,
    at: Vaddr,
    read: impl FnOnce(SharedPage) -> Option<R>,
) -> Option<R> {
    let lookup = || machine().lookup_under(st.kernel_root.as_ref()?, at);
    let entry = lookup().filter(|entry| entry.is_present())?;
    let held = machine().get_any_page(entry.mfn())?;
    let still = lookup().is_some_and(|now| now.is_present() && now.mfn() == held.mfn());
    if !still {
        return None;
    }
    read(SharedPage::new(held.mfn())?)
}

/// Reads a byte of the kernel's memory, whichever mode the guest is in.
pub fn kernel_byte(st: &State, at: Vaddr) -> Option<u8> {
    in_kernel_page(st, at, |page| {
        Some(page.u8(at.offset())?.load(Ordering::Relaxed))
    })
}

/// Reads an aligned word of the kernel's memory, whichever mode the guest is in.
pub fn kernel_word(st: &State, at: Vaddr) -> Option<u64> {
    in_kernel_page(st, at, |page| {
        Some(page.u64(at.offset())?.load(Ordering::Relaxed))
    })
}

impl Emulated<'_, '_> {
    /// The table of the trapped store, if the address is in it. The update checks whether it still is a table and the
    /// guest's.
    fn table_at(&self, at: Vaddr) -> Result<Mfn, EntryError> {
        let seen = self.table.filter(|seen| seen.page == at.0 >> PAGE_SHIFT);
        seen.map(|seen| seen.frame).ok_or(EntryError::NotATable)
    }
}

impl Entries for Emulated<'_, '_> {
    fn read_entry(&mut self, at: Vaddr) -> Result<u64, EntryError> {
        let frame = self.table_at(at)?;
        let entry = machine().read_entry(frame, at.offset() / 8);
        entry.map(|entry| entry.0).ok_or(EntryError::NotATable)
    }

    fn exchange_entry(&mut self, at: Vaddr, old: u64, new: u64) -> Result<(), EntryError> {
        let table = self.table_at(at)?;
        let place = EntryAt {
            table,
            index: at.offset() / 8,
        };
        match machine().exchange_l1_entry(self.ctx.dom.id(), place, Pte(old), Pte(new)) {
            Ok(Pte(now)) if now == old => Ok(()),
            Ok(Pte(now)) => Err(EntryError::Changed(now)),
            Err(Refused::Again) => Err(EntryError::Again),
            Err(_) => Err(EntryError::Refused),
        }
    }
}
