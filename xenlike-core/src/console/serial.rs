//! A 16550 serial port, at I/O ports or in memory, driven by polling and by
//! its interrupt. Only [`Serial::drain`] waits.

use super::pci_uart::{Place, Wish};
use crate::arch::mmio::Window;
use crate::arch::port::{inb, outb};

/// The offsets of the registers.
const DATA: u16 = 0;
const INTERRUPT_ENABLE: u16 = 1;
const FIFO_CONTROL: u16 = 2;
const LINE_CONTROL: u16 = 3;
const MODEM_CONTROL: u16 = 4;
const LINE_STATUS: u16 = 5;
const SCRATCH: u16 = 7;

const DIVISOR_LATCH: u8 = 0x80;
const STATUS_DATA_READY: u8 = 1;
const STATUS_SEND_EMPTY: u8 = 0x20;
/// The number of bytes that the transmitter accepts when it reports that it is empty.
const FIFO_BYTES: usize = 16;
/// The number of checks of a busy transmitter before it counts as broken; longer than a byte takes at 1200 baud.
const PATIENCE: u32 = 1_000_000;

/// Where the port is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Base {
    /// The port is at this location.
    At(Place),
    /// The port is on a PCI card.
    Pci(Wish),
}

/// The parameters of a port, as in Xen's `com1=`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Setting {
    /// The location of the port.
    pub base: Base,
    /// The rate in bits per second; 0 keeps what the firmware has set.
    pub baud: u32,
    /// The rate with a divisor of 1, in bits per second.
    pub base_baud: u32,
    /// The value of the line control register: data bits, parity, stop bits.
    pub line: u8,
    /// The number of its ISA interrupt; 0 if the port is only polled.
    pub irq: u8,
}

impl Setting {
    /// COM1 at 115200 baud, 8n1.
    pub const COM1: Self = Self {
        base: Base::At(Place::Ports(0x3f8)),
        baud: 115_200,
        base_baud: 115_200,
        line: 3,
        irq: 4,
    };
    /// COM2 at 115200 baud, 8n1.
    pub const COM2: Self = Self {
        base: Base::At(Place::Ports(0x2f8)),
        baud: 115_200,
        base_baud: 115_200,
        line: 3,
        irq: 3,
    };

    /// Applies `text` to this setting: `baud[/base-baud][,DPS[,io-base|pci|amt[,irq|msi[,port-bdf]]]]`. The word `auto`
    /// and empty parts change nothing. A port that isn't one of a PC's own is polled unless `irq` is given.
    ///
    /// # Errors
    /// The part of the text that is malformed.
    pub fn parse(mut self, text: &str) -> Result<Self, &str> {
        let given = |part: &str| !part.is_empty() && part != "auto";
        let mut irq = None;
        for (n, part) in text.split(',').enumerate().filter(|(_, part)| given(part)) {
            match n {
                0 => self.set_baud(part).ok_or(part)?,
                1 => self.line = line_control(part).ok_or(part)?,
                2 => self.base = base(part).ok_or(part)?,
                // The core uses no MSI for a console.
                3 if part == "msi" => irq = Some(0),
                3 => irq = Some(part.parse().map_err(|_| part)?),
                4 => self.base = Base::Pci(Wish::At(function(part).ok_or(part)?)),
                _ => return Err(part),
            }
        }
        let is_isa = matches!(self.base, Base::At(Place::Ports(_)));
        self.irq = irq.unwrap_or(if is_isa { self.irq } else { 0 });
        Ok(self)
    }

    fn set_baud(&mut self, text: &str) -> Option<()> {
        let (baud, base) = text.split_once('/').unwrap_or((text, ""));
        if baud != "auto" {
            self.baud = baud.parse().ok()?;
        }
        if !base.is_empty() {
            self.base_baud = base.parse().ok().filter(|baud| *baud != 0)?;
        }
        Some(())
    }
}

