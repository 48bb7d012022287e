//! Bounce frames: how an exception, a system call or an event enters the guest kernel.
//!
//! The frame is what the PV ABI says (xen-x86_64.h): from the stack pointer up rcx, r11, [error code,]
//! rip, cs with the saved upcall mask in bits 32–39, rflags, rsp, ss.

use arrayvec::ArrayVec;
use guest_pv_abi::arch_x86::{FLAT_KERNEL_CS, FLAT_KERNEL_SS};
use guest_pv_abi::xen::VMASST_TYPE_ARCHITECTURAL_IOPL;

use super::vcpu::Callback;
use super::{Domain, Vcpu, VcpuState, mode};
use crate::arch::frame::TrapFrame;
use crate::arch::rflags;
use crate::kit::Vaddr;
use crate::mm::guest_copy::{self, Fault};

/// TI flag in `struct trap_info`: entering masks event delivery.
const TI_MASKS_EVENTS: u8 = 4;

/// Where and how to enter the guest kernel.
#[derive(Clone, Copy, Debug)]
pub struct Bounce {
    /// Handler.
    pub entry: u64,
    /// Error code, for exceptions that have one.
    pub error: Option<u32>,
    /// Event delivery is masked on entry.
    pub masks_events: bool,
    /// ds, es, fs, gs, which the failsafe callback finds in its frame.
    pub selectors: Option<[u16; 4]>,
}

impl From<Callback> for Bounce {
    fn from(callback: Callback) -> Self {
        Self {
            masks_events: callback.masks_events != 0,
            ..Self::to(callback.entry)
        }
    }
}

/// Exceptions that push an error code (APM vol. 2 §8.2): #DF #TS #NP #SS #GP #PF #AC.
const fn has_error_code(vector: u8) -> bool {
    matches!(vector, 8 | 10..=14 | 17 | 21)
}

impl Bounce {
    /// To `entry`, with nothing special.
    pub const fn to(entry: u64) -> Self {
        Self {
            entry,
            error: None,
            masks_events: false,
            selectors: None,
        }
    }

    /// Exception `vector` by the guest's trap table.
    pub fn exception(st: &VcpuState, vector: u8, error: u32) -> Self {
        let trap = st.traps.get(usize::from(vector));
        Self {
            entry: trap.map_or(0, |t| t.address),
            error: has_error_code(vector).then_some(error),
            masks_events: trap.is_some_and(|t| t.flags & TI_MASKS_EVENTS != 0),
            selectors: None,
        }
    }
}

/// Makes the vCPU that runs on this CPU enter its kernel as `bounce` says.
///
/// # Errors
/// A sentence for the log; the domain can't go on then, as on Xen.
pub fn deliver(
    dom: &Domain,
    vcpu: &Vcpu,
    st: &mut VcpuState,
    regs: &mut TrapFrame,
    bounce: Bounce,
) -> Result<(), &'static str> {
    if bounce.entry == 0 {
        return Err("an exception or event has no handler registered in the guest");
    }
    let (sp, cs) = if st.in_kernel {
        // Ring 0 in the saved selector tells the guest that it was its kernel.
        (regs.rsp, regs.cs & 0xfffc)
    } else {
        mode::enter_kernel(st).map_err(|_| "no kernel page table for a trap from user mode")?;
        (st.kernel_sp, regs.cs & 0xffff)
    };
    let mask = vcpu.info.upcall_mask();
    let masked = mask.load(core::sync::atomic::Ordering::Relaxed);
    let mut flags = regs.rflags & !(rflags::IF | rflags::IOPL);
    if masked == 0 {
        flags |= rflags::IF;
    }
    if dom.assists(VMASST_TYPE_ARCHITECTURAL_IOPL) {
        flags |= u64::from(st.iopl) << 12;
    }
    let saved = [
        regs.rip,
        cs | u64::from(masked) << 32,
        flags,
        regs.rsp,
        regs.ss & 0xffff,
    ];
    let sp = push_frame(sp & !15, [regs.rcx, regs.r11], &bounce, saved)
        .map_err(|_| "the guest kernel's stack can't be written for a trap")?;
    if bounce.masks_events {
        mask.store(1, core::sync::atomic::Ordering::Relaxed);
    }
    regs.vector |= TrapFrame::SYSCALL;
    regs.rsp = sp;
    regs.ss = u64::from(FLAT_KERNEL_SS);
    regs.cs = u64::from(FLAT_KERNEL_CS);
    regs.rip = bounce.entry;
    regs.rflags &= !(rflags::TF | rflags::NT | rflags::RF | rflags::VM | rflags::AC);
    Ok(())
}

/// Writes the frame below `top` and gives its address.
#[inline]
fn push_frame(
    top: u64,
    clobbered: [u64; 2],
    bounce: &Bounce,
    [rip, cs, flags, rsp, ss]: [u64; 5],
) -> Result<u64, Fault> {
    let [rcx, r11] = clobbered;
    if bounce.selectors.is_some() {
        return push_failsafe_frame(top, clobbered, bounce, [rip, cs, flags, rsp, ss]);
    }
    match bounce.error {
        Some(error) => push(top, &[rcx, r11, error.into(), rip, cs, flags, rsp, ss]),
        None => push(top, &[rcx, r11, rip, cs, flags, rsp, ss]),
    }
}

/// The failsafe callback's frame has the selectors that could not be loaded, too.
#[cold]
fn push_failsafe_frame(
    top: u64,
    clobbered: [u64; 2],
    bounce: &Bounce,
    saved: [u64; 5],
) -> Result<u64, Fault> {
    let mut frame = ArrayVec::<u64, 12>::new();
    frame.extend(clobbered);
    frame.extend(bounce.selectors.into_iter().flatten().map(u64::from));
    frame.extend(bounce.error.map(u64::from));
    frame.extend(saved);
    push(top, &frame)
}

#[inline]
fn push(top: u64, words: &[u64]) -> Result<u64, Fault> {
    let at = top.wrapping_sub(size_of_val(words) as u64);
    guest_copy::write_words(Vaddr(at), words)?;
    Ok(at)
}

/// A code selector that a guest names gets ring 3: it can't name the core's.
pub const fn fix_code_selector(selector: u16) -> u16 {
    selector | 3
}

/// A stack selector likewise.
pub const fn fix_stack_selector(selector: u16) -> u16 {
    selector | 3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_codes_by_vector() {
        let with: std::vec::Vec<u8> = (0..32).filter(|&v| has_error_code(v)).collect();
        assert_eq!(with, [8, 10, 11, 12, 13, 14, 17, 21]);
    }
}
