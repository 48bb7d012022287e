//! The line editor: takes keys and produces the echo, with history and completion. It
//! understands VT100 key sequences.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// Number of lines that the history keeps.
const HISTORY: usize = 200;
/// Maximum length of a line.
const MAX_LINE: usize = 1000;

/// The effect of a key, for the caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Key {
    /// The editor handled the key itself.
    Nothing,
    /// The line is complete.
    Line(String),
    /// The line was discarded (Ctrl-C).
    Dropped,
    /// The tab key, on which the caller may complete the line.
    Complete,
    /// Ctrl-D on an empty line.
    End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Plain,
    Escape,
    /// After `ESC [` or `ESC O`, with the number read so far.
    Sequence(u8),
    /// After a carriage return; a following line feed is skipped.
    Return,
}

/// The state of the editor.
#[derive(Debug)]
pub struct Editor {
    prompt: &'static str,
    line: Vec<char>,
    cursor: usize,
    state: State,
    history: Vec<String>,
    /// The position in the history; its length stands for the line being written.
    place: usize,
    /// The line being written, saved while a history line is shown.
    draft: String,
}

impl Editor {
    /// Creates an editor with this prompt.
    #[must_use]
    pub fn new(prompt: &'static str) -> Editor {
        Editor {
            prompt,
            line: Vec::new(),
            cursor: 0,
            state: State::Plain,
            history: Vec::new(),
            place: 0,
            draft: String::new(),
        }
    }

    /// Handles a byte from the keyboard, and appends the text to show to `echo`.
    pub fn key(&mut self, byte: u8, echo: &mut String) -> Key {
        match core::mem::replace(&mut self.state, State::Plain) {
            State::Return if byte == b'\n' => Key::Nothing,
            State::Plain | State::Return => self.plain(byte, echo),
            State::Escape => {
                if matches!(byte, b'[' | b'O') {
                    self.state = State::Sequence(0);
                }
                Key::Nothing
            }
            State::Sequence(number) => {
                match byte {
                    b'0'..=b'9' => {
                        let digit = byte - b'0';
                        self.state = State::Sequence(number.wrapping_mul(10).wrapping_add(digit));
                    }
                    b';' => self.state = State::Sequence(number),
                    _ => self.sequence(byte, number, echo),
                }
                Key::Nothing
            }
        }
    }

    fn plain(&mut self, byte: u8, echo: &mut String) -> Key {
        match byte {
            b'\r' | b'\n' => {
                if byte == b'\r' {
                    self.state = State::Return;
                }
                echo.push_str("\r\n");
                return Key::Line(self.finish());
            }
            b'\t' => return Key::Complete,
            0x1b => self.state = State::Escape,
            0x03 => {
                echo.push_str("^C\r\n");
                self.set("");
                return Key::Dropped;
            }
            0x04 if self.line.is_empty() => return Key::End,
            0x04 => self.delete(self.cursor, self.cursor + 1, echo),
            0x01 => self.go(0, echo),
            0x05 => self.go(self.line.len(), echo),
            0x02 => self.go(self.cursor.saturating_sub(1), echo),
            0x06 => self.go(self.cursor + 1, echo),
            0x10 => self.recall(self.place.wrapping_sub(1), echo),
            0x0e => self.recall(self.place + 1, echo),
            0x08 | 0x7f => self.delete(self.cursor.wrapping_sub(1), self.cursor, echo),
            0x15 => self.delete(0, self.cursor, echo),
            0x0b => self.delete(self.cursor, self.line.len(), echo),
            0x17 => self.delete(self.word_start(), self.cursor, echo),
            0x0c => {
                echo.push_str("\x1b[2J\x1b[H");
                self.draw(echo);
            }
            0x20..0x7f => self.insert(&String::from(char::from(byte)), echo),
            _ => {}
        }
        Key::Nothing
    }

    fn sequence(&mut self, byte: u8, number: u8, echo: &mut String) {
        match (byte, number) {
            (b'A', _) => self.recall(self.place.wrapping_sub(1), echo),
            (b'B', _) => self.recall(self.place + 1, echo),
            (b'C', _) => self.go(self.cursor + 1, echo),
            (b'D', _) => self.go(self.cursor.saturating_sub(1), echo),
            (b'H', _) | (b'~', 1 | 7) => self.go(0, echo),
            (b'F', _) | (b'~', 4 | 8) => self.go(self.line.len(), echo),
            (b'~', 3) => self.delete(self.cursor, self.cursor + 1, echo),
            _ => {}
        }
    }

    /// Redraws the prompt and the line.
    pub fn draw(&self, echo: &mut String) {
        echo.push('\r');
        echo.push_str(self.prompt);
        echo.extend(&self.line);
        echo.push_str("\x1b[K");
        let back = self.line.len() - self.cursor;
        if back > 0 {
            echo.push_str(&format!("\x1b[{back}D"));
        }
    }

