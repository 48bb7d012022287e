//! Writable page tables (VMASST_TYPE_writable_pagetables): a kernel stores into one of its L1 tables, which is mapped
//! read-only, and the store becomes a checked update of the entry.

use super::decode::{self, Insn, Repeat, Rm, decode};
use super::instruction::{self, fetch};
use super::operand::{
    self, ARITHMETIC, in_segment, linear, mask, read_register, set_address_register, write_register,
};
use super::{Bits, Exception, Guest, Outcome, PageFault, SegmentName};
use crate::arch::rflags::{CF, DF, ZF};
use crate::kit::Vaddr;
use crate::pagetype::Pte;

/// How often a read-modify-write is tried while other CPUs change the entry. After that the guest executes it again.
const TRIES: u32 = 16;

/// Why an entry was not changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryError {
    /// The entry was not the expected one, but this.
    Changed(u64),
    /// The address is not in an L1 table of the guest, so the fault is injected.
    NotATable,
    /// The new entry is not allowed.
    Refused,
    /// The update was interrupted: execute the instruction again.
    Again,
}

/// Access to page-table entries by the addresses at which the guest sees them.
pub trait Entries {
    /// Reads the entry at an address that is a multiple of 8.
    fn read_entry(&mut self, at: Vaddr) -> Result<u64, EntryError>;
    /// Replaces the entry by `new`, if it still is `old`.
    fn exchange_entry(&mut self, at: Vaddr, old: u64, new: u64) -> Result<(), EntryError>;
}

/// The change that an instruction makes to the bytes that it writes.
enum Change {
    /// The bytes are replaced.
    Set(u64),
    /// The new bytes and the flags are a function of the old bytes.
    Update(Operation, u64),
    /// If the bytes equal the first value, they are replaced by the second.
    Exchange(u64, u64),
}

#[derive(Clone, Copy)]
enum Operation {
    Add,
    Or,
    And,
    Sub,
    Xor,
    SetBit,
    ClearBit,
    FlipBit,
}

struct Store {
    at: Vaddr,
    bytes: u8,
    change: Change,
}

/// Emulates the store at the guest's RIP, which faulted at `fault`. The guest's kernel runs 64-bit code.
pub fn page_table_write<G: Guest + Entries>(guest: &mut G, fault: Vaddr) -> Outcome {
    match guest.code_bits() {
        Some(Bits::SixtyFour) => write_in(guest, fault, Bits::SixtyFour),
        Some(bits) => write_in_32(guest, fault, bits),
        None => Outcome::NotOurs,
    }
}

#[inline(never)] // keeps it apart from the path of 64-bit code
fn write_in_32<G: Guest + Entries>(guest: &mut G, fault: Vaddr, code: Bits) -> Outcome {
    write_in(guest, fault, code)
}

#[inline(always)] // one instance for 64-bit code
fn write_in<G: Guest + Entries>(guest: &mut G, fault: Vaddr, code: Bits) -> Outcome {
    let (insn, store) = match faulted(guest, fault, code) {
        Ok(found) => found,
        Err(outcome) => return outcome,
    };
    match apply(guest, &insn, &store, code) {
        Ok(()) => retire(guest, &insn, code),
        Err(EntryError::Again | EntryError::Changed(_)) => Outcome::Again,
        Err(EntryError::NotATable | EntryError::Refused) => Outcome::NotOurs,
    }
}

/// Skips the plain store at the guest's RIP that faulted at `fault`, without writing anything.
pub fn discarded_store(guest: &mut impl Guest, fault: Vaddr) -> Outcome {
    let Some(code) = guest.code_bits() else {
        return Outcome::NotOurs;
    };
    match faulted(guest, fault, code) {
        Ok((insn, store)) if matches!(store.change, Change::Set(_)) && !is_exchange(&insn) => {
            if is_string(&insn) {
                advance_string(guest.frame(), &insn, store.bytes);
            }
            retire(guest, &insn, code)
        }
        // An instruction that also reads memory would have to return what it read. A read of a device may
        // have side effects.
        Ok(_) => Outcome::NotOurs,
        Err(outcome) => outcome,
    }
}

