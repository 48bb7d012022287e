//! SMAP: ring 0 may touch pages of ring 3 only between `stac` and `clac` (APM vol. 2 §5.6.6).
//!
//! As built, both are no-operations of the same three bytes. Where SMAP is on, boot writes the instructions
//! over them before there are guests; so no access has to ask.
#![cfg_attr(
    target_os = "none",
    expect(unsafe_code, reason = "reads a section of the image")
)]

use crate::kit::Vaddr;

/// The assembly of a place where guest memory opens: `stac` where SMAP is on.
#[macro_export]
macro_rules! open_guest_memory {
    () => {
        $crate::smap_place!("0xcb010f")
    };
}

/// The assembly of a place where guest memory closes: `clac` where SMAP is on.
#[macro_export]
macro_rules! close_guest_memory {
    () => {
        $crate::smap_place!("0xca010f")
    };
}

/// A no-operation, noted with the bytes that replace it.
#[doc(hidden)]
#[macro_export]
macro_rules! smap_place {
    ($bytes:literal) => {
        concat!(
            "661: .byte 0x0f, 0x1f, 0x00\n.pushsection .smap, \"a\"\n.balign 4\n.long 661b - ., ",
            $bytes,
            "\n.popsection"
        )
    };
}

/// A place and the instruction for it.
pub struct Place {
    /// Where.
    pub at: Vaddr,
    /// What.
    pub bytes: [u8; 3],
}

/// As the places note it: the distance from this word, and the bytes.
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
    // SAFETY: the linker script puts both symbols around the entries, which are constant.
    unsafe { super::section::entries(&raw const __smap_start, &raw const __smap_end) }
}

#[cfg(not(target_os = "none"))]
fn noted() -> &'static [Noted] {
    &[]
}

/// Every place in the image.
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
