//! What a PV guest does that ring 3 can't: privileged instructions, CPUID, MSRs, ports, and stores into
//! page tables. Pure rules over [`Guest`] and a trait for what each file needs besides, so that everything runs and is
//! fuzzed on the host.
//!
//! `pv` calls [`general_protection`] for a guest's #GP, [`invalid_opcode`] for its #UD and
//! [`ptwr::page_table_write`] for a kernel's write fault on a page of type L1, and acts on the [`Outcome`].
//! Nothing here touches the machine: that is the traits' other side, `pv::emulate`.
#![cfg_attr(
    not(test),
    warn(
        clippy::indexing_slicing,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::arithmetic_side_effects
    )
)]

pub mod control;
pub mod decode;
mod instruction;
pub mod io;
pub mod msr;
pub mod operand;
pub mod privileged;
pub mod ptwr;
#[cfg(test)]
mod tests;

use crate::arch::frame::{Mode, TrapFrame};
use crate::cpuid::Policy;
use crate::cpuid::guest::Role;
use crate::kit::Vaddr;
pub use privileged::{
    asks_to_be_emulated, forced_cpuid, general_protection, invalid_opcode, is_forced_cpuid,
};

/// What became of a trapped instruction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Done; the registers are those after the instruction.
    Done,
    /// Done so far, and the guest gets #DB with these bits of DR6: it single-stepped, or hit an I/O breakpoint.
    Debug(u64),
    /// Part is done, the registers tell how much: run the instruction again (after what is pending).
    Again,
    /// Done; the vCPU sleeps until an event (HLT).
    Block,
    /// The guest gets this exception in place of the one that trapped.
    Fault(Exception),
    /// Not for us: the guest gets the exception that trapped.
    NotOurs,
}

/// An exception for the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exception {
    /// #GP with error code 0.
    GeneralProtection,
    /// #UD.
    InvalidOpcode,
    /// #SS with error code 0.
    Stack,
    /// #PF at the address.
    Page(PageFault),
}

/// The guest's memory can't be accessed there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageFault {
    /// The first byte that could not be accessed.
    pub at: Vaddr,
    /// What was tried.
    pub access: Access,
}

/// A direction of access.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// From memory.
    Read,
    /// To memory.
    Write,
}

/// The segment registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the manuals' names")]
pub enum SegmentName {
    Es,
    Cs,
    Ss,
    Ds,
    Fs,
    Gs,
}

/// The width of code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Bits {
    Sixteen,
    ThirtyTwo,
    SixtyFour,
}

/// A segment as its descriptor has it. In 64-bit code all but FS and GS have base 0, and no limit counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// Linear address of its first byte.
    pub base: u64,
    /// Offset of its last byte.
    pub limit: u32,
    /// For code.
    pub bits: Bits,
    /// It can be read: data, or readable code.
    pub readable: Permission,
    /// It can be written: writable data.
    pub writable: Permission,
}

/// Whether something is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permission {
    /// It is.
    Granted,
    /// It is not.
    Refused,
}

/// The size of a port access.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Width {
    Byte,
    Word,
    Dword,
}

impl Width {
    /// In bytes.
    pub const fn bytes(self) -> u16 {
        match self {
            Self::Byte => 1,
            Self::Word => 2,
            Self::Dword => 4,
        }
    }
    /// The bits that an access moves.
    pub const fn mask(self) -> u32 {
        match self {
            Self::Byte => 0xff,
            Self::Word => 0xffff,
            Self::Dword => u32::MAX,
        }
    }
}

/// A vCPU's base registers, as MSRs 0xc0000100 to 0xc0000102 mean them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Base {
    Fs,
    /// Of the mode that runs.
    Gs,
    /// Of the other mode: what SWAPGS would bring.
    OtherGs,
}

/// The guest can't have what it asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Denied;

/// The vCPU that trapped, as every instruction needs it. What only some need is in traits of their files.
pub trait Guest {
    /// Its registers.
    fn frame(&mut self) -> &mut TrapFrame;
    /// Whether its kernel runs or its user code.
    fn mode(&self) -> Mode;
    /// The segment that the register holds; nothing if null, absent or not a code or data segment.
    fn segment(&mut self, name: SegmentName) -> Option<Segment>;
    /// A segment base.
    fn base(&self, which: Base) -> u64;
    /// Copies from its memory in its present address space.
    fn read(&mut self, at: Vaddr, into: &mut [u8]) -> Result<(), PageFault>;
    /// Copies to its memory.
    fn write(&mut self, at: Vaddr, from: &[u8]) -> Result<(), PageFault>;
    /// Whether the CPU has something more urgent to do, so that a long instruction stops.
    fn preempted(&self) -> bool;
}

/// The domain of the vCPU.
pub trait Owner {
    /// What it is to the machine.
    fn role(&self) -> Role;
    /// Its CPUID policy.
    fn policy(&self) -> &Policy;
}
