//! The frames on a guest kernel's stack: those that it finds there on entry, and those that it leaves there
//! for iret. Each is checked once as a whole and copied by plain moves: for so few words a string
//! instruction takes longer to begin than to run.
#![cfg_attr(
    target_os = "none",
    expect(
        unsafe_code,
        reason = "moves that may fault, with landings in .extable"
    )
)]

use guest_pv_abi::arch_x86::IretContext;

use super::Fault;
use crate::arch::frame::TrapFrame;
use crate::kit::Vaddr;
use crate::mm::layout::guest_or_nowhere;

/// What an entry into the guest kernel tells it in other words than the machine's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    /// The code selector, and the saved event mask in bits 32 to 39.
    pub cs: u64,
    /// The flags as the guest knows them.
    pub rflags: u64,
    /// The error code of an exception that has one.
    pub error: Option<u32>,
}

/// Pushes what an entry into the guest kernel leaves on its stack, which ends at `top`, and gives its
/// address: from there up rcx, r11, the error code if there is one, rip, cs, rflags, rsp and ss
/// (xen-x86_64.h).
///
/// # Errors
/// The stack is not the guest's, not there or not writable. Some words may have been written.
#[inline(always)] // so that registers go from frame to frame
pub fn push(top: u64, regs: &TrapFrame, told: Told) -> Result<u64, Fault> {
    let words = if told.error.is_some() { 8 } else { 7 };
    let at = guest_or_nowhere(Vaddr(top.wrapping_sub(words * 8))).0;
    raw::push(at.wrapping_add(words * 8), regs, told)?;
    Ok(at)
}

/// Reads the frame that iret takes.
///
/// # Errors
/// It is not in the guest's memory.
#[inline(always)] // so that registers go from frame to frame
pub fn iret_frame(at: Vaddr) -> Result<IretContext, Fault> {
    raw::iret_frame(guest_or_nowhere(at).0).ok_or(Fault)
}

#[cfg(target_os = "none")]
mod raw {
    use core::arch::asm;

    use super::{Fault, IretContext, Told, TrapFrame};

    /// Where nothing can be read in one piece: what the address becomes at a fault.
    const NOWHERE: i64 = -1;

    /// Stores words at distances from the stack's end, with guest memory open; leaves by `return` at a fault.
    macro_rules! store {
        ($top:ident, $($distance:literal: $word:expr),*) => {{$({
            // SAFETY: the caller has checked that the frame begins in guest memory, which no run of a few
            // words from there leaves for the hypervisor's; a fault lands at the label.
            unsafe {
                asm!(
                    "2: mov qword ptr [{top} - {distance}], {word}",
                    crate::extable!("2b", "{fault}"),
                    top = in(reg) $top,
                    distance = const $distance,
                    word = in(reg) $word,
                    fault = label {
                        close();
                        return Err(Fault);
                    },
                    options(nostack, preserves_flags),
                );
            }
        })*}};
    }

    #[inline(always)] // one instruction
    fn open() {
        // SAFETY: opens guest memory to ring 0, which takes nothing from anybody.
        unsafe {
            asm!(
                crate::open_guest_memory!(),
                options(nostack, preserves_flags)
            )
        };
    }

    #[inline(always)] // one instruction
    fn close() {
        // SAFETY: closes it.
        unsafe {
            asm!(
                crate::close_guest_memory!(),
                options(nostack, preserves_flags)
            )
        };
    }

    #[inline(always)] // so that registers go from frame to frame
    pub(super) fn push(top: u64, regs: &TrapFrame, told: Told) -> Result<(), Fault> {
        open();
        store!(top, 8: regs.ss & 0xffff, 16: regs.rsp, 24: told.rflags, 32: told.cs, 40: regs.rip);
        match told.error {
            Some(error) => store!(top, 48: u64::from(error), 56: regs.r11, 64: regs.rcx),
            None => store!(top, 48: regs.r11, 56: regs.rcx),
        }
        close();
        Ok(())
    }

