//! The hypercall page: a stub of 32 bytes for each hypercall number (xen.h, x86-64 PV).

use crate::domain::Domain;
use crate::kit::{Mfn, PAGE_SIZE};
use crate::mm::SharedPage;
use crate::pagetype::machine;
use guest_pv_abi::xen::hypercall::IRET;

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
    fill(&page).ok_or(BadFrame)
}

/// Writes the stubs to a page. `None` can't happen, because a page has room for them.
pub fn fill(page: &SharedPage) -> Option<()> {
    (0..STUBS)
        .try_for_each(|number| page.write(number.wrapping_mul(STUB_BYTES), &stub(number as u32)))
}

/// The code of one stub. `syscall` overwrites rcx and r11 with rip and rflags, so the stub saves both on the
/// stack. The stub of iret doesn't return; its frame begins with rcx, r11 and rax.
fn stub(number: u32) -> [u8; STUB_BYTES] {
    const INT3: u8 = 0xcc;
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
    let mut bytes = [INT3; STUB_BYTES];
    let code: &[u8] = if u64::from(number) == IRET {
        &iret
    } else {
        &call
    };
    for (to, from) in bytes.iter_mut().zip(code) {
        *to = *from;
    }
    bytes
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
    }
}
