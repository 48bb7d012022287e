//! A vCPU's GDT: frames of its domain, each held as a page of segment descriptors and mapped in the
//! vCPU's window. The core's own page behind them stays.

use super::{State, window};
use crate::arch::paging::pte;
use crate::kit::{Mfn, PAGE_SIZE};
use crate::pagetype::{DomainPages, machine};

/// Descriptors in a frame.
pub const GDT_ENTRIES_PER_FRAME: u32 = (PAGE_SIZE / 8) as u32;
/// Frames of a guest's GDT: entries up to 7167 (FIRST_RESERVED_GDT_ENTRY).
pub const GDT_GUEST_FRAMES: usize = window::GDT_OWN_PAGE;

/// A descriptor table as the guest registered it.
#[derive(Clone, Copy, Default)]
pub struct GuestGdt {
    /// Frames, each with a segment-descriptor type reference.
    pub frames: [Option<Mfn>; GDT_GUEST_FRAMES],
    /// Entries, up to 512 a frame.
    pub entries: u32,
}

impl GuestGdt {
    /// How many frames its entries take.
    pub const fn frame_count(&self) -> usize {
        self.entries.div_ceil(GDT_ENTRIES_PER_FRAME) as usize
    }
}

/// A frame that is not the domain's, or holds what a guest's GDT may not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadFrame;

/// Gives a vCPU another GDT of `owner`'s frames: all of them are taken before any of the old ones is let go. The
/// caller flushes the TLB of the CPU that runs the vCPU.
///
/// # Errors
/// [`BadFrame`]; the old one stays.
pub fn replace(
    owner: &DomainPages,
    st: &mut State,
    frames: &[u64],
    entries: u32,
) -> Result<(), BadFrame> {
    if is_of(&st.gdt, frames) {
        // Held, typed and mapped already.
        st.gdt.entries = entries;
        return Ok(());
    }
    let mut gdt = GuestGdt {
        entries,
        ..GuestGdt::default()
    };
    for (slot, &frame) in gdt.frames.iter_mut().zip(frames) {
        let Some(taken) = machine().get_segdesc(Mfn(frame), owner.id()) else {
            put_frames(&gdt);
            return Err(BadFrame);
        };
        *slot = Some(taken.keep());
    }
    install(st, gdt);
    Ok(())
}

/// Whether a GDT is made of just these frames.
fn is_of(gdt: &GuestGdt, frames: &[u64]) -> bool {
    gdt.frame_count() == frames.len()
        && gdt
            .frames
            .iter()
            .zip(frames)
            .all(|(held, &frame)| *held == Some(Mfn(frame)))
}

/// Takes the GDT away.
pub fn clear(st: &mut State) {
    install(st, GuestGdt::default());
}

fn install(st: &mut State, gdt: GuestGdt) {
    let old = core::mem::replace(&mut st.gdt, gdt);
    for (page, (frame, before)) in st.gdt.frames.iter().zip(&old.frames).enumerate() {
        if frame.is_none() && before.is_none() {
            continue;
        }
        // Ring 3 reads its GDT through no address of its own: the window is the core's.
        let entry = frame.map_or(0, |mfn| {
            mfn.maddr().0 | pte::P | pte::RW | pte::A | pte::D | pte::NX
        });
        window::set(st.window, page, entry);
    }
    put_frames(&old);
}

/// The window no longer maps these frames, or never did.
fn put_frames(gdt: &GuestGdt) {
    for mfn in gdt.frames.iter().flatten() {
        machine().put_simple(*mfn);
    }
}
