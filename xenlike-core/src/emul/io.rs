//! IN, OUT, INS and OUTS. First the guest's own kernel has to allow the access (virtual IOPL, I/O bitmap), else the
//! exception goes to the guest. Then, if the domain was given the ports, the access goes to the machine; other ports are
//! emulated, or read as ones.

use super::decode::{Insn, Repeat};
use super::operand::{mask, read_register, set_address_register, write_register};
use super::privileged::{Step, retire_with_hits};
use super::{Base, Bits, Exception, Guest, Outcome, Owner, Segment, SegmentName, Width};
use crate::arch::rflags::DF;
use crate::cpuid::guest::Role;
use crate::kit::Vaddr;
use crate::ports::Ports;

/// The most elements of a repeated instruction that are transferred before the guest executes it again.
const BURST: u32 = 256;
const CMOS_INDEX: u16 = 0x70;
const CMOS_DATA: u16 = 0x71;
const PCI_ADDRESS: u16 = 0xcf8;
const PCI_DATA: u16 = 0xcfc;

/// The rules about which ports a vCPU may access.
pub trait PortRights {
    /// Whether the virtual IOPL permits the present mode to access all ports, with
    /// regard to architectural_iopl.
    fn iopl_suffices(&self) -> bool;
    /// Whether the I/O bitmap that the guest's kernel has set permits user mode to access the ports.
    fn bitmap_allows(&mut self, port: u16, width: Width) -> bool;
    /// Whether the domain has been given all of these ports of the machine.
    fn holds_ports(&self, port: u16, width: Width) -> bool;
    /// Returns the bits of DR6 for the guest's I/O breakpoints that the access matches.
    fn io_breakpoints(&self, port: u16, width: Width) -> u64;
}

/// The devices behind the ports: the machine's, and the emulated ones.
pub trait Devices {
    /// Reads a port of the machine.
    fn port_in(&mut self, port: u16, width: Width) -> u32;
    /// Writes a port of the machine.
    fn port_out(&mut self, port: u16, width: Width, value: u32);
    /// Calls `act` with the domain's emulated ports.
    fn with_ports<R>(&mut self, act: impl FnOnce(&mut Ports) -> R) -> R;
    /// Reads PCI configuration space for the hardware domain. `address` is in the format of port 0xcf8, and
    /// `offset` (0 to 3) is that of the first byte in its dword.
    fn pci_read(&mut self, address: u32, offset: u16, width: Width) -> u32;
    /// Writes PCI configuration space for the hardware domain, with parameters as in [`Devices::pci_read`].
    fn pci_write(&mut self, address: u32, offset: u16, width: Width, value: u32);
    /// Reads a CMOS register, for a domain that has ports 0x70 and 0x71.
    fn cmos_read(&mut self, index: u8) -> u8;
    /// Writes a CMOS register, for a domain that has ports 0x70 and 0x71.
    fn cmos_write(&mut self, index: u8, value: u8);
    /// Returns the system time in ns, for the emulated timer.
    fn now_ns(&self) -> u64;
}

/// All traits that an access to a port needs.
pub trait Io: Guest + Owner + PortRights + Devices {}

impl<G: Guest + Owner + PortRights + Devices> Io for G {}

fn allowed(guest: &mut impl Io, port: u16, width: Width) -> bool {
    guest.iopl_suffices() || guest.bitmap_allows(port, width)
}

fn width(insn: &Insn) -> Width {
    match (insn.opcode & 1, insn.data16) {
        (0, _) => Width::Byte,
        (_, true) => Width::Word,
        (_, false) => Width::Dword,
    }
}

/// Whether the access goes to the machine. The PCI address register, the data that it selects, and the CMOS are shared with
/// the hypervisor and always emulated, because the machine's index register holds the index of its last user.
fn direct(guest: &impl Io, port: u16, width: Width) -> bool {
    let shared = port == PCI_ADDRESS && width == Width::Dword
        || port & !3 == PCI_DATA
        || port & !1 == CMOS_INDEX;
    !shared && guest.holds_ports(port, width)
}

pub(super) fn single(guest: &mut impl Io, insn: &Insn) -> Step {
    let port = match insn.opcode {
        0xe4..=0xe7 => u16::from(insn.immediate as u8),
        _ => guest.frame().rdx as u16,
    };
    let width = width(insn);
    if !allowed(guest, port, width) {
        return Step::NOT_OURS;
    }
    let bytes = width.bytes() as u8;
    if insn.opcode & 2 == 0 {
        let value = read_port(guest, port, width);
        write_register(guest.frame(), insn, 0, bytes, u64::from(value));
    } else {
        let value = read_register(guest.frame(), insn, 0, bytes);
        write_port(guest, port, width, value as u32);
    }
    let hits = guest.io_breakpoints(port, width);
    retire_or_hit(guest, insn, hits)
}

