//! A few words of a guest's, by one instruction each and through registers: most structures that a call
//! reads or writes are so small. A word that can't be reached lands by the exception table.
#![cfg_attr(
    target_os = "none",
    expect(
        unsafe_code,
        reason = "loads and stores that may fault, with landings in .extable"
    )
)]

use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::Fault;
use crate::kit::Vaddr;

/// Structures of so many words at most are read and written here.
pub(super) const MOST: usize = 5;

/// Reads a structure of 1 to [`MOST`] words.
#[inline(always)] // so that its words stay in registers
pub(super) fn load<T: FromBytes>(at: Vaddr) -> Result<T, Fault> {
    let value = match size_of::<T>() / 8 {
        1 => value_of(&raw::load_1(at.0)?),
        2 => value_of(&raw::load_2(at.0)?),
        3 => value_of(&raw::load_3(at.0)?),
        4 => value_of(&raw::load_4(at.0)?),
        MOST => value_of(&raw::load_5(at.0)?),
        _ => None,
    };
    value.ok_or(Fault)
}

#[inline(always)] // the size is known where it is called
fn value_of<T: FromBytes, const WORDS: usize>(words: &[u64; WORDS]) -> Option<T> {
    T::read_from_bytes(words.as_bytes()).ok()
}

/// Writes a structure of 1 to [`MOST`] words to guest memory.
#[inline(always)] // so that its words come from registers
pub(super) fn store_value<T: IntoBytes + Immutable>(at: Vaddr, value: &T) -> Result<(), Fault> {
    let mut words = [0; MOST];
    let (used, _) = words.split_at_mut(size_of::<T>() / 8);
    used.as_mut_bytes().copy_from_slice(value.as_bytes());
    store(at, used)
}

/// Writes 1 to [`MOST`] words to guest memory. On a fault, what was written before it stays.
#[inline(always)] // so that the words come from registers
pub(super) fn store(at: Vaddr, words: &[u64]) -> Result<(), Fault> {
    match *words {
        [a] => raw::store_1(at.0, a),
        [a, b] => raw::store_2(at.0, a, b),
        [a, b, c] => raw::store_3(at.0, a, b, c),
        [a, b, c, d] => raw::store_4(at.0, a, b, c, d),
        [a, b, c, d, e] => raw::store_5(at.0, a, b, c, d, e),
        _ => Err(Fault),
    }
}

/// Writes a 16-bit word to guest memory.
#[inline(always)] // so that it comes from a register
pub(super) fn store_u16(at: Vaddr, value: u16) -> Result<(), Fault> {
    raw::store_u16(at.0, value)
}

#[cfg(target_os = "none")]
mod raw {
    use core::arch::asm;

    use super::Fault;
    use crate::kit::Vaddr;
    use crate::mm::layout::guest_or_nowhere;

    /// What the address becomes at a fault: nowhere can a whole word be read.
    const NOWHERE: i64 = -1;

    /// What a store that faulted has left to do.
    #[inline(always)] // one instruction
    fn close() {
        // SAFETY: closes guest memory to ring 0.
        unsafe {
            asm!(
                crate::close_guest_memory!(),
                options(nostack, preserves_flags)
            )
        };
    }

