//! Hypercall arguments, decoded once into named values of the width that the ABI gives them.
//!
//! Only this file knows the width of the guest's registers. A narrow guest passes a 64-bit value as two words, the low
//! one first.

use guest_pv_abi::arch_x86::FLAT_KERNEL_CS;

use crate::arch::frame::TrapFrame;
use crate::kit::{Maddr, Vaddr};

/// A call's argument words as a wide guest passed them. No call has more than four.
pub type Words = [u64; 4];
/// The same of a narrow guest. No call has more than six.
pub type NarrowWords = [u32; 6];

/// Where a call's argument words are stored, and where a continued call's progress is written back.
pub trait Passed {
    /// Loads and decodes the argument words.
    fn decode<A: Arguments>(&self, regs: &TrapFrame) -> A;
    /// Writes a continued call's progress back to the words.
    fn encode<A: Arguments>(self, regs: &mut TrapFrame, args: A);
}

/// The guest kernel entered by `syscall`, so the words are in its registers (xen-x86_64.h).
pub struct InRegisters;

impl InRegisters {
    /// Loads all argument words.
    #[inline(always)] // lets the compiler skip words that the call doesn't read
    pub const fn words(regs: &TrapFrame) -> Words {
        [regs.rdi, regs.rsi, regs.rdx, regs.r10]
    }
}

impl Passed for InRegisters {
    #[inline(always)] // see above
    fn decode<A: Arguments>(&self, regs: &TrapFrame) -> A {
        A::decode(Self::words(regs))
    }

    fn encode<A: Arguments>(self, regs: &mut TrapFrame, args: A) {
        args.encode([&mut regs.rdi, &mut regs.rsi, &mut regs.rdx, &mut regs.r10]);
    }
}

/// The words are in memory, because the call is an entry of a multicall.
impl Passed for &mut Words {
    #[inline(always)] // see above
    fn decode<A: Arguments>(&self, _: &TrapFrame) -> A {
        A::decode(**self)
    }

    fn encode<A: Arguments>(self, _: &mut TrapFrame, args: A) {
        args.encode(self.each_mut());
    }
}

/// A narrow guest's kernel entered by `int 0x82`, so the words are in its registers (xen-x86_32.h).
pub struct InNarrowRegisters;

impl InNarrowRegisters {
    /// Loads all argument words.
    #[inline(always)] // see above
    pub fn words(regs: &TrapFrame) -> NarrowWords {
        let words = [regs.rbx, regs.rcx, regs.rdx, regs.rsi, regs.rdi, regs.rbp];
        words.map(|word| word as u32)
    }
}

impl Passed for InNarrowRegisters {
    #[inline(always)] // see above
    fn decode<A: Arguments>(&self, regs: &TrapFrame) -> A {
        A::decode_narrow(Self::words(regs))
    }

    fn encode<A: Arguments>(self, regs: &mut TrapFrame, args: A) {
        let registers = [
            &mut regs.rbx,
            &mut regs.rcx,
            &mut regs.rdx,
            &mut regs.rsi,
            &mut regs.rdi,
            &mut regs.rbp,
        ];
        let words = args.encode_narrow();
        for (register, word) in registers.into_iter().zip(words) {
            *register = word.into();
        }
    }
}

/// The words are in an entry of a narrow guest's multicall.
impl Passed for &mut NarrowWords {
    #[inline(always)] // see above
    fn decode<A: Arguments>(&self, _: &TrapFrame) -> A {
        A::decode_narrow(**self)
    }

    fn encode<A: Arguments>(self, _: &mut TrapFrame, args: A) {
        for (place, word) in self.iter_mut().zip(args.encode_narrow()) {
            *place = word;
        }
    }
}

/// A value that a wide guest passes in one word, and a narrow one in one word or in two.
trait Word: Sized {
    /// Whether a narrow guest passes it in two words.
    const TWO: bool = false;
    fn of(word: u64) -> Self;
    fn word(self) -> u64;
    /// Takes it from a narrow guest's words; one that is missing counts as 0.
    #[inline(always)] // no loop is left
    fn of_narrow(words: &mut impl Iterator<Item = u32>) -> Self {
        let mut next = || u64::from(words.next().unwrap_or(0));
        let low = next();
        Self::of(if Self::TWO { low | next() << 32 } else { low })
    }
    fn narrow(self) -> impl Iterator<Item = u32> {
        let word = self.word();
        let parts = [word as u32, (word >> 32) as u32];
        parts.into_iter().take(if Self::TWO { 2 } else { 1 })
    }
}