/// Whether the instruction is XCHG, which also reads the old bytes.
const fn is_exchange(insn: &Insn) -> bool {
    matches!(insn.opcode, 0x86 | 0x87)
}

/// Whether the instruction is MOVS or STOS.
const fn is_string(insn: &Insn) -> bool {
    matches!(insn.opcode, 0xa4 | 0xa5 | 0xaa | 0xab)
}

/// Decodes the instruction at the guest's RIP. Returns it with the store that it makes, which must be aligned
/// and in the page of `fault`.
#[inline(always)] // see `write_in`
fn faulted(guest: &mut impl Guest, fault: Vaddr, bits: Bits) -> Result<(Insn, Store), Outcome> {
    let mut code = [0; decode::MAX_BYTES];
    let rip = guest.frame().rip;
    let at = in_segment(guest, SegmentName::Cs, rip, bits).ok_or(Outcome::NotOurs)?;
    let code = fetch(guest, at, &mut code).ok_or(Outcome::NotOurs)?;
    let insn = decode(code, bits).map_err(|_| Outcome::NotOurs)?;
    let store = store(guest, &insn, bits)
        .map_err(|fault| Outcome::Fault(Exception::Page(fault)))?
        .ok_or(Outcome::NotOurs)?;
    let same_page = (store.at.0 ^ fault.0) >> 12 == 0;
    let aligned = store.at.0.is_multiple_of(u64::from(store.bytes));
    if !same_page || !aligned || store.bytes > 8 {
        return Err(Outcome::NotOurs);
    }
    Ok((insn, store))
}

/// The store that the instruction makes; nothing if it isn't one that is emulated.
#[inline(always)] // see `write_in`
fn store(guest: &mut impl Guest, insn: &Insn, code: Bits) -> Result<Option<Store>, PageFault> {
    if is_string(insn) {
        if insn.repeat != Repeat::None && guest.frame().rcx & mask(insn.address_bytes) == 0 {
            return Ok(None);
        }
        return string_store(guest, insn, code);
    }
    let Rm::Memory(memory) = insn.rm else {
        return Ok(None);
    };
    let Some(at) = linear(guest, insn, &memory, code) else {
        return Ok(None);
    };
    let bytes = match insn.opcode {
        0x83 | 0x0fab | 0x0fb3 | 0x0fbb | 0x0fba | 0x0fc3 => insn.word_bytes(),
        0x0fc7 if insn.wide => return Ok(None),
        0x0fc7 => 8,
        _ => insn.operand_bytes(),
    };
    Ok(change(guest, insn, bytes).map(|change| Store { at, bytes, change }))
}

#[inline(always)] // see `write_in`
fn change(guest: &mut impl Guest, insn: &Insn, bytes: u8) -> Option<Change> {
    let frame = guest.frame();
    let source = read_register(frame, insn, insn.reg, bytes);
    let immediate = insn.immediate as u64 & mask(bytes);
    let arithmetic = |number| match number {
        0 => Some(Operation::Add),
        1 => Some(Operation::Or),
        4 => Some(Operation::And),
        5 => Some(Operation::Sub),
        6 => Some(Operation::Xor),
        _ => None,
    };
    Some(match insn.opcode {
        0x00..=0x31 => Change::Update(arithmetic(insn.opcode >> 3)?, source),
        0x80 | 0x81 | 0x83 => Change::Update(arithmetic(u16::from(insn.reg & 7))?, immediate),
        0x86..=0x89 | 0x0fc3 => Change::Set(source),
        0xc6 | 0xc7 if insn.reg & 7 == 0 => Change::Set(immediate),
        0x0fc0 | 0x0fc1 => Change::Update(Operation::Add, source),
        0x0fb0 | 0x0fb1 => Change::Exchange(frame.rax & mask(bytes), source),
        0x0fc7 if insn.reg & 7 == 1 => {
            let pair = |high: u64, low: u64| high << 32 | low & mask(4);
            Change::Exchange(pair(frame.rdx, frame.rax), pair(frame.rcx, frame.rbx))
        }
        // A bit number in a register may select a bit outside the operand, which isn't emulated.
        0x0fab | 0x0fb3 | 0x0fbb if source >= u64::from(bytes) * 8 => return None,
        0x0fab => Change::Update(Operation::SetBit, source),
        0x0fb3 => Change::Update(Operation::ClearBit, source),
        0x0fbb => Change::Update(Operation::FlipBit, source),
        0x0fba => {
            let operation = match insn.reg & 7 {
                5 => Operation::SetBit,
                6 => Operation::ClearBit,
                7 => Operation::FlipBit,
                _ => return None,
            };
            Change::Update(
                operation,
                immediate & u64::from(bytes).wrapping_mul(8).wrapping_sub(1),
            )
        }
        _ => return None,
    })
}

