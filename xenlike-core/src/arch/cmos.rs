//! The battery-backed clock (MC146818), which is read once at boot.

use super::port::{inb, outb};

/// The clock's time and date registers as read, in the number format of status register B.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Shown {
    second: u8,
    minute: u8,
    hour: u8,
    day: u8,
    month: u8,
    year: u8,
}

/// Status register B: numbers are binary (else BCD), hours count to 24 (else to 12 with a PM bit).
const BINARY: u8 = 4;
const HOURS_24: u8 = 2;
const AFTERNOON: u8 = 0x80;
/// Status register A: the registers change now or within 244 µs.
const UPDATING: u8 = 0x80;

fn register(number: u8) -> u8 {
    outb(0x70, number);
    inb(0x71)
}

fn shown() -> Shown {
    Shown {
        second: register(0),
        minute: register(2),
        hour: register(4),
        day: register(7),
        month: register(8),
        year: register(9),
    }
}

/// The time that the clock shows, in seconds since 1970; it is taken to be UTC. 0 if there is no clock.
pub fn seconds() -> u64 {
    for _ in 0..100_000 {
        if register(0xa) & UPDATING != 0 {
            continue;
        }
        let first = shown();
        // An SMI between the check and the reading may have lasted until an update began, so both readings could be
        // half-updated.
        if first == shown() && register(0xa) & UPDATING == 0 {
            return decode(first, register(0xb)).unwrap_or(0);
        }
    }
    0
}

fn decode(shown: Shown, status: u8) -> Option<u64> {
    let number = |n: u8| {
        if status & BINARY != 0 {
            n
        } else {
            (n >> 4) * 10 + (n & 0xf)
        }
    };
    let mut hour = number(shown.hour & !AFTERNOON);
    if status & HOURS_24 == 0 {
        hour = hour % 12 + if shown.hour & AFTERNOON != 0 { 12 } else { 0 };
    }
    let [second, minute, day, month, year] = [
        shown.second,
        shown.minute,
        shown.day,
        shown.month,
        shown.year,
    ]
    .map(|n| u64::from(number(n)));
    if !(1..=12).contains(&month) || day == 0 || second > 59 || minute > 59 {
        return None;
    }
    let year = if year < 70 { 2000 + year } else { 1900 + year };
    let seconds = second + 60 * (minute + 60 * u64::from(hour));
    Some(days(year, month, day) * 86400 + seconds)
}

/// The days from 1970-01-01 to a date.
fn days(year: u64, month: u64, day: u64) -> u64 {
    // Counts years from March, so that the leap day comes last.
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let before_year = year * 365 + year / 4 - year / 100 + year / 400;
    before_year + (month * 153 + 2) / 5 + day - 1 - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(second: u8, minute: u8, hour: u8, day: u8, month: u8, year: u8) -> Shown {
        Shown {
            second,
            minute,
            hour,
            day,
            month,
            year,
        }
    }

    #[test]
    fn dates() {
        assert_eq!(days(1970, 1, 1), 0);
        assert_eq!(days(2000, 2, 29), 11_016);
        assert_eq!(days(2026, 11, 22), 20_779);
    }

    #[test]
    fn both_number_forms() {
        let binary = decode(shown(5, 4, 15, 22, 11, 26), BINARY | HOURS_24);
        assert_eq!(binary, Some(20_779 * 86400 + 15 * 3600 + 4 * 60 + 5));
        assert_eq!(decode(shown(0x05, 0x04, 0x83, 0x22, 0x11, 0x26), 0), binary);
        assert_eq!(decode(shown(0xff, 0xff, 0xff, 0xff, 0xff, 0xff), 0), None);
    }
}
