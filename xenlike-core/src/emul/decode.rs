//! Decodes the few instructions that the emulator handles (APM vol. 3 §1.2, SDM vol. 2 §2.1).

use super::{Bits, SegmentName};

/// The maximum length of an instruction in bytes.
pub const MAX_BYTES: usize = 15;

/// Why an instruction was not decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Undecoded {
    /// The instruction continues beyond the available bytes.
    TooShort,
    /// The emulator doesn't handle the instruction.
    Unknown,
}

/// The repeat prefix of an instruction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(clippy, expect(missing_docs, reason = "the names say it"))]
pub enum Repeat {
    None,
    F2,
    F3,
}

/// The operand that the rm field of ModRM names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rm {
    /// A register, by its number including REX.B.
    Register(u8),
    /// An operand in memory.
    Memory(Memory),
}

/// The address of a memory operand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// The base of the address.
    pub base: BaseRegister,
    /// The index register and the number of bits by which it is shifted, 0 to 3.
    pub index: Option<(u8, u8)>,
    /// The displacement in bytes, sign-extended.
    pub displacement: i64,
}

/// The base of a memory operand's address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BaseRegister {
    /// There is no base.
    None,
    /// A general register, by its number including REX.B.
    General(u8),
    /// The address of the next instruction (RIP-relative).
    NextInstruction,
}

/// The fields of a decoded instruction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Insn {
    /// The length in bytes, with prefixes and immediate.
    pub length: u8,
    /// The opcode: 0x00xx for the primary map, 0x0fxx for the secondary map.
    pub opcode: u16,
    /// REX.W: operands have 64 bits.
    pub wide: bool,
    /// There is a REX prefix: byte registers 4 to 7 are SPL to DIL.
    pub rex: bool,
    /// Operands have 16 bits, unless REX.W is set. The operand-size prefix inverts the default of
    /// the code segment.
    pub data16: bool,
    /// The address size in bytes.
    pub address_bytes: u8,
    /// The repeat prefix, F2 or F3.
    pub repeat: Repeat,
    /// There is a LOCK prefix (F0).
    pub lock: bool,
    /// The segment override, if it has an effect.
    pub segment: Option<SegmentName>,
    /// The reg field of ModRM, including REX.R.
    pub reg: u8,
    /// The rm field of ModRM; register 0 if the instruction has no ModRM.
    pub rm: Rm,
    /// The immediate, sign-extended; 0 if there is none.
    pub immediate: i64,
}

impl Insn {
    /// Returns the operand size in bytes, for opcodes whose lowest bit selects between a byte and
    /// a full operand.
    pub fn operand_bytes(&self) -> u8 {
        if self.opcode & 1 == 0 {
            1
        } else {
            self.word_bytes()
        }
    }
    /// Returns the operand size in bytes, for opcodes without a byte form.
    pub fn word_bytes(&self) -> u8 {
        match (self.wide, self.data16) {
            (true, _) => 8,
            (false, true) => 2,
            (false, false) => 4,
        }
    }
}

/// The bytes that follow an opcode.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tail {
    Nothing,
    ModRm,
    /// One byte, an immediate.
    Byte,
    ModRmByte,
    /// ModRM, and an immediate as wide as the operand, but at most 4 bytes.
    ModRmWord,
}

fn tail(opcode: u16) -> Option<Tail> {
    Some(match opcode {
        // ADD, OR, AND, SUB, XOR with operands r/m, r
        0x00 | 0x01 | 0x08 | 0x09 | 0x20 | 0x21 | 0x28 | 0x29 | 0x30 | 0x31 => Tail::ModRm,
        // The same operations with an immediate
        0x80 | 0x83 => Tail::ModRmByte,
        0x81 => Tail::ModRmWord,
        // XCHG, MOV
        0x86..=0x89 => Tail::ModRm,
        0xc6 => Tail::ModRmByte,
        0xc7 => Tail::ModRmWord,
        // INS, OUTS, MOVS, STOS, HLT, CLI, STI
        0x6c..=0x6f | 0xa4 | 0xa5 | 0xaa | 0xab | 0xf4 | 0xfa | 0xfb => Tail::Nothing,
        // IN, OUT
        0xe4..=0xe7 => Tail::Byte,
        0xec..=0xef => Tail::Nothing,
        // XSETBV, RDTSCP, MOV CR/DR, BTS, BTR, BTC, CMPXCHG, XADD, CMPXCHG8B/16B, MOVNTI
        0x0f01 | 0x0f20..=0x0f23 | 0x0fab | 0x0fb3 | 0x0fbb => Tail::ModRm,
        0x0fb0 | 0x0fb1 | 0x0fc0 | 0x0fc1 | 0x0fc3 | 0x0fc7 => Tail::ModRm,
        0x0fba => Tail::ModRmByte,
        // CLTS, WBINVD, WRMSR, RDTSC, RDMSR, CPUID
        0x0f06 | 0x0f09 | 0x0f30..=0x0f32 | 0x0fa2 => Tail::Nothing,
        _ => return None,
    })
}

struct Bytes<'a> {
    all: &'a [u8],
    at: usize,
}