fn string_store(
    guest: &mut impl Guest,
    insn: &Insn,
    code: Bits,
) -> Result<Option<Store>, PageFault> {
    let bytes = insn.operand_bytes();
    let address_mask = mask(insn.address_bytes);
    let (at, from) = (
        guest.frame().rdi & address_mask,
        guest.frame().rsi & address_mask,
    );
    let value = if insn.opcode <= 0xa5 {
        let mut value = [0; 8];
        let name = insn.segment.unwrap_or(SegmentName::Ds);
        let Some(from) = in_segment(guest, name, from, code) else {
            return Ok(None);
        };
        let (value_bytes, _) = value.split_at_mut(usize::from(bytes.min(8)));
        guest.read(from, value_bytes)?;
        u64::from_le_bytes(value)
    } else {
        guest.frame().rax & mask(bytes)
    };
    let at = in_segment(guest, SegmentName::Es, at, code);
    Ok(at.map(|at| Store {
        at,
        bytes,
        change: Change::Set(value),
    }))
}

/// Makes the change, as one compare-and-exchange of the whole entry.
#[inline(always)] // see `write_in`
fn apply<G: Guest + Entries>(
    guest: &mut G,
    insn: &Insn,
    store: &Store,
    code: Bits,
) -> Result<(), EntryError> {
    let at = Vaddr(store.at.0 & !7);
    let shift = ((store.at.0 & 7) as u32).wrapping_mul(8);
    let field = mask(store.bytes) << shift;
    let mut entry = guest.read_entry(at)?;
    for _ in 0..TRIES {
        let old = (entry & field) >> shift;
        let (new, flags) = result(&store.change, old, store.bytes);
        let new = match new {
            Some(new) => entry & !field | (new << shift) & field,
            // Nothing is stored, but the guest learns what was read. The exchange checks that the table still is the
            // guest's.
            None => entry,
        };
        let outcome = match guest.exchange_entry(at, entry, new) {
            Err(EntryError::Refused) if is_upper_half(store, code) => {
                exchange_half(guest, at, entry, new)
            }
            outcome => outcome,
        };
        match outcome {
            Ok(()) => {
                write_back(guest, insn, store, old, flags);
                return Ok(());
            }
            Err(EntryError::Changed(now)) => entry = now,
            Err(error) => return Err(error),
        }
    }
    Err(EntryError::Again)
}

/// Whether it is a 32-bit kernel's plain store of the upper half of an entry.
#[inline(always)] // never in 64-bit code
fn is_upper_half(store: &Store, code: Bits) -> bool {
    let plain = matches!(store.change, Change::Set(_));
    code != Bits::SixtyFour && plain && store.bytes == 4 && store.at.0 & 4 != 0
}

/// Makes a refused change to an upper half without the present bit. A 32-bit kernel may write the halves of an entry one by
/// one, the upper one first. What it has then is not what it wants, and only becomes it with the next store; until then
/// the entry is not present, as on Xen.
#[cold]
#[inline(never)]
fn exchange_half(
    guest: &mut impl Entries,
    at: Vaddr,
    old: u64,
    new: u64,
) -> Result<(), EntryError> {
    guest.exchange_entry(at, old, new & !Pte::PRESENT)
}

