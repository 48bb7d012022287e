//! Hypercall arguments, decoded once into named values of the width that the ABI gives them.
//!
//! Only this file knows the width of the guest's registers. A 32-bit guest will need a second `decode`, for the few
//! calls whose 64-bit values it passes as two words.

use crate::arch::frame::TrapFrame;
use crate::kit::{Maddr, Vaddr};

/// A call's argument words as the guest passed them. No call has more than four.
pub type Words = [u64; 4];

/// Where a call's argument words are stored, and where a continued call's progress is written back.
pub trait Passed {
    /// Loads all argument words.
    fn load(&self, regs: &TrapFrame) -> Words;
    /// The storage of the argument words, for a continuation to update.
    fn places<'a>(&'a mut self, regs: &'a mut TrapFrame) -> [&'a mut u64; 4];
}

/// The guest kernel entered by `syscall`, so the words are in its registers (xen-x86_64.h).
pub struct InRegisters;

impl Passed for InRegisters {
    #[inline(always)] // lets the compiler skip words that the call doesn't read
    fn load(&self, regs: &TrapFrame) -> Words {
        [regs.rdi, regs.rsi, regs.rdx, regs.r10]
    }

    fn places<'a>(&'a mut self, regs: &'a mut TrapFrame) -> [&'a mut u64; 4] {
        [&mut regs.rdi, &mut regs.rsi, &mut regs.rdx, &mut regs.r10]
    }
}

/// The words are in memory, because the call is an entry of a multicall.
impl Passed for &mut Words {
    #[inline(always)] // see above
    fn load(&self, _: &TrapFrame) -> Words {
        **self
    }

    fn places<'a>(&'a mut self, _: &'a mut TrapFrame) -> [&'a mut u64; 4] {
        self.each_mut()
    }
}

/// A value that is passed in one word.
trait Word {
    fn of(word: u64) -> Self;
    fn word(self) -> u64;
}

/// Narrower values ignore the upper part of the register, as Xen does.
macro_rules! words {
    ($($type:ty: |$word:ident| $of:expr, |$value:ident| $back:expr;)*) => {$(
        impl Word for $type {
            #[inline(always)] // a single move
            fn of($word: u64) -> Self {
                $of
            }
            fn word(self) -> u64 {
                let $value = self;
                $back
            }
        }
    )*};
}

words! {
    u64: |word| word, |value| value;
    u32: |word| word as Self, |value| value.into();
    u16: |word| word as Self, |value| value.into();
    Vaddr: |word| Self(word), |value| value.0;
    Maddr: |word| Self(word), |value| value.0;
}

/// The decoded arguments of a call.
pub(super) trait Arguments: Sized {
    /// Converts the words to named values.
    fn decode(words: Words) -> Self;
    /// Writes a continued call's progress back to the words that the call uses. All other registers belong to the
    /// guest, whose compiler relies on the hypercall to preserve them.
    fn encode(self, places: [&mut u64; 4]);
}

macro_rules! arguments {
    ($($(#[$doc:meta])* $name:ident { $($field:ident: $type:ty),* })*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct $name { $(pub $field: $type),* }

        impl Arguments for $name {
            #[inline(always)] // see above
            fn decode(words: Words) -> Self {
                let [$($field,)* ..] = words;
                Self { $($field: Word::of($field)),* }
            }

            fn encode(self, places: [&mut u64; 4]) {
                let [$($field,)* ..] = places;
                $(*$field = self.$field.word();)*
            }
        }
    )*};
}

arguments! {
    /// No arguments.
    Nothing {}
    /// A command and its operand, mostly the address of a structure.
    Command { cmd: u32, arg: Vaddr }
    /// The address of a structure that also holds the command.
    Structure { at: Vaddr }
    /// A list of requests, where to write the number of completed ones, and the domains whose tables and frames are
    /// meant.
    Requests { requests: Vaddr, count: u32, done_at: Vaddr, foreign: u32 }

    ConsoleIo { cmd: u32, count: u32, buffer: Vaddr }
    DmOp { domid: u16, count: u32, buffers: Vaddr }
    FpuTaskswitch { set: u64 }
    GetDebugreg { register: u64 }
    /// A command, its array and the number of elements.
    GrantTableOp { cmd: u32, array: Vaddr, count: u32 }
    /// The sub-call is in the command's low bits. In a continuation, the bits above hold the number of extents done.
    MemoryOp { command: u64, at: Vaddr }
    Multicall { calls: Vaddr, count: u32 }
    SetCallbacks { event: Vaddr, failsafe: Vaddr, syscall: Vaddr }
    SetDebugreg { register: u64, value: u64 }
    SetGdt { frames: Vaddr, entries: u32 }
    SetSegmentBase { which: u32, base: Vaddr }
    SetTimerOp { deadline_ns: u64 }
    SetTrapTable { traps: Vaddr }
    StackSwitch { ss: u16, sp: u64 }
    UpdateDescriptor { address: Maddr, descriptor: u64 }
    UpdateVaMapping { va: Vaddr, entry: u64, flags: u64 }
    UpdateVaMappingOther { va: Vaddr, entry: u64, flags: u64, domid: u16 }
    VcpuOp { cmd: u32, vcpu: u32, arg: Vaddr }
    VmAssist { cmd: u32, assist: u32 }
    /// `op` is an address if the caller means `mca`.
    XenlikeOp { op: u64, arg: Vaddr }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_continuation_leaves_the_guests_own_registers_alone() {
        let mut regs = TrapFrame {
            rdi: 3,
            rdx: 7,
            r10: 8,
            r8: 9,
            ..TrapFrame::default()
        };
        let mut args = MemoryOp::decode(InRegisters.load(&regs));
        (args.command, args.at) = (args.command + 1, Vaddr(2));
        args.encode(InRegisters.places(&mut regs));
        assert_eq!((regs.rdi, regs.rsi), (4, 2));
        assert_eq!((regs.rdx, regs.r10, regs.r8), (7, 8, 9));
    }
}