/// Parses an address, or a word for a PCI card. A number that can't be an I/O port is an address in memory.
fn base(text: &str) -> Option<Base> {
    match text {
        "pci" => return Some(Base::Pci(Wish::Card)),
        "amt" => return Some(Base::Pci(Wish::Amt)),
        _ => {}
    }
    let at = match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok()?,
        None => text.parse().ok()?,
    };
    let place = u16::try_from(at).map_or(Place::Memory(at), Place::Ports);
    place.valid().map(Base::At)
}

/// Parses `bus:device.function`, in hexadecimal digits.
fn function(text: &str) -> Option<u16> {
    let (bus, rest) = text.split_once(':')?;
    let (device, function) = rest.split_once('.')?;
    let part = |text, most| u16::from_str_radix(text, 16).ok().filter(|n| *n <= most);
    Some(part(bus, 0xff)? << 8 | part(device, 0x1f)? << 3 | part(function, 7)?)
}

/// Parses data bits, parity and stop bits, such as `8n1`, into the line control register's value.
fn line_control(text: &str) -> Option<u8> {
    let [data, parity, stop] = *text.as_bytes() else {
        return None;
    };
    let data = data.checked_sub(b'5').filter(|bits| *bits <= 3)?;
    let parity = match parity {
        b'n' => 0,
        b'o' => 1,
        b'e' => 3,
        b'm' => 5,
        b's' => 7,
        _ => return None,
    };
    let stop = stop.checked_sub(b'1').filter(|bits| *bits <= 1)?;
    Some(data | stop << 2 | parity << 3)
}

/// The interrupts of a port that are enabled: values of the interrupt enable register.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Waiting {
    /// An interrupt when a byte arrives; there is nothing to send.
    Nothing = 1,
    /// Also an interrupt when the port can send, because there are bytes in the queue.
    ToSend = 3,
}

/// How the registers of a port are accessed.
#[derive(Clone, Copy, Debug)]
pub enum Registers {
    /// At I/O ports, from this one on.
    Ports(u16),
    /// In memory, one byte each.
    Memory(Window),
}

/// A serial port that exists.
#[derive(Clone, Copy, Debug)]
pub struct Serial {
    registers: Registers,
}

impl Serial {
    /// Sets up the port; `None` if no port responds.
    pub fn open(registers: Registers, setting: Setting) -> Option<Self> {
        let port = Self { registers };
        for probe in [0x5a, 0xa5] {
            port.write(SCRATCH, probe);
            if port.read(SCRATCH) != probe {
                return None;
            }
        }
        port.write(INTERRUPT_ENABLE, 0);
        if let Some(divisor) = setting.base_baud.checked_div(setting.baud) {
            let divisor = divisor.clamp(1, 0xffff);
            port.write(LINE_CONTROL, DIVISOR_LATCH);
            port.write(DATA, divisor as u8);
            port.write(INTERRUPT_ENABLE, (divisor >> 8) as u8);
        }
        port.write(LINE_CONTROL, setting.line);
        port.write(FIFO_CONTROL, 7);
        port.write(MODEM_CONTROL, 0xb);
        Some(port)
    }
    /// Enables the port's interrupt for bytes that arrive, and if there are bytes to send, for room to send them.
    pub fn set_interrupts(self, waiting: Waiting) {
        self.write(INTERRUPT_ENABLE, waiting as u8);
    }
    /// Disables the port's interrupts, which lowers its interrupt line.
    pub fn stop_interrupts(self) {
        self.write(INTERRUPT_ENABLE, 0);
    }
    fn status(self) -> u8 {
        self.read(LINE_STATUS)
    }
    /// Sends the bytes that `next` returns, for as long as the transmitter accepts them at once.
    pub fn pump(self, mut next: impl FnMut() -> Option<u8>) {
        while self.status() & STATUS_SEND_EMPTY != 0 {
            for _ in 0..FIFO_BYTES {
                match next() {
                    Some(byte) => self.write(DATA, byte),
                    None => return,
                }
            }
        }
    }
    /// Sends a byte and waits for the transmitter. For a panic and the first moments.
    pub fn drain(self, byte: u8) {
        for _ in 0..PATIENCE {
            if self.status() & STATUS_SEND_EMPTY != 0 {
                break;
            }
            core::hint::spin_loop();
        }
        self.write(DATA, byte);
    }
    /// Takes a byte that has arrived, if there is one.
    pub fn receive(self) -> Option<u8> {
        let status = self.status();
        // An absent port reads as all ones.
        (status != 0xff && status & STATUS_DATA_READY != 0).then(|| self.read(DATA))
    }
    /// The I/O ports that it occupies, if it isn't in memory.
    pub fn ports(self) -> Option<core::ops::Range<u16>> {
        match self.registers {
            Registers::Ports(first) => Some(first..first.saturating_add(8)),
            Registers::Memory(_) => None,
        }
    }
    /// Uses another mapping of the registers.
    pub fn move_to(&mut self, window: Window) {
        self.registers = Registers::Memory(window);
    }
    fn read(self, register: u16) -> u8 {
        match self.registers {
            Registers::Ports(first) => inb(first.wrapping_add(register)),
            Registers::Memory(window) => window.read8(usize::from(register)),
        }
    }
    fn write(self, register: u16, value: u8) {
        match self.registers {
            Registers::Ports(first) => outb(first.wrapping_add(register), value),
            Registers::Memory(window) => window.write8(usize::from(register), value),
        }
    }
}