    /// The text before the cursor, for completion.
    #[must_use]
    pub fn before_cursor(&self) -> String {
        self.line.iter().take(self.cursor).collect()
    }

    /// Inserts text at the cursor.
    pub fn insert(&mut self, text: &str, echo: &mut String) {
        let at_end = self.cursor == self.line.len();
        for c in text.chars().filter(|c| !c.is_control()) {
            if self.line.len() < MAX_LINE {
                self.line.insert(self.cursor, c);
                self.cursor += 1;
                if at_end {
                    echo.push(c);
                }
            }
        }
        if !at_end {
            self.draw(echo);
        }
    }

    fn set(&mut self, text: &str) {
        self.line = text.chars().collect();
        self.cursor = self.line.len();
        self.place = self.history.len();
    }

    fn finish(&mut self) -> String {
        let line: String = self.line.iter().collect();
        if !line.trim().is_empty() && self.history.last() != Some(&line) {
            self.history.push(line.clone());
            let excess = self.history.len().saturating_sub(HISTORY);
            self.history.drain(..excess);
        }
        self.set("");
        line
    }

    fn go(&mut self, to: usize, echo: &mut String) {
        let to = to.min(self.line.len());
        match to.cmp(&self.cursor) {
            core::cmp::Ordering::Less => echo.push_str(&format!("\x1b[{}D", self.cursor - to)),
            core::cmp::Ordering::Greater => echo.push_str(&format!("\x1b[{}C", to - self.cursor)),
            core::cmp::Ordering::Equal => {}
        }
        self.cursor = to;
    }

    fn delete(&mut self, from: usize, to: usize, echo: &mut String) {
        let to = to.min(self.line.len());
        if from >= to {
            return;
        }
        self.line.drain(from..to);
        self.cursor = from;
        self.draw(echo);
    }

    fn word_start(&self) -> usize {
        let before: &[char] = self.line.get(..self.cursor).unwrap_or_default();
        let word_end = before
            .iter()
            .rposition(|c| *c != ' ')
            .map_or(0, |at| at + 1);
        before
            .iter()
            .take(word_end)
            .rposition(|c| *c == ' ')
            .map_or(0, |at| at + 1)
    }

    fn recall(&mut self, place: usize, echo: &mut String) {
        let text = match self.history.get(place) {
            Some(line) => line.clone(),
            None if place == self.history.len() && self.place < place => {
                core::mem::take(&mut self.draft)
            }
            None => return,
        };
        if self.place == self.history.len() {
            self.draft = self.line.iter().collect();
        }
        self.set(&text);
        self.place = place;
        self.draw(echo);
    }

    /// The lines typed so far, oldest first.
    #[must_use]
    pub fn history(&self) -> &[String] {
        &self.history
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn line(keys: &str) -> String {
        let mut editor = Editor::new("> ");
        typed(&mut editor, keys)
    }

    fn typed(editor: &mut Editor, keys: &str) -> String {
        let mut echo = String::new();
        for byte in keys.bytes() {
            if let Key::Line(line) = editor.key(byte, &mut echo) {
                return line;
            }
        }
        panic!("no line in {keys:?}");
    }

    #[test]
    fn edits() {
        for (keys, wanted) in [
            ("list\r", "list"),
            ("lost\x08\x7fst\r", "lost"),
            ("ist\x01l\r", "list"),
            ("lit\x1b[Ds\r", "list"),
            ("lisst\x1b[D\x1b[D\x1b[3~\r", "list"),
            ("one two  \x17three\r", "one three"),
            ("one\x15two\r", "two"),
            ("one\x1b[H\x0btwo\r", "two"),
            ("ab\x1b[Hx\x1b[Fy\x1bOCz\r", "xabyz"),
            ("gone\x03list\n", "list"),
        ] {
            assert_eq!(line(keys), wanted, "{keys:?}");
        }
    }

    #[test]
    fn history_goes_back_and_forth() {
        let mut editor = Editor::new("> ");
        for keys in ["one\r", "\ntwo\r", "two\r"] {
            typed(&mut editor, keys);
        }
        assert_eq!(editor.history(), ["one", "two"]);
        assert_eq!(typed(&mut editor, "\x1b[A\x1b[A\r"), "one");
        assert_eq!(typed(&mut editor, "draft\x1b[A\x10\x1b[B\x1b[B\r"), "draft");
        assert_eq!(typed(&mut editor, "\x1b[B\x1b[Ax\r"), "draftx");
    }

    #[test]
    fn echo_is_the_line_as_typed() {
        let (mut editor, mut echo) = (Editor::new("> "), String::new());
        for byte in *b"ab\r" {
            editor.key(byte, &mut echo);
        }
        assert_eq!(echo, "ab\r\n");
    }

    proptest! {
        #[test]
        fn any_bytes_do(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let (mut editor, mut echo) = (Editor::new("> "), String::new());
            for byte in bytes {
                editor.key(byte, &mut echo);
                prop_assert!(editor.cursor <= editor.line.len());
            }
        }
    }
}
