//! Whom serial input is for: domain 0, or the core's own debug keys. `Ctrl-A` three times changes it.

/// `Ctrl-A`.
const SWITCH: u8 = 1;
/// How often it has to be typed.
const TIMES: u8 = 3;

/// Who reads what is typed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reader {
    /// Domain 0.
    Domain,
    /// The core.
    Core,
}

/// What a typed byte comes to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Typed {
    /// Nothing yet: it may be the start of a switch.
    Held,
    /// The reader gets so many of the switch's bytes that were held, and then this one.
    For(Reader, u8, u8),
    /// From now on this one reads.
    Switched(Reader),
}

/// Follows what is typed.
#[derive(Debug)]
pub struct Switch {
    reader: Reader,
    held: u8,
}

impl Switch {
    /// Domain 0 reads.
    pub const fn new() -> Self {
        Self {
            reader: Reader::Domain,
            held: 0,
        }
    }

    /// `byte` was typed.
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

    /// The byte that is held.
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