    #[inline(always)] // so that registers go from frame to frame
    pub(super) fn iret_frame(at: u64) -> Option<IretContext> {
        let (rax, r11, rcx, flags, rip, cs, rflags, rsp, ss): (
            u64,
            u64,
            u64,
            u64,
            u64,
            u64,
            u64,
            u64,
            u64,
        );
        let end: u64;
        // SAFETY: as for `store`. A fault makes the address one that the caller's check refuses.
        unsafe {
            asm!(
                crate::open_guest_memory!(),
                "20: mov {rax}, [{at}]",
                "21: mov {r11}, [{at} + 8]",
                "22: mov {rcx}, [{at} + 16]",
                "23: mov {flags}, [{at} + 24]",
                "24: mov {rip}, [{at} + 32]",
                "25: mov {cs}, [{at} + 40]",
                "26: mov {rflags}, [{at} + 48]",
                "27: mov {rsp}, [{at} + 56]",
                "28: mov {ss}, [{at} + 64]",
                "29:",
                crate::close_guest_memory!(),
                ".pushsection .text.guest_copy_fixup, \"ax\"",
                "30: mov {at}, {nowhere}",
                "jmp 29b",
                ".popsection",
                crate::extable!("20b", "30b"),
                crate::extable!("21b", "30b"),
                crate::extable!("22b", "30b"),
                crate::extable!("23b", "30b"),
                crate::extable!("24b", "30b"),
                crate::extable!("25b", "30b"),
                crate::extable!("26b", "30b"),
                crate::extable!("27b", "30b"),
                crate::extable!("28b", "30b"),
                at = inout(reg) at => end,
                nowhere = const NOWHERE,
                rax = out(reg) rax, r11 = out(reg) r11, rcx = out(reg) rcx,
                flags = out(reg) flags, rip = out(reg) rip, cs = out(reg) cs,
                rflags = out(reg) rflags, rsp = out(reg) rsp, ss = out(reg) ss,
                options(nostack, preserves_flags, readonly),
            );
        }
        (end != NOWHERE as u64).then_some(IretContext {
            rax,
            r11,
            rcx,
            flags,
            rip,
            cs,
            rflags,
            rsp,
            ss,
        })
    }
}

#[cfg(not(target_os = "none"))]
mod raw {
    use super::{Fault, IretContext, Told, TrapFrame};
    use crate::kit::Vaddr;
    use crate::mm::guest;

    pub(super) fn push(top: u64, regs: &TrapFrame, told: Told) -> Result<(), Fault> {
        let interrupted = [regs.rip, told.cs, told.rflags, regs.rsp, regs.ss & 0xffff];
        let words = [regs.rcx, regs.r11]
            .into_iter()
            .chain(told.error.map(u64::from))
            .chain(interrupted);
        let words: alloc::vec::Vec<u64> = words.collect();
        let at = top.wrapping_sub(words.len() as u64 * 8);
        guest::write_words(Vaddr(at), &words)
    }

    pub(super) fn iret_frame(at: u64) -> Option<IretContext> {
        guest::read(Vaddr(at)).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mm::guest::{map_fake, read, write};
    use crate::mm::layout;

    const PAGE: Vaddr = Vaddr(0x5100_0000);
    const TOLD: Told = Told {
        cs: 4,
        rflags: 5,
        error: None,
    };

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
        assert_eq!(push(top, &regs, TOLD), Ok(top - 56));
        assert_eq!(read::<[u64; 7]>(Vaddr(top - 56)), Ok([1, 2, 3, 4, 5, 6, 7]));
        let error = Some(0xffff_ffff);
        assert_eq!(push(top, &regs, Told { error, ..TOLD }), Ok(top - 64));
        let words = read::<[u64; 8]>(Vaddr(top - 64));
        assert_eq!(words, Ok([1, 2, 0xffff_ffff, 3, 4, 5, 6, 7]));
    }

    #[test]
    fn the_frame_of_iret() {
        map_fake(PAGE, 1);
        let words: [u64; 9] = core::array::from_fn(|n| n as u64);
        write(PAGE, &words).unwrap();
        let frame = iret_frame(PAGE).unwrap();
        assert_eq!((frame.rax, frame.rcx, frame.ss), (0, 2, 8));
    }

    #[test]
    fn stacks_that_are_not_the_guests() {
        let (start, regs) = (layout::HYPERVISOR_START, interrupted());
        assert_eq!(push(start + 0x1000, &regs, TOLD), Err(Fault));
        assert_eq!(push(layout::HYPERVISOR_END + 48, &regs, TOLD), Err(Fault));
        assert_eq!(push(0x8000_0000_1000, &regs, TOLD), Err(Fault));
        assert!(iret_frame(Vaddr(start)).is_err());
        assert!(iret_frame(Vaddr(layout::HYPERVISOR_END - 8)).is_err());
    }
}
