//! Finding the screen and mapping its memory.
#![expect(unsafe_code, reason = "makes windows on the screen's memory")]

use super::info::BootInfo;
use super::memory::map_device;
use super::options::Options;
use crate::arch::mmio::Window;
use crate::arch::paging;
use crate::console::{self, screen::Screen};
use crate::kit::Vaddr;
use crate::mm::layout::DIRECT_MAP;

/// Uses the screen as long as the boot tables are in use: they reach memory below 4 GiB.
pub fn early(info: &BootInfo, options: &Options) {
    let Some(found) = info
        .screen
        .filter(|s| options.screen && s.at.0 + s.bytes <= 1 << 32)
    else {
        return;
    };
    // SAFETY: the boot tables map all below 4 GiB; GRUB says that this is the screen.
    let window = unsafe { Window::new(Vaddr(DIRECT_MAP + found.at.0), found.bytes as usize) };
    console::add_screen(Screen::new(
        window,
        found.surface,
        found.width as usize,
        found.height as usize,
    ));
}

/// Maps the screen in the real tables.
pub fn remap(info: &BootInfo) {
    let Some(found) = info.screen else { return };
    match map_device(found.at, found.bytes, paging::FRAMEBUFFER) {
        // SAFETY: mapped for good just now.
        Some(at) => console::move_screen(unsafe { Window::new(at, found.bytes as usize) }),
        None => console::release_screen(),
    }
}