/// Reads ports. The guest's kernel has allowed it.
pub fn read_port(guest: &mut impl Io, port: u16, width: Width) -> u32 {
    if direct(guest, port, width) {
        return guest.port_in(port, width) & width.mask();
    }
    if (port, width) == (PCI_ADDRESS, Width::Dword) {
        return guest.with_ports(|ports| ports.pci_address);
    }
    // A wider access is done byte by byte on consecutive ports, except that the PCI data register takes more
    // bytes at once.
    let (mut value, mut done) = (0, 0);
    while done < width.bytes() {
        let (port, left) = (port.wrapping_add(done), width.bytes().wrapping_sub(done));
        let (part, bytes) = match pci_part(port, left) {
            Some((offset, part)) => (read_pci(guest, offset, part), part.bytes()),
            None => (u32::from(read_byte(guest, port)), 1),
        };
        value |= part << (8 * u32::from(done));
        done = done.wrapping_add(bytes);
    }
    value & width.mask()
}

/// Writes ports. The guest's kernel has allowed it.
pub fn write_port(guest: &mut impl Io, port: u16, width: Width, value: u32) {
    if direct(guest, port, width) {
        return guest.port_out(port, width, value & width.mask());
    }
    if (port, width) == (PCI_ADDRESS, Width::Dword) {
        return guest.with_ports(|ports| ports.pci_address = value);
    }
    let mut done = 0;
    while done < width.bytes() {
        let (port, left) = (port.wrapping_add(done), width.bytes().wrapping_sub(done));
        let value = value >> (8 * u32::from(done));
        let bytes = match pci_part(port, left) {
            Some((offset, part)) => {
                if guest.role() == Role::Hardware {
                    let address = guest.with_ports(|ports| ports.pci_address);
                    guest.pci_write(address, offset, part, value & part.mask());
                }
                part.bytes()
            }
            None => {
                write_byte(guest, port, value as u8);
                1
            }
        };
        done = done.wrapping_add(bytes);
    }
}

/// Returns the offset and the width of the part of an access that the PCI data register takes at once. `left`
/// is the number of bytes that remain of the access at `port`.
fn pci_part(port: u16, left: u16) -> Option<(u16, Width)> {
    if port & !3 != PCI_DATA {
        return None;
    }
    let offset = port & 3;
    let width = match left.min(4_u16.wrapping_sub(offset)) {
        4 => Width::Dword,
        2 | 3 => Width::Word,
        _ => Width::Byte,
    };
    Some((offset, width))
}

fn read_pci(guest: &mut impl Io, offset: u16, width: Width) -> u32 {
    let value = match guest.role() {
        Role::Hardware => {
            let address = guest.with_ports(|ports| ports.pci_address);
            guest.pci_read(address, offset, width)
        }
        Role::Guest => u32::MAX,
    };
    value & width.mask()
}

fn read_byte(guest: &mut impl Io, port: u16) -> u8 {
    let now_ns = guest.now_ns();
    match port {
        0x42 | 0x43 | 0x61 => guest.with_ports(|ports| ports.pit.read(port, now_ns)),
        CMOS_INDEX => guest.with_ports(|ports| ports.cmos_index),
        CMOS_DATA if guest.holds_ports(CMOS_INDEX, Width::Word) => {
            let index = guest.with_ports(|ports| ports.cmos_index) & 0x7f;
            guest.cmos_read(index)
        }
        _ => 0xff,
    }
}

fn write_byte(guest: &mut impl Io, port: u16, value: u8) {
    let now_ns = guest.now_ns();
    match port {
        0x42 | 0x43 | 0x61 => guest.with_ports(|ports| ports.pit.write(port, value, now_ns)),
        CMOS_INDEX => guest.with_ports(|ports| ports.cmos_index = value),
        CMOS_DATA if guest.holds_ports(CMOS_INDEX, Width::Word) => {
            let index = guest.with_ports(|ports| ports.cmos_index) & 0x7f;
            guest.cmos_write(index, value);
        }
        _ => {}
    }
}

