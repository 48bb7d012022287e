//! SMAP: ring 0 may access pages of ring 3 only between `stac` and `clac` (APM vol. 2 §5.6.6).
//!
//! In the image both are no-operations of the same three bytes. If SMAP is enabled, boot overwrites them with the
//! instructions before there are guests, so that no access has to test for it.
#![cfg_attr(
    target_os = "none",
    expect(unsafe_code, reason = "reads a section of the image")
)]

use crate::kit::Vaddr;

/// The assembly that opens guest memory: `stac` where SMAP is enabled.
#[cfg(target_os = "none")]
macro_rules! open_guest_memory {
    () => {
        $crate::arch::smap::smap_place!("0xcb010f")
    };
}
#[cfg(target_os = "none")]
pub(crate) use open_guest_memory;

/// The assembly that closes guest memory: `clac` where SMAP is enabled.
#[cfg(target_os = "none")]
macro_rules! close_guest_memory {
    () => {
        $crate::arch::smap::smap_place!("0xca010f")
    };
}
#[cfg(target_os = "none")]
pub(crate) use close_guest_memory;

/// A no-operation, with an entry in section `.smap` that holds the bytes to replace it.
#[doc(hidden)]
#[cfg(target_os = "none")]
macro_rules! smap_place {
    ($bytes:literal) => {
        concat!(
            "661: .byte 0x0f, 0x1f, 0x00\n.pushsection .smap, \"a\"\n.balign 4\n.long 661b - ., ",
            $bytes,
            "\n.popsection"
        )
    };
}
#[cfg(target_os = "none")]
pub(crate) use smap_place;

/// A place in the image and the instruction that belongs there under SMAP.
pub struct Place {
    /// The address of the three bytes.
    pub at: Vaddr,
    /// The bytes of the instruction.
    pub bytes: [u8; 3],
}

/// An entry of section `.smap`: the distance from this word to the place, and the bytes.
#[repr(C)]
struct Noted {
    at: i32,
    bytes: u32,
}

#[cfg(target_os = "none")]
fn noted() -> &'static [Noted] {
    unsafe extern "C" {
        static __smap_start: Noted;
        static __smap_end: Noted;
    }
    // SAFETY: the linker script defines both symbols around the entries, which are constant.
    unsafe { super::section::entries(&raw const __smap_start, &raw const __smap_end) }
}

#[cfg(not(target_os = "none"))]
fn noted() -> &'static [Noted] {
    &[]
}

/// All places in the image.
pub fn places() -> impl Iterator<Item = Place> {
    noted().iter().map(|noted| {
        let here = &raw const noted.at as u64;
        let [a, b, c, _] = noted.bytes.to_le_bytes();
        Place {
            at: Vaddr(here.wrapping_add_signed(i64::from(noted.at))),
            bytes: [a, b, c],
        }
    })
}
