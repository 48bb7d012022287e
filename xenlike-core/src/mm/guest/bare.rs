//! The instructions that access guest memory.
//!
//! A structure of a few words goes through registers, one instruction per word. Most structures of a call are that
//! small, and a string instruction takes longer to start than these take to run. Everything else uses `rep movs`.
#![expect(
    unsafe_code,
    reason = "loads, stores and copies that may fault, with landings in .extable"
)]

use core::arch::asm;

use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::Fault;
use super::frames::Told;
use crate::arch::frame::TrapFrame;
use crate::kit::Vaddr;
use crate::mm::layout::guest_or_nowhere;

/// The value of a load's address register after a fault. No word starts at this address.
const FAULTED: i64 = -1;

/// Maximum number of words of a structure that is stored through registers.
const MAX_STORED: usize = 6;

/// Lets ring 0 access guest memory, which SMAP otherwise forbids.
#[inline(always)] // one instruction
fn open() {
    // SAFETY: it only widens what this CPU may access.
    unsafe {
        asm!(
            crate::open_guest_memory!(),
            options(nostack, preserves_flags)
        )
    };
}

/// Forbids ring 0 access to guest memory again.
#[inline(always)] // one instruction
fn close() {
    // SAFETY: it only restores the state before `open`.
    unsafe {
        asm!(
            crate::close_guest_memory!(),
            options(nostack, preserves_flags)
        )
    };
}

/// Whether [`store`] accepts a `T`.
pub(super) const fn is_stored<T>() -> bool {
    let bytes = size_of::<T>();
    matches!(bytes, 2 | 4) || bytes != 0 && bytes.is_multiple_of(8) && bytes <= MAX_STORED * 8
}

/// Whether [`load`] takes a `T`: every size that [`store`] takes, and the frame of iret.
pub(super) const fn is_loaded<T>() -> bool {
    is_stored::<T>() || size_of::<T>() == 72
}

/// Reads a structure, of a size for which [`is_loaded`] holds.
#[inline(always)] // keeps its words in registers
pub(super) fn load<T: FromBytes>(at: Vaddr) -> Result<T, Fault> {
    let at = guest_or_nowhere(at).0;
    let value = match size_of::<T>() {
        2 => value_of(&load_u16(at)?),
        4 => value_of(&load_u32(at)?),
        8 => value_of(&load_1(at)?),
        16 => value_of(&load_2(at)?),
        24 => value_of(&load_3(at)?),
        32 => value_of(&load_4(at)?),
        40 => value_of(&load_5(at)?),
        48 => value_of(&load_6(at)?),
        72 => value_of(&load_9(at)?),
        _ => None,
    };
    value.ok_or(Fault)
}

#[inline(always)] // the size is constant in the caller
fn value_of<T: FromBytes>(words: &(impl IntoBytes + Immutable)) -> Option<T> {
    T::read_from_bytes(words.as_bytes()).ok()
}

/// Defines functions that run one load per word and report afterwards whether any faulted.
macro_rules! loads {
    ($($load:ident: $type:ty, $size:literal, $($word:ident $offset:literal $here:literal $back:literal),+;)+) => {$(
        #[inline(always)] // keeps the words in registers
        fn $load(at: u64) -> Result<[$type; [$($offset),+].len()], Fault> {
            let end: u64;
            $(let $word: $type;)+
            // SAFETY: the words start in guest memory or at NOWHERE, and a run of a few words from there can't reach
            // the hypervisor's slots. On a fault, the landing code sets the address register to FAULTED.
            unsafe {
                asm!(
                    crate::open_guest_memory!(),
                    $(concat!($here, ": mov {", stringify!($word), $size, "}, [{at} + ", $offset, "]"),)+
                    "39:",
                    crate::close_guest_memory!(),
                    ".pushsection .text.guest_copy_fixup, \"ax\"",
                    "40: mov {at}, {faulted}",
                    "jmp 39b",
                    ".popsection",
                    $(crate::extable!($back, "40b"),)+
                    at = inout(reg) at => end,
                    faulted = const FAULTED,
                    $($word = out(reg) $word,)+
                    options(nostack, preserves_flags, readonly),
                );
            }
            if end == FAULTED as u64 { Err(Fault) } else { Ok([$($word),+]) }
        }
    )+};
}

loads! {
    load_u16: u16, ":x", a 0 "20" "20b";
    load_1: u64, "", a 0 "20" "20b";
    load_2: u64, "", a 0 "20" "20b", b 8 "21" "21b";
    load_3: u64, "", a 0 "20" "20b", b 8 "21" "21b", c 16 "22" "22b";
    load_4: u64, "", a 0 "20" "20b", b 8 "21" "21b", c 16 "22" "22b", d 24 "23" "23b";
    load_5: u64, "", a 0 "20" "20b", b 8 "21" "21b", c 16 "22" "22b", d 24 "23" "23b", e 32 "24" "24b";
    load_6: u64, "", a 0 "20" "20b", b 8 "21" "21b", c 16 "22" "22b", d 24 "23" "23b", e 32 "24" "24b",
        f 40 "25" "25b";
    load_9: u64, "", a 0 "20" "20b", b 8 "21" "21b", c 16 "22" "22b", d 24 "23" "23b", e 32 "24" "24b",
        f 40 "25" "25b", g 48 "26" "26b", h 56 "27" "27b", i 64 "28" "28b";
}

