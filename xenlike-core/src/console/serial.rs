//! A 16550 serial port, driven by polling and by its interrupt. Nothing here waits but
//! [`Serial::drain`].

use crate::arch::port::{inb, outb};

/// Register offsets.
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
/// Bytes the transmitter takes when it says that it is empty.
const FIFO_BYTES: usize = 16;
/// Looks at a busy transmitter before it is taken for broken: longer than a byte at 1200 baud.
const PATIENCE: u32 = 1_000_000;

/// How a port is set, as in Xen's `com1=`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Setting {
    /// The first of its eight I/O ports.
    pub base: u16,
    /// Bits a second; 0 leaves the line as the firmware set it.
    pub baud: u32,
    /// The line control register: bits, parity, stop bits.
    pub line: u8,
    /// Its interrupt; 0: polled only.
    pub irq: u8,
}

impl Setting {
    /// COM1 at 115200 baud, 8n1.
    pub const COM1: Self = Self {
        base: 0x3f8,
        baud: 115_200,
        line: 3,
        irq: 4,
    };
    /// COM2 at 115200 baud, 8n1.
    pub const COM2: Self = Self {
        base: 0x2f8,
        baud: 115_200,
        line: 3,
        irq: 3,
    };

    /// Changes this setting as `text` says: `baud[,DPS[,io-base[,irq]]]`; `auto` and empty parts
    /// change nothing.
    ///
    /// # Errors
    /// The part that is not understood.
    pub fn parse(mut self, text: &str) -> Result<Self, &str> {
        let given = |part: &str| !part.is_empty() && part != "auto";
        for (n, part) in text.split(',').enumerate().filter(|(_, part)| given(part)) {
            match n {
                0 => self.baud = part.parse().map_err(|_| part)?,
                1 => self.line = line_control(part).ok_or(part)?,
                2 => self.base = number(part).ok_or(part)?,
                3 => self.irq = part.parse().map_err(|_| part)?,
                _ => return Err(part),
            }
        }
        Ok(self)
    }
}

/// A hexadecimal number with 0x, or a decimal one.
fn number(text: &str) -> Option<u16> {
    match text.strip_prefix("0x") {
        Some(hex) => u16::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

/// `8n1` and its like.
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

/// What a port interrupts for: the interrupt enable register's values.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Waiting {
    /// A byte that arrives.
    Nothing = 1,
    /// And room to send: there are bytes in the queue.
    ToSend = 3,
}

/// A serial port that is there.
#[derive(Clone, Copy, Debug)]
pub struct Serial {
    base: u16,
}

impl Serial {
    /// Sets the port up; nothing if no port answers.
    pub fn open(setting: Setting) -> Option<Self> {
        let port = Self { base: setting.base };
        for probe in [0x5a, 0xa5] {
            outb(port.base + SCRATCH, probe);
            if inb(port.base + SCRATCH) != probe {
                return None;
            }
        }
        outb(port.base + INTERRUPT_ENABLE, 0);
        if let Some(divisor) = 115_200_u32.checked_div(setting.baud) {
            let divisor = divisor.clamp(1, 0xffff);
            outb(port.base + LINE_CONTROL, DIVISOR_LATCH);
            outb(port.base + DATA, divisor as u8);
            outb(port.base + INTERRUPT_ENABLE, (divisor >> 8) as u8);
        }
        outb(port.base + LINE_CONTROL, setting.line);
        outb(port.base + FIFO_CONTROL, 7);
        outb(port.base + MODEM_CONTROL, 0xb);
        Some(port)
    }
    /// Lets the port interrupt when a byte arrived, and if something waits to be sent, when it can send again.
    pub fn set_interrupts(self, waiting: Waiting) {
        outb(self.base + INTERRUPT_ENABLE, waiting as u8);
    }
    /// Takes the port's interrupt line down, whatever it was up for.
    pub fn stop_interrupts(self) {
        outb(self.base + INTERRUPT_ENABLE, 0);
    }
    fn status(self) -> u8 {
        inb(self.base + LINE_STATUS)
    }
    /// Sends bytes as long as the transmitter takes them at once, as `next` gives them.
    pub fn pump(self, mut next: impl FnMut() -> Option<u8>) {
        while self.status() & STATUS_SEND_EMPTY != 0 {
            for _ in 0..FIFO_BYTES {
                match next() {
                    Some(byte) => outb(self.base + DATA, byte),
                    None => return,
                }
            }
        }
    }
    /// Sends one byte, waiting for the transmitter. For a panic and the first moments.
    pub fn drain(self, byte: u8) {
        for _ in 0..PATIENCE {
            if self.status() & STATUS_SEND_EMPTY != 0 {
                break;
            }
            core::hint::spin_loop();
        }
        outb(self.base + DATA, byte);
    }
    /// A byte that arrived.
    pub fn receive(self) -> Option<u8> {
        let status = self.status();
        // An absent port reads as all ones.
        (status != 0xff && status & STATUS_DATA_READY != 0).then(|| inb(self.base + DATA))
    }
    /// The I/O ports it has.
    pub fn ports(self) -> core::ops::Range<u16> {
        self.base..self.base + 8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_as_xen_spells_them() {
        let parse = |text| Setting::COM1.parse(text);
        assert_eq!(parse("115200,8n1"), Ok(Setting::COM1));
        assert_eq!(parse(""), Ok(Setting::COM1));
        assert_eq!(
            parse("9600,7e2,0x3e8,0"),
            Ok(Setting {
                base: 0x3e8,
                baud: 9600,
                line: 0b1_1110,
                irq: 0
            })
        );
        assert_eq!(parse("auto,8n1"), Ok(Setting::COM1));
        assert_eq!(parse("fast"), Err("fast"));
        assert_eq!(parse("9600,9n1"), Err("9n1"));
    }
}
