//! Boot modules, and the initrd that any domain may have. The boot modules are files that GRUB loaded; only
//! the boot domain finds them (`SIF_MULTIBOOT_MOD` with the list of the `xenlike` ABI file).

#![expect(unsafe_code, reason = "reads what the builder put into memory")]

use alloc::vec::Vec;

use guest_pv_abi::xen::{SIF_MOD_START_PFN, SIF_MULTIBOOT_MOD};
use guest_pv_abi::xenlike::BootModule;

use crate::arch::from_long;
use crate::info::start_info;

/// A boot module: its bytes and its command line.
#[derive(Clone, Copy, Debug)]
pub struct Module {
    /// The contents of the file that GRUB loaded.
    pub bytes: &'static [u8],
    /// The words after the file's name; empty if they are not UTF-8.
    pub command_line: &'static str,
}

/// `bytes` bytes from `address` on, which the builder mapped permanently.
///
/// # Safety
/// The start info page, or a structure that it names, must name the range.
unsafe fn given(address: u64, bytes: u64) -> &'static [u8] {
    if bytes == 0 {
        return &[];
    }
    let start = core::ptr::with_exposed_provenance(address as usize);
    // SAFETY: the builder mapped the range, and no code writes it.
    unsafe { core::slice::from_raw_parts(start, bytes as usize) }
}

/// All boot modules, in GRUB's order. Empty in every domain but the boot domain.
#[must_use]
pub fn boot_modules() -> Vec<Module> {
    let info = start_info();
    if info.flags & SIF_MULTIBOOT_MOD == 0 {
        return Vec::new();
    }
    let list = core::ptr::with_exposed_provenance::<BootModule>(info.mod_start as usize);
    let count = info.mod_len as usize / size_of::<BootModule>();
    let module = |index| {
        // SAFETY: the list has `count` entries, and each names a range that the hypervisor mapped.
        unsafe {
            let entry = list.add(index).read_unaligned();
            let words = given(entry.cmdline_va, entry.cmdline_bytes);
            Module {
                bytes: given(entry.start_va, entry.bytes),
                command_line: core::str::from_utf8(words).unwrap_or(""),
            }
        }
    };
    (0..count).map(module).collect()
}

/// The initrd, if the domain has one and its builder mapped it.
#[must_use]
pub fn initrd() -> Option<&'static [u8]> {
    let info = start_info();
    if info.mod_len == 0 || info.flags & (SIF_MULTIBOOT_MOD | SIF_MOD_START_PFN) != 0 {
        return None;
    }
    // SAFETY: without these flags the start info page names a mapped range (public header xen.h).
    Some(unsafe { given(from_long(info.mod_start), from_long(info.mod_len)) })
}
