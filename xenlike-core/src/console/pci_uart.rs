//! Finds a serial port on a PCI card (PCI 3.0 §6.1, §6.2.5; class 07, subclass 00), for `com1=...,pci`.

/// Which card is used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wish {
    /// The first one, except Intel's management engine (`pci`).
    Card,
    /// That of Intel's management engine: serial over LAN (`amt`).
    Amt,
    /// The function with this number: the bus in the upper byte, device and function in the lower.
    At(u16),
}

/// The location of a port's registers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// Eight I/O ports, from this one on.
    Ports(u16),
    /// Eight bytes of memory, from this machine address on.
    Memory(u64),
}

/// A serial port that was found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Found {
    /// The number of the function.
    pub function: u16,
    /// The location of its registers.
    pub place: Place,
}

const ID: u8 = 0;
const CLASS: u8 = 8;
const HEADER: u8 = 12;
const BAR0: u8 = 16;
const BAR1: u8 = 20;
const SERIAL: u32 = 0x0700;
const INTEL: u32 = 0x8086;
const MULTIFUNCTION: u32 = 1 << 23;

/// Searches all functions by `read` (function, register): each of the 65 536 possible ones at most once.
pub fn find(wish: Wish, read: impl Fn(u16, u8) -> u32) -> Option<Found> {
    if let Wish::At(function) = wish {
        return at(function, &read);
    }
    let is_there = |function: &u16| read(*function, ID) as u16 != u16::MAX;
    let devices = (0..=u16::MAX).step_by(8).filter(is_there);
    let functions = devices.flat_map(|first| {
        let more = read(first, HEADER) & MULTIFUNCTION != 0;
        first..=first + if more { 7 } else { 0 }
    });
    functions.filter(is_there).find_map(|function| {
        let is_amt = read(function, ID) & 0xffff == INTEL && function >> 8 == 0;
        (is_amt == (wish == Wish::Amt)).then(|| at(function, &read))?
    })
}

/// The serial port of the function, if it is one, and the firmware has assigned it an address.
fn at(function: u16, read: &impl Fn(u16, u8) -> u32) -> Option<Found> {
    if read(function, CLASS) >> 16 != SERIAL {
        return None;
    }
    let bar = read(function, BAR0);
    let place = if bar & 1 != 0 {
        let port = u16::try_from(bar & !3).ok()?;
        Place::Ports(port).valid()?
    } else {
        let is_64_bit = bar & 6 == 4;
        let high = if is_64_bit { read(function, BAR1) } else { 0 };
        Place::Memory(u64::from(high) << 32 | u64::from(bar & !0xf)).valid()?
    };
    Some(Found { function, place })
}

impl Place {
    /// The location, if eight registers can be there.
    pub fn valid(self) -> Option<Self> {
        let ok = match self {
            Self::Ports(first) => first != 0 && first <= u16::MAX - 7,
            // Machine addresses have at most 52 bits (APM vol. 2 §5.3).
            Self::Memory(at) => at != 0 && at < (1 << 52) - 8,
        };
        ok.then_some(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// Functions by number, with the registers id, class, header, BAR 0 and BAR 1.
    fn machine(functions: &[(u16, [u32; 5])]) -> impl Fn(u16, u8) -> u32 + use<> {
        let map: BTreeMap<u16, [u32; 5]> = functions.iter().copied().collect();
        move |function, register| {
            let registers = [ID, CLASS, HEADER, BAR0, BAR1];
            let index = registers.iter().position(|r| *r == register);
            let found = map.get(&function).zip(index);
            found.map_or(u32::MAX, |(words, index)| words[index])
        }
    }

    const CLASS_WORD: u32 = 0x0700_0200;

    #[test]
    fn cards_and_the_management_engine() {
        let read = machine(&[
            (0, [0x1234_8086, 0x0600_0000, 0, 0, 0]),
            (22 << 3, [1 << 16 | INTEL, 0x0780_0000, MULTIFUNCTION, 0, 0]),
            (
                22 << 3 | 3,
                [2 << 16 | INTEL, CLASS_WORD, MULTIFUNCTION, 0xf0e1, 0],
            ),
            (3 << 8, [0x0002_1b36, CLASS_WORD, 0, 0xc001, 0]),
            (4 << 8, [0xc158_1415, CLASS_WORD, 0, 0xfe00_0004, 2]),
        ]);
        let found = |wish| find(wish, &read).map(|found| (found.function, found.place));
        assert_eq!(found(Wish::Card), Some((0x300, Place::Ports(0xc000))));
        assert_eq!(found(Wish::Amt), Some((0xb3, Place::Ports(0xf0e0))));
        assert_eq!(
            found(Wish::At(0x400)),
            Some((0x400, Place::Memory(0x2_fe00_0000)))
        );
        assert_eq!(found(Wish::At(0)), None);
        assert_eq!(found(Wish::At(0x500)), None);
    }

    #[test]
    fn addresses_that_cannot_be_are_refused() {
        for bar in [0, 1, 0xffff_fffd, 0xfffd, 0x1_0001] {
            let read = machine(&[(8, [0x0002_1b36, CLASS_WORD, 0, bar, 0])]);
            assert_eq!(find(Wish::Card, read), None, "{bar:#x}");
        }
        assert_eq!(find(Wish::Card, |_, _| 0), None);
    }
}
