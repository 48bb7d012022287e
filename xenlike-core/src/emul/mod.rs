//! Emulates what a guest can't do in ring 3: privileged instructions, CPUID, MSRs, ports, and stores into page tables.
//! These are pure rules over [`Guest`] and one trait for what each file needs besides, so that everything runs and is
//! fuzzed on the host.
//!
//! `pv::emulate` implements the traits by the machine. It calls [`general_protection`] for a guest's #GP,
//! [`invalid_opcode`] for its #UD and [`ptwr::page_table_write`] for a write fault of its kernel on a page of type L1, and
//! applies the [`Outcome`].
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

/// The outcome of a trapped instruction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The instruction is complete, and the registers are updated.
    Done,
    /// The instruction is complete, and the guest gets #DB with these bits of DR6: it was single-stepped or
    /// hit an I/O breakpoint. A repeated instruction may be complete for one element only; then RIP still
    /// points to it.
    Debug(u64),
    /// A part is done, and the registers are those after it. The guest executes the instruction again, after the work that
    /// interrupted it.
    Again,
    /// The instruction (HLT) is complete, and the vCPU blocks until an event.
    Block,
    /// The guest gets this exception instead of the one that trapped.
    Fault(Exception),
    /// Not an instruction to emulate: the guest gets the exception that trapped.
    NotOurs,
}

/// An exception that the instruction raises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exception {
    /// #GP with error code 0.
    GeneralProtection,
    /// #UD: the instruction is not available.
    InvalidOpcode,
    /// #PF at the address where the access failed.
    Page(PageFault),
}

/// An address of the guest could not be accessed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageFault {
    /// The first address that could not be accessed.
    pub at: Vaddr,
    /// The kind of access.
    pub access: Access,
}

/// The direction of a memory access.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// A read.
    Read,
    /// A write.
    Write,
}

/// A segment register, by its architectural name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(clippy, expect(missing_docs, reason = "the manuals' names"))]
pub enum SegmentName {
    Es,
    Cs,
    Ss,
    Ds,
    Fs,
    Gs,
}

/// The default operand size of a code segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(clippy, expect(missing_docs, reason = "the names say it"))]
pub enum Bits {
    Sixteen,
    ThirtyTwo,
    SixtyFour,
}

/// A segment as its descriptor defines it. 64-bit code ignores limits, and bases other than those of FS and GS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// The linear address of its first byte.
    pub base: u64,
    /// The offset of its last byte.
    pub limit: u32,
    /// The width of its code.
    pub bits: Bits,
    /// Whether it can be read: data, or readable code.
    pub readable: bool,
    /// Whether it can be written: writable data.
    pub writable: bool,
}

/// The width of a port access.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(clippy, expect(missing_docs, reason = "the names say it"))]
pub enum Width {
    Byte,
    Word,
    Dword,
}

impl Width {
    /// The size in bytes.
    pub const fn bytes(self) -> u16 {
        match self {
            Self::Byte => 1,
            Self::Word => 2,
            Self::Dword => 4,
        }
    }
    /// Returns the bits of a register that an access of this width transfers.
    pub const fn mask(self) -> u32 {
        match self {
            Self::Byte => 0xff,
            Self::Word => 0xffff,
            Self::Dword => u32::MAX,
        }
    }
}

/// The base registers of a vCPU, those of MSRs 0xc0000100 to 0xc0000102.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(clippy, expect(missing_docs, reason = "the names say it"))]
pub enum Base {
    Fs,
    /// The base of the mode that runs.
    Gs,
    /// The base of the other mode, which SWAPGS would load.
    OtherGs,
}

/// The guest may not do that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Denied;

/// The vCPU that trapped: what every instruction needs of it. What only some need is in traits in their files.
pub trait Guest {
    /// Returns the vCPU's registers for reading and writing.
    fn frame(&mut self) -> &mut TrapFrame;
    /// Returns whether the guest's kernel or its user code runs.
    fn mode(&self) -> Mode;
    /// Returns the segment that register `name` holds. `None` if the selector is null, or names no code or data
    /// segment that is present.
    fn segment(&mut self, name: SegmentName) -> Option<Segment>;
    /// Returns the width of the kernel's code that runs. `None` if its code segment is gone.
    fn code_bits(&mut self) -> Option<Bits>;
    /// Returns the base of FS or of GS.
    fn base(&self, which: Base) -> u64;
    /// Reads the guest's memory at the linear address `at`, in the present address space.
    fn read(&mut self, at: Vaddr, into: &mut [u8]) -> Result<(), PageFault>;
    /// Writes the guest's memory at the linear address `at`, in the present address space.
    fn write(&mut self, at: Vaddr, from: &[u8]) -> Result<(), PageFault>;
    /// Whether the CPU has more urgent work, so that a long instruction must be interrupted.
    fn preempted(&self) -> bool;
}

/// The domain of the vCPU that trapped.
pub trait Owner {
    /// Returns the domain's role on the machine.
    fn role(&self) -> Role;
    /// Returns the domain's CPUID policy.
    fn policy(&self) -> &Policy;
}