impl Bytes<'_> {
    fn next(&mut self) -> Result<u8, Undecoded> {
        if self.at >= MAX_BYTES {
            return Err(Undecoded::Unknown);
        }
        let byte = *self.all.get(self.at).ok_or(Undecoded::TooShort)?;
        self.at = self.at.wrapping_add(1);
        Ok(byte)
    }
    /// Reads a little-endian signed number of 1, 2 or 4 bytes.
    fn signed(&mut self, bytes: u8) -> Result<i64, Undecoded> {
        let mut word = [0; 8];
        for place in word.iter_mut().take(usize::from(bytes)) {
            *place = self.next()?;
        }
        let value = i64::from_le_bytes(word);
        Ok(match bytes {
            1 => i64::from(value as i8),
            2 => i64::from(value as i16),
            _ => i64::from(value as i32),
        })
    }
}

/// Decodes the instruction at the start of `code`, for a code segment of this size.
pub fn decode(code: &[u8], bits: Bits) -> Result<Insn, Undecoded> {
    let mut bytes = Bytes { all: code, at: 0 };
    let mut insn = Insn {
        length: 0,
        opcode: 0,
        wide: false,
        rex: false,
        data16: bits == Bits::Sixteen,
        address_bytes: match bits {
            Bits::Sixteen => 2,
            Bits::ThirtyTwo => 4,
            Bits::SixtyFour => 8,
        },
        repeat: Repeat::None,
        lock: false,
        segment: None,
        reg: 0,
        rm: Rm::Register(0),
        immediate: 0,
    };
    let mut byte = prefixes(&mut bytes, &mut insn, bits)?;
    let mut rex = 0;
    if bits == Bits::SixtyFour && byte & 0xf0 == 0x40 {
        rex = byte;
        insn.rex = true;
        insn.wide = rex & 8 != 0;
        byte = bytes.next()?;
    }
    insn.opcode = match byte {
        0x0f => 0x0f00 | u16::from(bytes.next()?),
        byte => u16::from(byte),
    };
    let tail = tail(insn.opcode).ok_or(Undecoded::Unknown)?;
    if !matches!(tail, Tail::Nothing | Tail::Byte) {
        modrm(&mut bytes, &mut insn, rex, bits)?;
    }
    insn.immediate = match tail {
        Tail::Byte | Tail::ModRmByte => bytes.signed(1)?,
        Tail::ModRmWord => bytes.signed(insn.word_bytes().min(4))?,
        Tail::Nothing | Tail::ModRm => 0,
    };
    insn.length = bytes.at as u8;
    Ok(insn)
}

/// Consumes the legacy prefixes. Returns the first byte after them.
fn prefixes(bytes: &mut Bytes<'_>, insn: &mut Insn, bits: Bits) -> Result<u8, Undecoded> {
    let (data16, address_bytes) = (insn.data16, insn.address_bytes);
    loop {
        match bytes.next()? {
            0x66 => insn.data16 = !data16,
            0x67 => insn.address_bytes = if address_bytes == 4 { 2 } else { 4 },
            0xf0 => insn.lock = true,
            0xf2 => insn.repeat = Repeat::F2,
            0xf3 => insn.repeat = Repeat::F3,
            byte @ (0x26 | 0x2e | 0x36 | 0x3e | 0x64 | 0x65) => {
                let name = match byte {
                    0x26 => SegmentName::Es,
                    0x2e => SegmentName::Cs,
                    0x36 => SegmentName::Ss,
                    0x3e => SegmentName::Ds,
                    0x64 => SegmentName::Fs,
                    _ => SegmentName::Gs,
                };
                // In 64-bit mode, only overrides of FS and GS have an effect (APM vol. 3 §1.2.4).
                if bits != Bits::SixtyFour || matches!(name, SegmentName::Fs | SegmentName::Gs) {
                    insn.segment = Some(name);
                }
            }
            byte => return Ok(byte),
        }
    }
}

fn modrm(bytes: &mut Bytes<'_>, insn: &mut Insn, rex: u8, bits: Bits) -> Result<(), Undecoded> {
    let byte = bytes.next()?;
    let (mode, rm) = (byte >> 6, byte & 7);
    insn.reg = byte >> 3 & 7 | (rex & 4) << 1;
    // MOV to and from CR and DR takes a register, whatever the mode bits are (APM vol. 3, MOV CRn).
    if mode == 3 || matches!(insn.opcode, 0x0f20..=0x0f23) {
        insn.rm = Rm::Register(rm | (rex & 1) << 3);
        return Ok(());
    }
    if insn.address_bytes == 2 {
        // Memory operands are needed only for page-table writes, which come from 64- and 32-bit kernels.
        return Err(Undecoded::Unknown);
    }
    let (mut base, mut index) = (BaseRegister::General(rm | (rex & 1) << 3), None);
    if rm == 4 {
        let sib = bytes.next()?;
        let (number, scale) = (sib >> 3 & 7 | (rex & 2) << 2, sib >> 6);
        index = (number != 4).then_some((number, scale));
        base = BaseRegister::General(sib & 7 | (rex & 1) << 3);
        if sib & 7 == 5 && mode == 0 {
            base = BaseRegister::None;
        }
    } else if rm == 5 && mode == 0 {
        base = match bits {
            Bits::SixtyFour => BaseRegister::NextInstruction,
            Bits::Sixteen | Bits::ThirtyTwo => BaseRegister::None,
        };
    }
    let displacement = match mode {
        1 => bytes.signed(1)?,
        2 => bytes.signed(4)?,
        _ if matches!(base, BaseRegister::None | BaseRegister::NextInstruction) => {
            bytes.signed(4)?
        }
        _ => 0,
    };
    insn.rm = Rm::Memory(Memory {
        base,
        index,
        displacement,
    });
    Ok(())
}
