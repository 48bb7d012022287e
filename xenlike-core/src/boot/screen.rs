//! The screen: which memory it has, and its mapping before and after the switch to the real tables.
#![expect(unsafe_code, reason = "makes windows on the screen's memory")]

use super::info::ScreenInfo;
use super::memory::BOOT_LIMIT;
use crate::arch::mmio::Window;
use crate::console::{self, screen::Screen};
use crate::kit::Vaddr;
use crate::mm::layout::DIRECT_MAP;

/// Uses the screen while the boot tables are loaded, if they map it.
pub fn early(found: &ScreenInfo) {
    let end = found.at.0.checked_add(found.bytes);
    if end.is_some_and(|end| end <= BOOT_LIMIT) {
        // SAFETY: the boot tables map everything below 4 GiB; GRUB says that this is the screen.
        let window = unsafe { Window::new(Vaddr(DIRECT_MAP + found.at.0), found.bytes as usize) };
        add(found, window);
    }
}

fn add(found: &ScreenInfo, window: Window) {
    console::add_screen(Screen::new(
        window,
        found.surface,
        found.width as usize,
        found.height as usize,
    ));
}

/// Uses the screen at `at`, where the real tables, loaded now, map it. A screen above 4 GiB is used from now on.
pub fn moved(found: &ScreenInfo, at: Option<Vaddr>) {
    let Some(at) = at else {
        return console::release_screen();
    };
    // SAFETY: mapped for good just now.
    let window = unsafe { Window::new(at, found.bytes as usize) };
    if !console::move_screen(window) {
        add(found, window);
    }
}
