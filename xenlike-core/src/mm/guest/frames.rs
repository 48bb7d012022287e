//! The frame that is pushed on a guest kernel's stack when it is entered.

use super::{Fault, Guest, raw};
use crate::arch::frame::TrapFrame;
use crate::kit::Vaddr;
use crate::mm::layout::guest_or_nowhere;

/// The values of a frame that differ from the interrupted registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    /// The code selector, with the saved event mask in bits 32 to 39.
    pub cs: u64,
    /// The flags as the guest sees them.
    pub rflags: u64,
    /// The error code, for exceptions that have one.
    pub error: Option<u32>,
}

impl Guest<'_> {
    /// Pushes the frame of an entry into the guest kernel on its stack, which ends at `top`, and returns the frame's
    /// address. In ascending order the frame holds rcx, r11, the error code if there is one, rip, cs, rflags, rsp and
    /// ss (xen-x86_64.h).
    ///
    /// # Errors
    /// The stack is not in guest memory, not mapped or not writable. Some words may have been written.
    #[inline(always)] // so that registers are copied directly from frame to frame
    pub fn push_frame(self, top: u64, regs: &TrapFrame, told: Told) -> Result<u64, Fault> {
        let bytes = if told.error.is_some() { 64 } else { 56 };
        // If the first word's address is the guest's, so is the whole frame: see `guest_or_nowhere`.
        let at = guest_or_nowhere(Vaddr(top.wrapping_sub(bytes))).0;
        raw::push_frame(at.wrapping_add(bytes), regs, told)?;
        Ok(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mm::guest::map_fake;
    use crate::mm::layout;

    const PAGE: Vaddr = Vaddr(0x5100_0000);
    const TOLD: Told = Told {
        cs: 4,
        rflags: 5,
        error: None,
    };
    const GUEST: Guest<'static> = Guest::loaded(guest_pv_abi::Width::Wide);

    fn interrupted() -> TrapFrame {
        TrapFrame {
            rcx: 1,
            r11: 2,
            rip: 3,
            rsp: 6,
            ss: 0xffff_0007,
            ..TrapFrame::ZERO
        }
    }

    #[test]
    fn frames_with_and_without_an_error_code() {
        map_fake(PAGE, 1);
        let (top, regs) = (PAGE.0 + 0x1000, interrupted());
        assert_eq!(GUEST.push_frame(top, &regs, TOLD), Ok(top - 56));
        let words = GUEST.read::<[u64; 7]>(Vaddr(top - 56));
        assert_eq!(words, Ok([1, 2, 3, 4, 5, 6, 7]));
        let error = Some(0xffff_ffff);
        let pushed = GUEST.push_frame(top, &regs, Told { error, ..TOLD });
        assert_eq!(pushed, Ok(top - 64));
        let words = GUEST.read::<[u64; 8]>(Vaddr(top - 64));
        assert_eq!(words, Ok([1, 2, 0xffff_ffff, 3, 4, 5, 6, 7]));
    }

    #[test]
    fn stacks_that_are_not_the_guests() {
        let (start, regs) = (layout::HYPERVISOR_START, interrupted());
        let tops = [
            start + 0x1000,
            layout::HYPERVISOR_END + 48,
            0x8000_0000_1000,
        ];
        for top in tops {
            assert_eq!(GUEST.push_frame(top, &regs, TOLD), Err(Fault));
        }
        for frame in [start, layout::HYPERVISOR_END - 8] {
            assert_eq!(GUEST.read::<[u64; 9]>(Vaddr(frame)), Err(Fault));
        }
    }
}
