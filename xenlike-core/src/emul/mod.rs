//! What a PV guest does that ring 3 can't: privileged instructions, CPUID, MSRs, ports, and stores into
//! page tables. Pure rules over the [`Guest`] trait, so that everything runs and is fuzzed on the host.
//!
//! Entry calls [`general_protection`] for a guest's #GP, [`invalid_opcode`] for its #UD and
//! [`ptwr::page_table_write`] for a kernel's write fault on a page of type L1, and acts on the [`Outcome`].
//! Nothing here touches the machine: that is the trait's other side.
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
pub mod io;
pub mod msr;
pub mod operand;
pub mod privileged;
pub mod ptwr;
#[cfg(test)]
mod tests;

use crate::arch::frame::{Mode, TrapFrame};
use crate::cpuid::guest::{Asked, Role};
use crate::cpuid::{Leaf, Policy, VcpuMsrs};
use crate::kit::Vaddr;
use crate::ports::Ports;
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

/// The guest could not have what it asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denied {
    /// It never can.
    Refused,
    /// It has to ask again: work was interrupted.
    Again,
}

/// The vCPU that trapped and all that its instruction may reach.
pub trait Guest {
    /// Its registers.
    fn frame(&mut self) -> &mut TrapFrame;
    /// Who runs.
    fn mode(&self) -> Mode;
    /// The segment that the register holds; nothing if null, absent or not a code or data segment.
    fn segment(&mut self, name: SegmentName) -> Option<Segment>;
    /// Copies from its memory in its present address space.
    fn read(&mut self, at: Vaddr, into: &mut [u8]) -> Result<(), PageFault>;
    /// Copies to its memory.
    fn write(&mut self, at: Vaddr, from: &[u8]) -> Result<(), PageFault>;
    /// Whether the core has something more urgent to do.
    fn preempted(&self) -> bool;

    /// What its domain is to the machine.
    fn role(&self) -> Role;
    /// Its domain's CPUID policy.
    fn policy(&self) -> &Policy;
    /// CPUID as it sees it.
    fn cpuid(&mut self, leaf: u32, subleaf: u32, asked: Asked) -> Leaf;

    /// Whether its virtual IOPL lets the mode that runs use all ports (architectural_iopl considered).
    fn iopl_suffices(&self) -> bool;
    /// Whether the I/O bitmap that its kernel set lets user mode use the ports.
    fn bitmap_allows(&mut self, port: u16, width: Width) -> bool;
    /// Whether its domain was given all these ports of the machine.
    fn holds_ports(&self, port: u16, width: Width) -> bool;
    /// Reads a port of the machine.
    fn port_in(&mut self, port: u16, width: Width) -> u32;
    /// Writes a port of the machine.
    fn port_out(&mut self, port: u16, width: Width, value: u32);
    /// Its domain's emulated ports.
    fn with_ports<R>(&mut self, act: impl FnOnce(&mut Ports) -> R) -> R;
    /// Reads PCI configuration space for the hardware domain: address as written to 0xcf8, then bytes at
    /// `offset` (0 to 3) of it. Nothing if the core keeps it from the domain.
    fn pci_read(&mut self, address: u32, offset: u16, width: Width) -> Option<u32>;
    /// Writes PCI configuration space likewise.
    fn pci_write(&mut self, address: u32, offset: u16, width: Width, value: u32);
    /// Reads a CMOS register for a domain that holds ports 0x70 and 0x71.
    fn cmos_read(&mut self, index: u8) -> u8;
    /// Writes a CMOS register likewise.
    fn cmos_write(&mut self, index: u8, value: u8);

    /// CR0 of the machine without TS, and the guest's TS.
    fn cr0(&self) -> u64;
    /// Sets the guest's CR0.TS.
    fn set_task_switched(&mut self, ts: TaskSwitched);
    /// The guest's CR2 (in its vcpu_info).
    fn cr2(&self) -> u64;
    /// Sets it.
    fn set_cr2(&mut self, value: u64);
    /// The base of its page tables as its kernel set it.
    fn cr3(&self) -> u64;
    /// Changes it, as MMUEXT_NEW_BASEPTR does.
    fn set_cr3(&mut self, value: u64) -> Result<(), Denied>;
    /// CR4 as the guest sees it.
    fn cr4(&self) -> u64;
    /// The machine's CR4.
    fn machine_cr4(&self) -> u64;
    /// Sets the guest's CR4, which [`Policy::guest_cr4`] has cleaned.
    fn set_cr4(&mut self, value: u64);
    /// A debug register as get_debugreg gives it.
    fn debug_register(&self, number: u8) -> Option<u64>;
    /// Sets one as set_debugreg does.
    fn set_debug_register(&mut self, number: u8, value: u64) -> Result<(), Denied>;
    /// Bits of DR6 for its I/O breakpoints that the access matches.
    fn io_breakpoints(&self, port: u16, width: Width) -> u64;
    /// Sets its XCR0; the value has been checked.
    fn set_xcr0(&mut self, value: u64);
    /// Writes back and empties the caches.
    fn flush_caches(&mut self);
    /// Whether its domain may flush caches: it has I/O memory or a device.
    fn may_flush_caches(&self) -> bool;

    /// A segment base.
    fn base(&self, which: Base) -> u64;
    /// Sets a segment base to a canonical address.
    fn set_base(&mut self, which: Base, value: u64);
    /// The vCPU's MSRs.
    fn msrs(&mut self) -> &mut VcpuMsrs;
    /// Loads TSC_AUX into the machine.
    fn load_tsc_aux(&mut self, value: u32);
    /// An MSR of the machine; nothing if it has none of that number.
    fn machine_msr(&mut self, number: u32) -> Option<u64>;
    /// An indirect branch prediction barrier (PRED_CMD).
    fn prediction_barrier(&mut self);
    /// Whether the vCPU is the domain's first.
    fn is_first_vcpu(&self) -> bool;
    /// The guest's TSC.
    fn tsc(&self) -> u64;
    /// System time (ns).
    fn now_ns(&self) -> u64;
    /// Writes the hypercall page into the guest frame (MSR 0x40000000).
    fn write_hypercall_page(&mut self, frame: u64) -> Result<(), Denied>;
}

/// CR0.TS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskSwitched {
    /// FPU instructions trap.
    Set,
    /// They don't.
    Clear,
}