/// The new bytes, if they change, and the flags that the instruction sets: a mask and their values.
fn result(change: &Change, old: u64, bytes: u8) -> (Option<u64>, (u64, u64)) {
    match *change {
        Change::Set(value) => (Some(value), (0, 0)),
        Change::Exchange(expected, new) => {
            let (_, flags) = operand::sub(expected, old, bytes);
            ((old == expected).then_some(new), (ARITHMETIC, flags))
        }
        Change::Update(operation, by) => {
            let bit = 1u64.wrapping_shl(by as u32);
            let carry = if old & bit != 0 { CF } else { 0 };
            let (new, which, flags) = match operation {
                Operation::Add => with(ARITHMETIC, operand::add(old, by, bytes)),
                Operation::Sub => with(ARITHMETIC, operand::sub(old, by, bytes)),
                Operation::Or => with(ARITHMETIC, operand::logic(old | by, bytes)),
                Operation::And => with(ARITHMETIC, operand::logic(old & by, bytes)),
                Operation::Xor => with(ARITHMETIC, operand::logic(old ^ by, bytes)),
                Operation::SetBit => (old | bit, CF, carry),
                Operation::ClearBit => (old & !bit, CF, carry),
                Operation::FlipBit => (old ^ bit, CF, carry),
            };
            (Some(new), (which, flags))
        }
    }
}

fn with(which: u64, (value, flags): (u64, u64)) -> (u64, u64, u64) {
    (value, which, flags)
}

/// Sets registers and flags after the store.
fn write_back(
    guest: &mut impl Guest,
    insn: &Insn,
    store: &Store,
    old: u64,
    (which, flags): (u64, u64),
) {
    let frame = guest.frame();
    let flags = match insn.opcode {
        // CMPXCHG8B sets only ZF.
        0x0fc7 => {
            frame.rflags &= !ZF;
            flags & ZF
        }
        _ => {
            frame.rflags &= !which;
            flags
        }
    };
    frame.rflags |= flags;
    match (insn.opcode, &store.change) {
        // XCHG and XADD return the old bytes.
        (0x86 | 0x87 | 0x0fc0 | 0x0fc1, _) => {
            write_register(frame, insn, insn.reg, store.bytes, old)
        }
        (0x0fc7, Change::Exchange(expected, _)) if *expected != old => {
            (frame.rax, frame.rdx) = (old & mask(4), old >> 32);
        }
        (_, Change::Exchange(expected, _)) if *expected != old => {
            write_register(frame, insn, 0, store.bytes, old)
        }
        (0xa4 | 0xa5 | 0xaa | 0xab, _) => advance_string(frame, insn, store.bytes),
        _ => {}
    }
}

fn advance_string(frame: &mut crate::arch::frame::TrapFrame, insn: &Insn, bytes: u8) {
    let step = if frame.rflags & DF != 0 {
        u64::from(bytes).wrapping_neg()
    } else {
        u64::from(bytes)
    };
    let moved = |register: &mut u64, by: u64| {
        let to = register.wrapping_add(by);
        set_address_register(register, insn, to);
    };
    moved(&mut frame.rdi, step);
    if insn.opcode <= 0xa5 {
        moved(&mut frame.rsi, step);
    }
    if insn.repeat != Repeat::None {
        moved(&mut frame.rcx, u64::MAX);
    }
}

/// Moves RIP to the next instruction, or stays for the rest of a repeated one.
fn retire(guest: &mut impl Guest, insn: &Insn, code: Bits) -> Outcome {
    let frame = guest.frame();
    if insn.repeat != Repeat::None && is_string(insn) && frame.rcx & mask(insn.address_bytes) != 0 {
        return Outcome::Again;
    }
    instruction::retire(frame, insn.length, code)
}
