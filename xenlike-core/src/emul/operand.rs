//! Registers by number, effective addresses, and the flags of arithmetic instructions.

use super::decode::{BaseRegister, Insn, Memory};
use super::{Base, Bits, Guest, SegmentName};
use crate::arch::frame::TrapFrame;
use crate::arch::rflags::{AF, CF, OF, PF, SF, ZF};
use crate::kit::Vaddr;

/// DR6.BS, set if a #DB is due to RFLAGS.TF.
pub const DR6_STEP: u64 = 1 << 14;
/// The flags that arithmetic instructions set.
pub const ARITHMETIC: u64 = CF | PF | AF | ZF | SF | OF;

/// The general register with this number, of which four bits count.
pub fn register(frame: &mut TrapFrame, number: u8) -> &mut u64 {
    match number & 15 {
        0 => &mut frame.rax,
        1 => &mut frame.rcx,
        2 => &mut frame.rdx,
        3 => &mut frame.rbx,
        4 => &mut frame.rsp,
        5 => &mut frame.rbp,
        6 => &mut frame.rsi,
        7 => &mut frame.rdi,
        8 => &mut frame.r8,
        9 => &mut frame.r9,
        10 => &mut frame.r10,
        11 => &mut frame.r11,
        12 => &mut frame.r12,
        13 => &mut frame.r13,
        14 => &mut frame.r14,
        _ => &mut frame.r15,
    }
}

/// The mask of the low `bytes` bytes of a word.
pub const fn mask(bytes: u8) -> u64 {
    match bytes {
        1 => 0xff,
        2 => 0xffff,
        4 => 0xffff_ffff,
        _ => u64::MAX,
    }
}

/// Whether the number names one of AH to BH: byte registers 4 to 7 without REX.
fn is_high_byte(insn: &Insn, number: u8, bytes: u8) -> bool {
    bytes == 1 && !insn.rex && (4..8).contains(&number)
}

/// Reads a register operand of `bytes` bytes.
pub fn read_register(frame: &mut TrapFrame, insn: &Insn, number: u8, bytes: u8) -> u64 {
    if is_high_byte(insn, number, bytes) {
        return *register(frame, number & 3) >> 8 & 0xff;
    }
    *register(frame, number) & mask(bytes)
}

/// Writes a register operand of `bytes` bytes. 4 bytes clear the upper half of the register; fewer leave
/// the rest unchanged.
pub fn write_register(frame: &mut TrapFrame, insn: &Insn, number: u8, bytes: u8, value: u64) {
    if is_high_byte(insn, number, bytes) {
        let place = register(frame, number & 3);
        *place = *place & !0xff00 | (value & 0xff) << 8;
        return;
    }
    let place = register(frame, number);
    *place = match bytes {
        4 | 8 => value & mask(bytes),
        _ => *place & !mask(bytes) | value & mask(bytes),
    };
}

/// Writes RCX, RSI or RDI at the instruction's address size. A write of 4 bytes clears the upper half.
pub fn set_address_register(register: &mut u64, insn: &Insn, value: u64) {
    let field = mask(insn.address_bytes);
    *register = match insn.address_bytes {
        2 => *register & !field | value & field,
        _ => value & field,
    };
}

/// Returns the linear address of a memory operand in code of this width. `None` if its segment can't be used.
#[inline(always)] // one instance for 64-bit code
pub fn linear(guest: &mut impl Guest, insn: &Insn, memory: &Memory, code: Bits) -> Option<Vaddr> {
    let frame = guest.frame();
    let base = match memory.base {
        BaseRegister::None => 0,
        BaseRegister::General(number) => *register(frame, number),
        BaseRegister::NextInstruction => frame.rip.wrapping_add(u64::from(insn.length)),
    };
    let index = memory
        .index
        .map_or(0, |(number, scale)| *register(frame, number) << (scale & 3));
    let offset = base
        .wrapping_add(index)
        .wrapping_add_signed(memory.displacement);
    let offset = if insn.address_bytes == 4 {
        offset & mask(4)
    } else {
        offset
    };
    // Addresses relative to ESP and EBP are in the stack segment (APM vol. 2 §4.5.2).
    let default = match memory.base {
        BaseRegister::General(4 | 5) => SegmentName::Ss,
        _ => SegmentName::Ds,
    };
    in_segment(guest, insn.segment.unwrap_or(default), offset, code)
}

/// Returns the linear address of an offset in a segment, for code of this width. In 64-bit code only FS and GS have
/// bases; in other code, linear addresses have 32 bits. The limit isn't checked, because the access has faulted in
/// a page, and the CPU checks the limit first.
#[inline(always)] // nothing for most segments of 64-bit code
pub fn in_segment(
    guest: &mut impl Guest,
    name: SegmentName,
    offset: u64,
    code: Bits,
) -> Option<Vaddr> {
    Some(Vaddr(match (code, name) {
        (Bits::SixtyFour, SegmentName::Fs) => offset.wrapping_add(guest.base(Base::Fs)),
        (Bits::SixtyFour, SegmentName::Gs) => offset.wrapping_add(guest.base(Base::Gs)),
        (Bits::SixtyFour, _) => offset,
        _ => offset.wrapping_add(guest.segment(name)?.base) & mask(4),
    }))
}

/// The zero, sign and parity flags of a result.
fn result_flags(result: u64, bytes: u8) -> u64 {
    let result = result & mask(bytes);
    let mut flags = 0;
    if result == 0 {
        flags |= ZF;
    }
    if result >> top_bit(bytes) & 1 != 0 {
        flags |= SF;
    }
    if (result as u8).count_ones().is_multiple_of(2) {
        flags |= PF;
    }
    flags
}

/// Returns the number of an operand's sign bit.
fn top_bit(bytes: u8) -> u32 {
    u32::from(bytes).wrapping_mul(8).wrapping_sub(1)
}

fn carries(a: u64, b: u64, result: u64, carry: u64, overflow: u64, bytes: u8) -> u64 {
    let top = top_bit(bytes);
    let mut flags = 0;
    if carry >> top & 1 != 0 {
        flags |= CF;
    }
    if overflow >> top & 1 != 0 {
        flags |= OF;
    }
    if (a ^ b ^ result) & 0x10 != 0 {
        flags |= AF;
    }
    flags
}

/// Adds; returns the sum and the flags.
pub fn add(a: u64, b: u64, bytes: u8) -> (u64, u64) {
    let result = a.wrapping_add(b);
    let carry = a & b | (a | b) & !result;
    let overflow = (a ^ result) & (b ^ result);
    (
        result & mask(bytes),
        result_flags(result, bytes) | carries(a, b, result, carry, overflow, bytes),
    )
}

/// Subtracts; returns the difference and the flags.
pub fn sub(a: u64, b: u64, bytes: u8) -> (u64, u64) {
    let result = a.wrapping_sub(b);
    let borrow = !a & b | (!a | b) & result;
    let overflow = (a ^ b) & (a ^ result);
    (
        result & mask(bytes),
        result_flags(result, bytes) | carries(a, b, result, borrow, overflow, bytes),
    )
}

/// Returns the result of a bitwise operation, truncated, and its flags. CF and OF are clear.
pub fn logic(result: u64, bytes: u8) -> (u64, u64) {
    (result & mask(bytes), result_flags(result, bytes))
}
