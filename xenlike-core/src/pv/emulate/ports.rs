//! I/O ports for the emulator: which of them a vCPU may access, and the devices behind them.

use super::guest::Emulated;
use super::{table, virtual_ring};
use crate::arch::{pci, port, time};
use crate::domain::debug;
use crate::emul::Width;
use crate::emul::io::{Devices, PortRights};
use crate::kit::{Lock, Rank, Vaddr};
use crate::ports::Ports;

const CMOS_INDEX: u16 = 0x70;
const CMOS_DATA: u16 = 0x71;

/// Held from the write of an index register to the access to its data register.
static INDEXED_PORTS: Lock<()> = Lock::new(Rank::Cmos, ());

fn input(port: u16, width: Width) -> u32 {
    match width {
        Width::Byte => u32::from(port::inb(port)),
        Width::Word => u32::from(port::inw(port)),
        Width::Dword => port::inl(port),
    }
}

fn output(port: u16, width: Width, value: u32) {
    match width {
        Width::Byte => port::outb(port, value as u8),
        Width::Word => port::outw(port, value as u16),
        Width::Dword => port::outl(port, value),
    }
}

impl PortRights for Emulated<'_, '_> {
    fn iopl_suffices(&self) -> bool {
        virtual_ring(self.ctx) <= self.ctx.st.pv().iopl
    }
    fn bitmap_allows(&mut self, port: u16, width: Width) -> bool {
        let (bitmap, ports) = self.ctx.st.pv().iobmp;
        let end = u32::from(port).saturating_add(u32::from(width.bytes()));
        // Bytes that can't be read count as ones, which forbid the access.
        let closed = |port: u32| {
            let byte = Vaddr(bitmap.wrapping_add(u64::from(port / 8)));
            table::kernel_byte(self.ctx.st.pv(), byte)
                .is_none_or(|byte| byte >> (port % 8) & 1 != 0)
        };
        end < ports && !(u32::from(port)..end).any(closed)
    }
    fn holds_ports(&self, port: u16, width: Width) -> bool {
        let first = u64::from(port);
        let last = first
            .saturating_add(u64::from(width.bytes()))
            .saturating_sub(1);
        self.ctx.dom.io_rights.lock().ports.contains(first..=last)
    }
    fn io_breakpoints(&self, port: u16, width: Width) -> u64 {
        debug::io_hits(&self.ctx.st.debug, port, width.bytes())
    }
}

impl Devices for Emulated<'_, '_> {
    fn port_in(&mut self, port: u16, width: Width) -> u32 {
        input(port, width)
    }
    fn port_out(&mut self, port: u16, width: Width, value: u32) {
        output(port, width, value);
    }
    fn with_ports<R>(&mut self, act: impl FnOnce(&mut Ports) -> R) -> R {
        act(&mut self.ctx.dom.pc_ports.lock())
    }
    fn pci_read(&mut self, address: u32, offset: u16, width: Width) -> u32 {
        let offset = offset as u8;
        match width {
            Width::Byte => u32::from(pci::read8(address, offset)),
            Width::Word => u32::from(pci::read16(address, offset)),
            Width::Dword => pci::read32(address, offset),
        }
    }
    fn pci_write(&mut self, address: u32, offset: u16, width: Width, value: u32) {
        let offset = offset as u8;
        match width {
            Width::Byte => pci::write8(address, offset, value as u8),
            Width::Word => pci::write16(address, offset, value as u16),
            Width::Dword => pci::write32(address, offset, value),
        }
    }
    fn cmos_read(&mut self, index: u8) -> u8 {
        let _one_user = INDEXED_PORTS.lock();
        port::outb(CMOS_INDEX, index);
        port::inb(CMOS_DATA)
    }
    fn cmos_write(&mut self, index: u8, value: u8) {
        let _one_user = INDEXED_PORTS.lock();
        port::outb(CMOS_INDEX, index);
        port::outb(CMOS_DATA, value);
    }
    fn now_ns(&self) -> u64 {
        time::now_ns()
    }
}