/// Loads 32 bits. A fault is reported in the value's upper half, so no second register is needed.
#[inline(always)] // keeps it in a register
fn load_u32(at: u64) -> Result<u32, Fault> {
    let value: u64;
    // SAFETY: as for `loads`.
    unsafe {
        asm!(
            crate::open_guest_memory!(),
            "20: mov {value:e}, [{at}]",
            "39:",
            crate::close_guest_memory!(),
            ".pushsection .text.guest_copy_fixup, \"ax\"",
            "40: mov {value}, {faulted}",
            "jmp 39b",
            ".popsection",
            crate::extable!("20b", "40b"),
            at = in(reg) at,
            faulted = const FAULTED,
            value = lateout(reg) value,
            options(nostack, preserves_flags, readonly),
        );
    }
    if value == FAULTED as u64 {
        Err(Fault)
    } else {
        Ok(value as u32)
    }
}

/// Stores words at offsets from an address while guest memory is accessible. On a fault, returns from the calling
/// function.
macro_rules! store {
    ($at:expr, $($offset:literal: $word:expr),*) => {
        store!($at, "qword", "", $($offset: $word),*)
    };
    ($at:expr, $width:literal, $size:literal, $($offset:literal: $word:expr),*) => {{
        open();
        $(
            // SAFETY: the callers ensure that the words are in guest memory or at NOWHERE; a fault lands at the
            // label.
            unsafe {
                asm!(
                    concat!("2: mov ", $width, " ptr [{at} + {offset}], {word", $size, "}"),
                    crate::extable!("2b", "{fault}"),
                    at = in(reg) $at,
                    offset = const $offset,
                    word = in(reg) $word,
                    fault = label {
                        close();
                        return Err(Fault);
                    },
                    options(nostack, preserves_flags),
                );
            }
        )*
        close();
        Ok(())
    }};
}

/// Writes a structure of a size that [`is_stored`]. On a fault, the words written before it stay.
#[inline(always)] // takes its words from registers
pub(super) fn store<T: IntoBytes + Immutable>(at: Vaddr, value: &T) -> Result<(), Fault> {
    // A run of a few words from there can't reach the hypervisor's slots.
    let (at, bytes) = (guest_or_nowhere(at).0, value.as_bytes());
    if let Ok(half) = bytes.try_into() {
        return store!(at, "word", ":x", 0: u16::from_le_bytes(half));
    }
    if let Ok(word) = bytes.try_into() {
        return store!(at, "dword", ":e", 0: u32::from_le_bytes(word));
    }
    let mut words = [0_u64; MAX_STORED];
    let (used, _) = words.split_at_mut(size_of::<T>() / 8);
    used.as_mut_bytes().copy_from_slice(bytes);
    match *used {
        [a] => store!(at, 0: a),
        [a, b] => store!(at, 0: a, 8: b),
        [a, b, c] => store!(at, 0: a, 8: b, 16: c),
        [a, b, c, d] => store!(at, 0: a, 8: b, 16: c, 24: d),
        [a, b, c, d, e] => store!(at, 0: a, 8: b, 16: c, 24: d, 32: e),
        [a, b, c, d, e, f] => store!(at, 0: a, 8: b, 16: c, 24: d, 32: e, 40: f),
        _ => Err(Fault),
    }
}

/// Writes the frame of [`Guest::push_frame`](super::Guest::push_frame) that ends at `top`, behind a checked guest
/// address.
#[inline(always)] // copies registers from frame to frame
pub(super) fn push_frame(top: u64, regs: &TrapFrame, told: Told) -> Result<(), Fault> {
    match told.error {
        Some(error) => {
            store!(top, -8: regs.ss & 0xffff, -16: regs.rsp, -24: told.rflags, -32: told.cs,
            -40: regs.rip, -48: u64::from(error), -56: regs.r11, -64: regs.rcx)
        }
        None => store!(top, -8: regs.ss & 0xffff, -16: regs.rsp, -24: told.rflags, -32: told.cs,
            -40: regs.rip, -48: regs.r11, -56: regs.rcx),
    }
}

/// Fills `out` from `at`, a range that the caller has checked. Returns the number of bytes left at a fault.
pub(super) fn copy_from(at: Vaddr, out: &mut [u8]) -> usize {
    // SAFETY: `out` is writable for its length.
    unsafe { copy(guest_or_nowhere(at).0, out.as_mut_ptr() as u64, out.len()) }
}

/// Writes `bytes` to `at`, with the conditions and the result of [`copy_from`].
pub(super) fn copy_to(at: Vaddr, bytes: &[u8]) -> usize {
    // SAFETY: `bytes` is readable for its length, and the destination is not the hypervisor's memory.
    unsafe { copy(bytes.as_ptr() as u64, guest_or_nowhere(at).0, bytes.len()) }
}

/// Copies `bytes` from `from` to `to`. Returns the number of bytes left at a fault.
///
/// # Safety
/// The hypervisor's side is `bytes` long and its own memory; the other side is a guest range.
#[inline(always)] // bounds the guest's address in the function that uses it
unsafe fn copy(from: u64, to: u64, bytes: usize) -> usize {
    let left: usize;
    open();
    // Whole words first: a fault there leaves rcx words to copy. Then the odd bytes.
    // SAFETY: the caller's promise; a fault on the guest's side lands at the label given in the
    // exception table. The direction flag is clear by the ABI.
    unsafe {
        asm!(
            "2: rep movsq",
            "mov ecx, {odd:e}",
            "3: rep movsb",
            "4:",
            ".pushsection .text.guest_copy_fixup, \"ax\"",
            "5: lea rcx, [{odd} + rcx * 8]",
            "jmp 4b",
            ".popsection",
            crate::extable!("2b", "5b"),
            crate::extable!("3b", "4b"),
            odd = in(reg) bytes & 7,
            inout("rcx") bytes >> 3 => left,
            inout("rsi") from => _,
            inout("rdi") to => _,
            options(nostack),
        );
    }
    close();
    left
}
