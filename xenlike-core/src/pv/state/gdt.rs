//! A vCPU's GDT: frames of its domain, each held with a segment-descriptor type reference and mapped in the vCPU's window.
//! Behind them in the window is the hypervisor's own page, which no guest can replace.

use super::State;
use crate::arch::paging::DATA;
use crate::kit::{Mfn, PAGE_SIZE};
use crate::pagetype::{DomainPages, machine, window};

/// The number of descriptors in a frame.
pub const GDT_ENTRIES_PER_FRAME: u32 = (PAGE_SIZE / 8) as u32;
/// The most frames of a guest's GDT, for entries up to 7167 (FIRST_RESERVED_GDT_ENTRY).
pub const GDT_GUEST_FRAMES: usize = window::GDT_OWN_PAGE;

/// A GDT as the guest registered it.
#[derive(Clone, Copy, Default)]
pub struct GuestGdt {
    /// The frames, each with a reference and a type reference as a segment-descriptor page.
    pub frames: [Option<Mfn>; GDT_GUEST_FRAMES],
    /// The number of entries, up to 512 for each frame.
    pub entries: u32,
}

impl GuestGdt {
    /// The number of frames that its entries take.
    pub const fn frame_count(&self) -> usize {
        self.entries.div_ceil(GDT_ENTRIES_PER_FRAME) as usize
    }
}

/// A frame isn't the domain's, or it contains a descriptor that a guest may not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadFrame;

/// Replaces a vCPU's GDT by one of `owner`'s frames. References to all of them are taken before any of the old ones is
/// dropped. The caller then flushes the TLB of the CPU that runs the vCPU.
///
/// # Errors
/// [`BadFrame`]; the old GDT stays.
pub fn replace(
    owner: &DomainPages,
    st: &mut State,
    frames: &[u64],
    entries: u32,
) -> Result<(), BadFrame> {
    if is_of(&st.gdt, frames) {
        // The frames are held, typed and mapped already.
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

/// Whether a GDT consists of exactly these frames.
fn is_of(gdt: &GuestGdt, frames: &[u64]) -> bool {
    gdt.frame_count() == frames.len()
        && gdt
            .frames
            .iter()
            .zip(frames)
            .all(|(held, &frame)| *held == Some(Mfn(frame)))
}

/// Removes the GDT.
pub fn clear(st: &mut State) {
    install(st, GuestGdt::default());
}

fn install(st: &mut State, gdt: GuestGdt) {
    let old = core::mem::replace(&mut st.gdt, gdt);
    for (page, (frame, before)) in st.gdt.frames.iter().zip(&old.frames).enumerate() {
        if frame.is_none() && before.is_none() {
            continue;
        }
        // The entry has no user bit: only the CPU itself reads descriptors there.
        let entry = frame.map_or(0, |mfn| mfn.maddr().0 | DATA);
        window::set(st.window, page, entry);
    }
    put_frames(&old);
}

/// Drops the references to frames that the window doesn't map.
fn put_frames(gdt: &GuestGdt) {
    for mfn in gdt.frames.iter().flatten() {
        machine().put_simple(*mfn);
    }
}
