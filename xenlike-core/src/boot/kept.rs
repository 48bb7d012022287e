//! The parts of the machine that the core keeps for itself and doesn't give to domain 0, and what domain 0
//! may know of the machine.

use alloc::string::String;

use guest_pv_abi::xen::{VgaConsoleInfo, XEN_VGATYPE_TEXT_MODE_3, XEN_VGATYPE_VESA_LFB};
use zerocopy::FromZeros;

use super::acpi::Machine;
use super::efi;
use super::info::{BootInfo, ScreenInfo};
use super::options::Options;
use crate::console;
use crate::console::screen::Surface;
use crate::kit::Maddr;
use crate::life::hardware_domain::Kept;
use crate::mm::device_frames;

/// Lets domain 0 only read the registers of the HPET.
pub fn protect_hpet(machine: &Machine) {
    if let Some(hpet) = machine.hpet.map(Maddr::mfn)
        && device_frames::protect(hpet..=hpet).is_err()
    {
        panic!("no memory for the HPET's frame");
    }
}

/// Collects the core's serial port and its interrupt, the interrupt controllers' pages, and the reports for domain 0.
pub fn kept(machine: &Machine, options: &Options, info: &BootInfo, speculation: String) -> Kept {
    let serial = console::serial_ports();
    let port_range =
        |ports: core::ops::Range<u16>| u64::from(ports.start)..=u64::from(ports.end) - 1;
    let irq = options
        .serial
        .map(|setting| setting.irq)
        .filter(|irq| *irq != 0);
    let controllers = machine.ioapics.iter().map(|ioapic| ioapic.at.0);
    Kept {
        ports: serial.map(port_range).into_iter().collect(),
        pages: core::iter::once(machine.lapic.0)
            .chain(controllers)
            .chain(super::serial::in_memory().map(|at| at.mfn().maddr().0))
            .collect(),
        irqs: irq
            .map(|irq| u64::from(machine.isa(irq).0))
            .into_iter()
            .collect(),
        screen: info.screen.as_ref().map(console_info),
        efi: efi::read(info),
        tables: machine.tables.clone(),
        speculation,
    }
}

/// The screen in the format that domain 0 reads (xen.h, `struct dom0_vga_console_info`).
fn console_info(screen: &ScreenInfo) -> VgaConsoleInfo {
    let mut info = VgaConsoleInfo::new_zeroed();
    match &screen.surface {
        // In text mode the fields have other meanings: the height of the font, the number of rows, the number of
        // columns.
        Surface::Text => {
            info.video_type = XEN_VGATYPE_TEXT_MODE_3 as u8;
            info.width = 16;
            info.bits_per_pixel = screen.height as u16;
            info.lfb_base = screen.width;
        }
        Surface::Pixels(format) => {
            info.video_type = XEN_VGATYPE_VESA_LFB as u8;
            (info.width, info.height) = (screen.width as u16, screen.height as u16);
            info.bytes_per_line = format.pitch as u16;
            info.bits_per_pixel = format.bytes as u16 * 8;
            info.lfb_base = screen.at.0 as u32;
            info.ext_lfb_base = (screen.at.0 >> 32) as u32;
            info.lfb_size = screen.bytes.div_ceil(64 << 10) as u32;
            let [red, green, blue] = format.channels;
            (info.red_pos, info.red_size) = red;
            (info.green_pos, info.green_size) = green;
            (info.blue_pos, info.blue_size) = blue;
        }
    }
    info
}