#[cfg(test)]
#[expect(unsafe_code, reason = "a buffer in place of a port")]
mod tests {
    use super::*;
    use crate::kit::Vaddr;

    #[test]
    fn a_port_in_memory() {
        let mut registers = [0_u8; 8];
        // SAFETY: the buffer outlives the port and isn't accessed otherwise meanwhile.
        let window = unsafe { Window::new(Vaddr(registers.as_mut_ptr() as u64), 8) };
        let registers_in_memory = Registers::Memory(window);
        let port = Serial::open(registers_in_memory, Setting::COM1).expect("a scratch register");
        window.write8(
            usize::from(LINE_STATUS),
            STATUS_SEND_EMPTY | STATUS_DATA_READY,
        );
        port.drain(b'x');
        assert_eq!(port.receive(), Some(b'x'));
        assert_eq!(port.ports(), None);
        assert_eq!((registers[3], registers[4]), (3, 0xb));
        // SAFETY: a window of size 0 is never accessed.
        let nothing = Registers::Memory(unsafe { Window::new(Vaddr(0), 0) });
        assert!(Serial::open(nothing, Setting::COM1).is_none());
    }

    #[test]
    fn settings_as_xen_spells_them() {
        let parse = |text| Setting::COM1.parse(text);
        assert_eq!(parse("115200,8n1"), Ok(Setting::COM1));
        assert_eq!(parse(""), Ok(Setting::COM1));
        assert_eq!(
            parse("9600,7e2,0x3e8,0"),
            Ok(Setting {
                base: Base::At(Place::Ports(0x3e8)),
                baud: 9600,
                base_baud: 115_200,
                line: 0b1_1110,
                irq: 0
            })
        );
        assert_eq!(parse("auto,8n1"), Ok(Setting::COM1));
        assert_eq!(parse("fast"), Err("fast"));
        let place = |text| parse(text).map(|setting| (setting.base, setting.irq));
        let pci = |wish, irq| Ok((Base::Pci(wish), irq));
        assert_eq!(place("115200,8n1,pci"), pci(Wish::Card, 0));
        assert_eq!(place("115200,8n1,amt,msi"), pci(Wish::Amt, 0));
        assert_eq!(place("115200,8n1,pci,11,3:1f.7"), pci(Wish::At(0x3ff), 11));
        let memory = Base::At(Place::Memory(0xfe03_0000));
        assert_eq!(place("115200,8n1,0xfe030000"), Ok((memory, 0)));
        let clock = parse("115200/4000000,8n1,pci").map(|setting| setting.base_baud);
        assert_eq!(clock, Ok(4_000_000));
        for wrong in ["0xfffd", "0", "0xffffffffffffffff", "usb"] {
            assert_eq!(base(wrong), None, "{wrong}");
        }
        assert_eq!(parse("1/0"), Err("1/0"));
        assert_eq!(parse("9600,8n1,pci,0,0:20.0"), Err("0:20.0"));
        assert_eq!(parse("9600,9n1"), Err("9n1"));
    }
}
