//! Converts a serial port's bytes to plain text lines.

/// Removes carriage returns and terminal escape sequences (ECMA-48: CSI, OSC, two-byte ones) from a byte stream,
/// which may be split anywhere.
#[derive(Debug, Default)]
pub struct PlainText {
    state: State,
}

#[derive(Debug, Default, Clone, Copy)]
enum State {
    #[default]
    Text,
    Escape,
    Csi,
    Osc,
}

impl PlainText {
    /// Appends the remaining text of `bytes` to `text`.
    pub fn feed(&mut self, bytes: &[u8], text: &mut String) {
        let mut kept = Vec::with_capacity(bytes.len());
        for &byte in bytes {
            self.state = match (self.state, byte) {
                (State::Text, 0x1b) | (State::Osc, 0x1b) => State::Escape,
                (State::Text, b'\n' | b'\t' | 0x20..) => {
                    kept.push(byte);
                    State::Text
                }
                (State::Text, _) => State::Text,
                (State::Escape, b'[') => State::Csi,
                (State::Escape, b']') => State::Osc,
                // A charset selection has one more byte, which the rule for the end of a CSI also covers.
                (State::Escape, b'(' | b')') => State::Csi,
                (State::Escape, _) => State::Text,
                (State::Csi, 0x40..=0x7e) => State::Text,
                (State::Csi, _) => State::Csi,
                (State::Osc, 0x07) => State::Text,
                (State::Osc, _) => State::Osc,
            };
        }
        text.push_str(&String::from_utf8_lossy(&kept));
    }
}

#[cfg(test)]
mod tests {
    use super::PlainText;

    #[test]
    fn escapes_go_even_when_cut_in_two() {
        let mut plain = PlainText::default();
        let mut text = String::new();
        plain.feed(b"a\x1b[1", &mut text);
        plain.feed(b";31mb\r\n\x1b[2J\x1b]0;title\x07c", &mut text);
        assert_eq!(text, "ab\nc");
    }
}