/// Narrower values ignore the upper part of the register, as Xen does.
macro_rules! words {
    ($($type:ty $(, $two:ident)?: |$word:ident| $of:expr, |$value:ident| $back:expr;)*) => {$(
        impl Word for $type {
            $(const $two: bool = true;)?
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
    u64, TWO: |word| word, |value| value;
    usize: |word| word as Self, |value| value as u64;
    u32: |word| word as Self, |value| value.into();
    u16: |word| word as Self, |value| value.into();
    Vaddr: |word| Self(word), |value| value.0;
    Maddr, TWO: |word| Self(word), |value| value.0;
}

/// The decoded arguments of a call.
pub trait Arguments: Sized {
    /// Converts the words to named values.
    fn decode(words: Words) -> Self;
    /// The same for a narrow guest's words.
    fn decode_narrow(words: NarrowWords) -> Self;
    /// The words of a continued call's progress, as many as the call uses.
    fn encode_narrow(self) -> impl Iterator<Item = u32>;
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

            #[inline(always)] // see above
            fn decode_narrow(words: NarrowWords) -> Self {
                let words = &mut words.into_iter();
                let _ = &words;
                Self { $($field: Word::of_narrow(words)),* }
            }

            fn encode_narrow(self) -> impl Iterator<Item = u32> {
                core::iter::empty()$(.chain(self.$field.narrow()))*
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
    FpuTaskswitch { set: usize }
    GetDebugreg { register: u32 }
    /// A command, its array and the number of elements.
    GrantTableOp { cmd: u32, array: Vaddr, count: u32 }
    /// The sub-call is in the command's low bits. In a continuation, the bits above hold the number of extents done.
    MemoryOp { command: usize, at: Vaddr }
    Multicall { calls: Vaddr, count: u32 }
    SetDebugreg { register: u32, value: usize }
    SetGdt { frames: Vaddr, entries: u32 }
    SetSegmentBase { which: u32, base: Vaddr }
    SetTimerOp { deadline_ns: u64 }
    SetTrapTable { traps: Vaddr }
    StackSwitch { ss: u16, sp: usize }
    UpdateDescriptor { address: Maddr, descriptor: u64 }
    UpdateVaMapping { va: Vaddr, entry: u64, flags: usize }
    UpdateVaMappingOther { va: Vaddr, entry: u64, flags: usize, domid: u16 }
    VcpuOp { cmd: u32, vcpu: u32, arg: Vaddr }
    VmAssist { cmd: u32, assist: u32 }
    /// `op` is an address if the caller means `mca`.
    XenlikeOp { op: usize, arg: Vaddr }
}

/// The entry points of set_callbacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SetCallbacks {
    /// The code selectors of the two entry points that a narrow guest has, for events and for failed returns.
    pub selectors: [u16; 2],
    /// Where events enter the guest.
    pub event: Vaddr,
    /// Where failed returns enter it.
    pub failsafe: Vaddr,
    /// Where system calls enter a wide guest.
    pub syscall: Vaddr,
}

impl Arguments for SetCallbacks {
    #[inline(always)] // see above
    fn decode([event, failsafe, syscall, _]: Words) -> Self {
        Self {
            selectors: [FLAT_KERNEL_CS; 2],
            event: Vaddr(event),
            failsafe: Vaddr(failsafe),
            syscall: Vaddr(syscall),
        }
    }

    #[inline(always)] // see above
    fn decode_narrow([event_cs, event, failsafe_cs, failsafe, ..]: NarrowWords) -> Self {
        Self {
            selectors: [event_cs as u16, failsafe_cs as u16],
            event: Vaddr(event.into()),
            failsafe: Vaddr(failsafe.into()),
            syscall: Vaddr(0),
        }
    }

    // The call never continues.
    fn encode_narrow(self) -> impl Iterator<Item = u32> {
        core::iter::empty()
    }
    fn encode(self, _: [&mut u64; 4]) {}
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
        let mut args = InRegisters.decode::<MemoryOp>(&regs);
        (args.command, args.at) = (args.command + 1, Vaddr(2));
        InRegisters.encode(&mut regs, args);
        assert_eq!((regs.rdi, regs.rsi), (4, 2));
        assert_eq!((regs.rdx, regs.r10, regs.r8), (7, 8, 9));
    }

    #[test]
    fn a_narrow_guest_passes_64_bit_values_in_two_words() {
        let words: NarrowWords = [0xc000_0000, 0x1234_5067, 1, 2, 0xffff_7ff0, 5];
        let args = UpdateVaMappingOther::decode_narrow(words);
        assert_eq!((args.va, args.entry), (Vaddr(0xc000_0000), 0x1_1234_5067));
        assert_eq!((args.flags, args.domid), (2, 0x7ff0));
        let back: arrayvec::ArrayVec<u32, 6> = args.encode_narrow().collect();
        assert_eq!(back[..], [0xc000_0000, 0x1234_5067, 1, 2, 0x7ff0]);
        let callbacks = SetCallbacks::decode_narrow([0xe019, 1, 0xe01b, 2, 3, 4]);
        assert_eq!(callbacks.selectors, [0xe019, 0xe01b]);
        assert_eq!((callbacks.event, callbacks.failsafe), (Vaddr(1), Vaddr(2)));
    }

    #[test]
    fn a_narrow_continuation_leaves_the_guests_own_registers_alone() {
        let mut regs = TrapFrame {
            rbx: 0xffff_ffff_0000_0003,
            rdx: 7,
            rsi: 8,
            ..TrapFrame::default()
        };
        let mut args = InNarrowRegisters.decode::<MemoryOp>(&regs);
        (args.command, args.at) = (args.command + 1, Vaddr(2));
        InNarrowRegisters.encode(&mut regs, args);
        assert_eq!((regs.rbx, regs.rcx, regs.rdx, regs.rsi), (4, 2, 7, 8));
    }
}
