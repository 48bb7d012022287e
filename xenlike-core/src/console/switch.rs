//! Who gets serial input: domain 0, or the core's own debug keys. `Ctrl-A`, typed three times, changes that.

/// The byte of `Ctrl-A`.
const SWITCH: u8 = 1;
/// How often it must be typed.
const TIMES: u8 = 3;

/// Who reads what is typed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reader {
    /// Domain 0, as console input.
    Domain,
    /// The core, as debug keys.
    Core,
}

/// The effect of a typed byte.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Typed {
    /// None yet, because it may be the start of a switch.
    Held,
    /// The reader gets this number of `Ctrl-A` bytes that were held back, and then this byte.
    For(Reader, u8, u8),
    /// The reader has changed to this one.
    Switched(Reader),
}

/// The state of the input: its reader, and the number of `Ctrl-A` bytes that are held back.
#[derive(Debug)]
pub struct Switch {
    reader: Reader,
    held: u8,
}

impl Switch {
    /// Initially domain 0 reads.
    pub const fn new() -> Self {
        Self {
            reader: Reader::Domain,
            held: 0,
        }
    }

    /// Handles a typed byte.
    pub fn take(&mut self, byte: u8) -> Typed {
        if byte != SWITCH {
            return Typed::For(self.reader, core::mem::take(&mut self.held), byte);
        }
        self.held += 1;
        if self.held < TIMES {
            return Typed::Held;
        }
        self.held = 0;
        self.reader = match self.reader {
            Reader::Domain => Reader::Core,
            Reader::Core => Reader::Domain,
        };
        Typed::Switched(self.reader)
    }

    /// The byte that is held back.
    pub const HELD: u8 = SWITCH;
}

impl Default for Switch {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_in_a_row_switch_and_fewer_are_typed() {
        let mut switch = Switch::new();
        assert_eq!(switch.take(b'x'), Typed::For(Reader::Domain, 0, b'x'));
        assert_eq!(switch.take(1), Typed::Held);
        assert_eq!(switch.take(1), Typed::Held);
        assert_eq!(switch.take(b'y'), Typed::For(Reader::Domain, 2, b'y'));
        assert_eq!([switch.take(1), switch.take(1)], [Typed::Held; 2]);
        assert_eq!(switch.take(1), Typed::Switched(Reader::Core));
        assert_eq!(switch.take(b'h'), Typed::For(Reader::Core, 0, b'h'));
        assert_eq!([switch.take(1), switch.take(1)], [Typed::Held; 2]);
        assert_eq!(switch.take(1), Typed::Switched(Reader::Domain));
    }
}