/// Emulates INS and OUTS, with or without a repeat prefix.
pub(super) fn string(guest: &mut impl Io, insn: &Insn) -> Step {
    let (port, width) = (guest.frame().rdx as u16, width(insn));
    if !allowed(guest, port, width) {
        return Step::NOT_OURS;
    }
    let input = insn.opcode & 2 == 0;
    let name = if input {
        SegmentName::Es
    } else {
        insn.segment.unwrap_or(SegmentName::Ds)
    };
    let Some(segment) = data_segment(guest, insn, name) else {
        return Step::GENERAL_PROTECTION;
    };
    let allowed = if input {
        segment.writable
    } else {
        segment.readable
    };
    if !allowed {
        return Step::GENERAL_PROTECTION;
    }
    let repeated = insn.repeat != Repeat::None;
    let hits = guest.io_breakpoints(port, width);
    for _ in 0..BURST {
        let count = guest.frame().rcx & mask(insn.address_bytes);
        if repeated && count == 0 {
            return Step::Retire;
        }
        let element = Element {
            port,
            width,
            segment,
            input,
        };
        if let Err(exception) = element.transfer(guest, insn) {
            return Step::Ends(Outcome::Fault(exception));
        }
        if !repeated {
            return retire_or_hit(guest, insn, hits);
        }
        set_address_register(&mut guest.frame().rcx, insn, count.wrapping_sub(1));
        // A breakpoint is raised after each element.
        if hits != 0 || guest.preempted() {
            break;
        }
    }
    let rest = guest.frame().rcx & mask(insn.address_bytes);
    match (rest, hits) {
        (0, _) => retire_or_hit(guest, insn, hits),
        (_, 0) => Step::Ends(Outcome::Again),
        _ => Step::Ends(Outcome::Debug(hits)),
    }
}

#[inline]
fn retire_or_hit(guest: &mut impl Io, insn: &Insn, hits: u64) -> Step {
    match hits {
        0 => Step::Retire,
        _ => retire_with_hits(guest, insn, hits),
    }
}

/// Returns the segment of a string operand. In 64-bit code it is flat, with the base of FS or GS if
/// that is overridden.
fn data_segment(guest: &mut impl Io, insn: &Insn, name: SegmentName) -> Option<Segment> {
    let code = guest.segment(SegmentName::Cs)?;
    if code.bits != Bits::SixtyFour {
        return guest.segment(name);
    }
    let base = match name {
        SegmentName::Fs if insn.segment.is_some() => guest.base(Base::Fs),
        SegmentName::Gs if insn.segment.is_some() => guest.base(Base::Gs),
        _ => 0,
    };
    Some(Segment {
        base,
        limit: u32::MAX,
        bits: Bits::SixtyFour,
        readable: true,
        writable: true,
    })
}

struct Element {
    port: u16,
    width: Width,
    segment: Segment,
    input: bool,
}

impl Element {
    /// Transfers one element between port and memory, and advances RSI or RDI.
    fn transfer(&self, guest: &mut impl Io, insn: &Insn) -> Result<(), Exception> {
        let frame = guest.frame();
        let offset = if self.input { frame.rdi } else { frame.rsi } & mask(insn.address_bytes);
        let at = self.linear(offset)?;
        let mut buffer = [0; 4];
        let (bytes, _) = buffer.split_at_mut(usize::from(self.width.bytes()));
        if self.input {
            let value = read_port(guest, self.port, self.width).to_le_bytes();
            let (value, _) = value.split_at(usize::from(self.width.bytes()));
            guest.write(at, value).map_err(Exception::Page)?;
        } else {
            guest.read(at, bytes).map_err(Exception::Page)?;
            write_port(guest, self.port, self.width, u32::from_le_bytes(buffer));
        }
        let frame = guest.frame();
        let step = u64::from(self.width.bytes());
        let moved = if frame.rflags & DF != 0 {
            offset.wrapping_sub(step)
        } else {
            offset.wrapping_add(step)
        };
        let register = if self.input {
            &mut frame.rdi
        } else {
            &mut frame.rsi
        };
        set_address_register(register, insn, moved);
        Ok(())
    }

    fn linear(&self, offset: u64) -> Result<Vaddr, Exception> {
        let last = offset
            .wrapping_add(u64::from(self.width.bytes()))
            .wrapping_sub(1);
        if self.segment.bits == Bits::SixtyFour {
            return Ok(Vaddr(self.segment.base.wrapping_add(offset)));
        }
        if last > u64::from(self.segment.limit) {
            return Err(Exception::GeneralProtection);
        }
        Ok(Vaddr(self.segment.base.wrapping_add(offset) & mask(4)))
    }
}
