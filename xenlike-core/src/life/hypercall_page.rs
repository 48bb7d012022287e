//! The hypercall page: a stub of 32 bytes for each hypercall number (arch-x86/xen-x86_64.h, xen-x86_32.h).

use guest_pv_abi::Width;
use guest_pv_abi::arch_x86::narrow::HYPERCALL_VECTOR;
use guest_pv_abi::xen::hypercall::IRET;

use crate::domain::Domain;
use crate::kit::{Mfn, PAGE_SIZE};
use crate::mm::SharedPage;
use crate::pagetype::machine;

/// The size of a stub in bytes.
const STUB_BYTES: usize = 32;
/// The number of stubs on the page.
const STUBS: usize = PAGE_SIZE / STUB_BYTES;

/// The frame is not the domain's, or it can't be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadFrame;

/// Fills a frame of `dom` with the stubs.
///
/// # Errors
/// [`BadFrame`].
pub fn fill_guest_frame(dom: &Domain, frame: Mfn) -> Result<(), BadFrame> {
    let held = machine().get_writable(frame, dom.id()).ok_or(BadFrame)?;
    let page = SharedPage::new(held.mfn()).ok_or(BadFrame)?;
    fill(&page, dom.pages.width()).ok_or(BadFrame)
}

/// Writes the stubs for a guest of this width to a page. `None` can't happen, because a page has room for them.
pub fn fill(page: &SharedPage, width: Width) -> Option<()> {
    let stub = match width {
        Width::Wide => stub,
        Width::Narrow => narrow_stub,
    };
    (0..STUBS)
        .try_for_each(|number| page.write(number.wrapping_mul(STUB_BYTES), &stub(number as u32)))
}

const INT3: u8 = 0xcc;

/// A stub of this code.
fn filled(code: &[u8]) -> [u8; STUB_BYTES] {
    let mut bytes = [INT3; STUB_BYTES];
    for (to, from) in bytes.iter_mut().zip(code) {
        *to = *from;
    }
    bytes
}

/// The code of one stub of a narrow guest. The frame of iret begins with eax.
fn narrow_stub(number: u32) -> [u8; STUB_BYTES] {
    let [a, b, c, d] = number.to_le_bytes();
    let [e, f] = [0xcd, HYPERCALL_VECTOR]; // int 0x82
    if u64::from(number) == IRET {
        // push eax; mov eax, number
        return filled(&[0x50, 0xb8, a, b, c, d, e, f]);
    }
    // mov eax, number; ret
    filled(&[0xb8, a, b, c, d, e, f, 0xc3])
}

/// The code of one stub. `syscall` overwrites rcx and r11 with rip and rflags, so the stub saves both on the
/// stack. The stub of iret doesn't return; its frame begins with rcx, r11 and rax.
fn stub(number: u32) -> [u8; STUB_BYTES] {
    let [a, b, c, d] = number.to_le_bytes();
    let call: [u8; 14] = [
        0x51, // push rcx
        0x41, 0x53, // push r11
        0xb8, a, b, c, d, // mov eax, number
        0x0f, 0x05, // syscall
        0x41, 0x5b, // pop r11
        0x59, // pop rcx
        0xc3, // ret
    ];
    let iret: [u8; 11] = [
        0x51, // push rcx
        0x41, 0x53, // push r11
        0x50, // push rax
        0xb8, a, b, c, d, // mov eax, number
        0x0f, 0x05, // syscall
    ];
    if u64::from(number) == IRET {
        filled(&iret)
    } else {
        filled(&call)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stubs() {
        assert_eq!(
            stub(1)[..14],
            [
                0x51, 0x41, 0x53, 0xb8, 1, 0, 0, 0, 0x0f, 5, 0x41, 0x5b, 0x59, 0xc3
            ]
        );
        assert_eq!(stub(23)[3], 0x50);
        assert_eq!(stub(23)[11], 0xcc);
        assert_eq!(
            narrow_stub(1)[..9],
            [0xb8, 1, 0, 0, 0, 0xcd, 0x82, 0xc3, 0xcc]
        );
        assert_eq!(
            narrow_stub(23)[..9],
            [0x50, 0xb8, 23, 0, 0, 0, 0xcd, 0x82, 0xcc]
        );
    }
}