    /// Functions that run one instruction for each word, and then tell whether none has faulted.
    macro_rules! by_words {
        ($($load:ident, $store:ident: $($word:ident $place:literal $here:literal $back:literal),+;)+) => {$(
            #[inline(always)] // so that the words stay in registers
            pub(super) fn $load(at: u64) -> Result<[u64; [$($place),+].len()], Fault> {
                let at = guest_or_nowhere(Vaddr(at)).0;
                let end: u64;
                $(let $word: u64;)+
                // SAFETY: the words begin in guest memory or nowhere, and no run of a few words from there
                // reaches the hypervisor's; a fault lands where the address tells of it.
                unsafe {
                    asm!(
                        crate::open_guest_memory!(),
                        $(concat!($here, ": mov {", stringify!($word), "}, [{at} + ", $place, "]"),)+
                        "39:",
                        crate::close_guest_memory!(),
                        ".pushsection .text.guest_copy_fixup, \"ax\"",
                        "40: mov {at}, {nowhere}",
                        "jmp 39b",
                        ".popsection",
                        $(crate::extable!($back, "40b"),)+
                        at = inout(reg) at => end,
                        nowhere = const NOWHERE,
                        $($word = out(reg) $word,)+
                        options(nostack, preserves_flags, readonly),
                    );
                }
                if end == NOWHERE as u64 { Err(Fault) } else { Ok([$($word),+]) }
            }

            #[inline(always)] // so that the words come from registers
            pub(super) fn $store(at: u64, $($word: u64),+) -> Result<(), Fault> {
                let at = guest_or_nowhere(Vaddr(at)).0;
                // SAFETY: as for loads: no word of the hypervisor's is written.
                unsafe {
                    asm!(
                        crate::open_guest_memory!(),
                        $(concat!($here, ": mov [{at} + ", $place, "], {", stringify!($word), "}"),)+
                        crate::close_guest_memory!(),
                        $(crate::extable!($back, "{fault}"),)+
                        at = in(reg) at,
                        $($word = in(reg) $word,)+
                        fault = label {
                            close();
                            return Err(Fault);
                        },
                        options(nostack, preserves_flags),
                    );
                }
                Ok(())
            }
        )+};
    }

    #[inline(always)] // one instruction, and those that open and close
    pub(super) fn store_u16(at: u64, value: u16) -> Result<(), Fault> {
        let at = guest_or_nowhere(Vaddr(at)).0;
        // SAFETY: as for words.
        unsafe {
            asm!(
                crate::open_guest_memory!(),
                "2: mov word ptr [{at}], {value:x}",
                crate::close_guest_memory!(),
                crate::extable!("2b", "{fault}"),
                at = in(reg) at,
                value = in(reg) value,
                fault = label {
                    close();
                    return Err(Fault);
                },
                options(nostack, preserves_flags),
            );
        }
        Ok(())
    }

    by_words! {
        load_1, store_1: a 0 "20" "20b";
        load_2, store_2: a 0 "20" "20b", b 8 "21" "21b";
        load_3, store_3: a 0 "20" "20b", b 8 "21" "21b", c 16 "22" "22b";
        load_4, store_4: a 0 "20" "20b", b 8 "21" "21b", c 16 "22" "22b", d 24 "23" "23b";
        load_5, store_5: a 0 "20" "20b", b 8 "21" "21b", c 16 "22" "22b", d 24 "23" "23b", e 32 "24" "24b";
    }
}

#[cfg(not(target_os = "none"))]
mod raw {
    use zerocopy::IntoBytes;

    use super::Fault;
    use crate::kit::Vaddr;
    use crate::mm::guest;

    macro_rules! by_words {
        ($($count:literal $load:ident $store:ident $($word:ident)+;)+) => {$(
            pub(super) fn $load(at: u64) -> Result<[u64; $count], Fault> {
                let mut words = [0; $count];
                guest::copy_from_guest(words.as_mut_bytes(), Vaddr(at)).map(|()| words)
            }
            pub(super) fn $store(at: u64, $($word: u64),+) -> Result<(), Fault> {
                guest::copy_to_guest(Vaddr(at), [$($word),+].as_bytes())
            }
        )+};
    }

    pub(super) fn store_u16(at: u64, value: u16) -> Result<(), Fault> {
        guest::copy_to_guest(Vaddr(at), &value.to_le_bytes())
    }

    by_words! {
        1 load_1 store_1 a;
        2 load_2 store_2 a b;
        3 load_3 store_3 a b c;
        4 load_4 store_4 a b c d;
        5 load_5 store_5 a b c d e;
    }
}
