//! The syntax of xl's configuration files, as Debian's libxlutil parses them: `key = value` lines, where a value is a
//! number, a string in single or double quotes, or a list in brackets that may span lines. `+=` appends to a string
//! or a list. Texts that libxlutil refuses are refused; a test compares the two parsers.
//!
//! There are two differences. A comment may end at the end of the file, without a newline. Octal escapes, which
//! libxlutil turns into an empty string, are refused in the same way as it refuses hexadecimal ones.

use alloc::borrow::ToOwned;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

/// A value as it is written in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// A number or a quoted string, without its quotes. As in xl, the same bytes can be used as a text or
    /// read as a number.
    Atom(Vec<u8>),
    /// A list, whose elements are values.
    List(Vec<Value>),
}

impl Value {
    /// The kind of value, for messages.
    #[must_use]
    pub fn kind(&self) -> String {
        match self {
            Value::Atom(bytes) => alloc::format!("{:?}", String::from_utf8_lossy(bytes)),
            Value::List(_) => "a list".to_string(),
        }
    }

    /// Reads a number as C's strtol does with base 0: decimal, 0x… or 0…, after optional blanks and a sign. No
    /// other text may follow.
    #[must_use]
    pub fn number(&self) -> Option<i64> {
        let Value::Atom(bytes) = self else {
            return None;
        };
        let text = core::str::from_utf8(bytes).ok()?;
        let text = text.trim_start_matches([' ', '\t', '\n', '\u{b}', '\u{c}', '\r']);
        let (sign, digits) = match text.strip_prefix('-') {
            Some(digits) => ("-", digits),
            None => ("", text.strip_prefix('+').unwrap_or(text)),
        };
        let hexadecimal = digits.strip_prefix("0x").or(digits.strip_prefix("0X"));
        let (digits, radix) = match hexadecimal {
            Some(digits) => (digits, 16),
            None if digits.starts_with('0') => (digits, 8),
            None => (digits, 10),
        };
        // from_str_radix would accept a second sign.
        if !digits.starts_with(|c: char| c.is_ascii_hexdigit()) {
            return None;
        }
        i64::from_str_radix(&(sign.to_owned() + digits), radix).ok()
    }
}

/// A `key = value` line of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// The name to the left of `=`.
    pub key: String,
    /// The value to the right of `=`.
    pub value: Value,
    /// Line number of the key, counted from 1.
    pub line: usize,
}

/// Why a text is not a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyntaxError {
    /// Line number of the error, counted from 1.
    pub line: usize,
    /// A message about the error.
    pub cause: String,
}

impl fmt::Display for SyntaxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.cause)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Key(String),
    Atom(Vec<u8>),
    Assign,
    Append,
    Open,
    Close,
    Comma,
    End,
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Token::Key(word) => write!(f, "`{word}`"),
            Token::Atom(bytes) => write!(f, "{:?}", String::from_utf8_lossy(bytes)),
            Token::Assign => f.write_str("`=`"),
            Token::Append => f.write_str("`+=`"),
            Token::Open => f.write_str("`[`"),
            Token::Close => f.write_str("`]`"),
            Token::Comma => f.write_str("`,`"),
            Token::End => f.write_str("the end of the line"),
        }
    }
}

/// Maximum nesting depth of lists.
const MAX_DEPTH: usize = 8;

struct Parser<'a> {
    rest: core::iter::Peekable<core::iter::Copied<core::slice::Iter<'a, u8>>>,
    /// Number of the line being read.
    line: usize,
    /// Line number of the last token, which messages name.
    at: usize,
    depth: usize,
}

impl Parser<'_> {
    fn fail<T>(&self, cause: impl fmt::Display) -> Result<T, SyntaxError> {
        Err(SyntaxError {
            line: self.at,
            cause: cause.to_string(),
        })
    }

    /// Skips blanks and comments, and inside a list also line ends.
    fn skip_blanks(&mut self) {
        while let Some(&c) = self.rest.peek() {
            match c {
                b'#' => while self.rest.next_if(|&c| c != b'\n').is_some() {},
                b'\n' if self.depth > 0 => {
                    self.line += 1;
                    self.rest.next();
                }
                b' ' | b'\t' => {
                    self.rest.next();
                }
                _ => return,
            }
        }
    }

    /// Reads the next token; `None` at the end of the text.
    fn token(&mut self) -> Result<Option<Token>, SyntaxError> {
        self.skip_blanks();
        self.at = self.line;
        let Some(&c) = self.rest.peek() else {
            return Ok(None);
        };
        let token = match c {
            b'\'' | b'"' => return self.text().map(Some),
            b'0'..=b'9' => return Ok(Some(self.number())),
            b'a'..=b'z' => {
                let keep = |c: u8| matches!(c, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'.');
                let word = self.run(keep).into_iter().map(char::from).collect();
                return Ok(Some(Token::Key(word)));
            }
            b'=' => Token::Assign,
            b'[' => Token::Open,
            b']' => Token::Close,
            b',' => Token::Comma,
            b';' => Token::End,
            b'\n' => {
                self.line += 1;
                Token::End
            }
            b'+' => {
                self.rest.next();
                if self.rest.peek() != Some(&b'=') {
                    return self.unexpected(b'+');
                }
                Token::Append
            }
            other => return self.unexpected(other),
        };
        self.rest.next();
        Ok(Some(token))
    }

    /// Refuses a character with which no token begins, with a guess at the user's mistake.
    fn unexpected<T>(&self, byte: u8) -> Result<T, SyntaxError> {
        let c = char::from(byte);
        match byte {
            b'\r' => self.fail("a carriage return: the file has line ends of DOS"),
            b'A'..=b'Z' => self.fail(format_args!(
                "unexpected character {c:?}: keys are in small letters"
            )),
            b'_' => self.fail("unexpected character '_': keys begin with a letter"),
            b'+' | b'-' | b'*' | b'/' | b'%' | b'(' | b')' | b'{' | b'}' | b'.' | b':' => {
                self.fail(format_args!(
                    "unexpected character {c:?}: numbers and texts must be in quotes, and Python isn't understood"
                ))
            }
            _ => self.fail(format_args!("unexpected character {c:?}")),
        }
    }

    fn run(&mut self, keep: impl Fn(u8) -> bool) -> Vec<u8> {
        let mut word = Vec::new();
        while let Some(c) = self.rest.next_if(|&c| keep(c)) {
            word.push(c);
        }
        word
    }

    /// Reads digits, including the letters of hexadecimal numbers.
    fn number(&mut self) -> Token {
        Token::Atom(self.run(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f' | b'x')))
    }

    fn text(&mut self) -> Result<Token, SyntaxError> {
        const OPEN: &str = "string without its closing quote";
        let quote = self.rest.next();
        let mut text = Vec::new();
        loop {
            match self.rest.next() {
                None | Some(b'\n') => return self.fail(OPEN),
                c if c == quote => return Ok(Token::Atom(text)),
                Some(b'\\') => match self.rest.next() {
                    None | Some(b'\n') => return self.fail(OPEN),
                    Some(c) => text.push(self.escaped(c)?),
                },
                Some(c) => text.push(c),
            }
        }
    }

    /// The character that a backslash and `c` stand for.
    fn escaped(&self, c: u8) -> Result<u8, SyntaxError> {
        match c {
            b'a' => Ok(7),
            b'b' => Ok(8),
            b't' => Ok(b'\t'),
            b'n' => Ok(b'\n'),
            b'v' => Ok(0xb),
            b'f' => Ok(0xc),
            b'r' => Ok(b'\r'),
            b'\\' | b'"' | b'\'' => Ok(c),
            _ => self.fail(format_args!(
                "\\{} in a string: a backslash itself is written \\\\",
                char::from(c)
            )),
        }
    }

    fn expect_value(&mut self) -> Result<Value, SyntaxError> {
        match self.token()? {
            Some(Token::Atom(bytes)) => Ok(Value::Atom(bytes)),
            Some(Token::Open) => self.list(),
            Some(Token::Key(word)) => self.fail(format_args!(
                "`{word}` must be a number, or be put in quotes"
            )),
            Some(other) => self.fail(format_args!("a value is missing before {other}")),
            None => self.fail("a value is missing at the end of the file"),
        }
    }

    fn list(&mut self) -> Result<Value, SyntaxError> {
        let opened = self.line;
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return self.fail("lists nest too deep");
        }
        let mut items = Vec::new();
        loop {
            self.skip_blanks();
            if self.rest.peek() == Some(&b']') {
                self.rest.next();
                break;
            }
            if self.rest.peek().is_none() {
                self.at = opened;
                return self.fail("list without its closing `]`");
            }
            items.push(self.expect_value()?);
            match self.token()? {
                Some(Token::Comma) => {}
                Some(Token::Close) => break,
                Some(other) => {
                    return self.fail(format_args!("expected `,` or `]` in a list, found {other}"));
                }
                None => {
                    self.at = opened;
                    return self.fail("list without its closing `]`");
                }
            }
        }
        self.depth -= 1;
        Ok(Value::List(items))
    }

    /// Reads the rest of a setting after its key.
    fn setting(&mut self, key: &str, found: &mut Vec<Setting>) -> Result<(), SyntaxError> {
        let line = self.at;
        let append = match self.token()? {
            Some(Token::Assign) => false,
            Some(Token::Append) => true,
            Some(other) => {
                return self.fail(format_args!("expected `=` after `{key}`, found {other}"));
            }
            None => return self.fail(format_args!("expected `=` after `{key}`")),
        };
        let value = self.expect_value()?;
        let value = match found.iter().rposition(|s| s.key == key) {
            Some(at) if append => match (found.remove(at).value, value) {
                (Value::Atom(first), Value::Atom(second)) => Value::Atom([first, second].concat()),
                (Value::List(first), Value::List(second)) => {
                    Value::List(first.into_iter().chain(second).collect())
                }
                _ => {
                    return self.fail(format_args!(
                        "`{key}`: `+=` can't add a list to a string, nor a string to a list"
                    ));
                }
            },
            Some(at) => {
                found.remove(at);
                value
            }
            None => value,
        };
        found.push(Setting {
            key: key.to_string(),
            value,
            line,
        });
        match self.token()? {
            None => Ok(()),
            Some(Token::End) => Ok(()),
            Some(other) => self.fail(format_args!("{other} after the value of `{key}`")),
        }
    }
}

/// Parses a whole configuration. The last value of a repeated key counts.
///
/// # Errors
/// The first line that isn't `key = value`, with the reason.
pub fn parse(text: &[u8]) -> Result<Vec<Setting>, SyntaxError> {
    let mut parser = Parser {
        rest: text.iter().copied().peekable(),
        line: 1,
        at: 1,
        depth: 0,
    };
    let mut found = Vec::new();
    while let Some(token) = parser.token()? {
        match token {
            Token::End => {}
            Token::Key(key) => parser.setting(&key, &mut found)?,
            other => return parser.fail(format_args!("expected a key, found {other}")),
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use proptest::prelude::*;

    fn value(text: &str) -> Value {
        parse(text.as_bytes()).unwrap().remove(0).value
    }

    fn atom(text: &str) -> Value {
        Value::Atom(text.as_bytes().to_vec())
    }

    #[test]
    fn reads_what_xl_reads() {
        let text = "# a domain\nname = \"web\"\nmemory=0x80 # MiB\n\ndisk = [\n 'a', # one\n \"b\",\n]\nvcpus = 2; extra='x=\\'1\\''\na.b=1";
        let settings = parse(text.as_bytes()).unwrap();
        let lines: Vec<_> = settings.iter().map(|s| (s.key.as_str(), s.line)).collect();
        assert_eq!(
            lines,
            [
                ("name", 2),
                ("memory", 3),
                ("disk", 5),
                ("vcpus", 9),
                ("extra", 9),
                ("a.b", 10)
            ]
        );
        assert_eq!(settings[1].value.number(), Some(128));
        let list = vec![atom("a"), atom("b")];
        assert_eq!(settings[2].value, Value::List(list));
        assert_eq!(settings[4].value, atom("x='1'"));
        assert_eq!(settings[5].value, atom("1"));
    }

    #[test]
    fn appends_and_replaces() {
        let settings = parse(b"a='x'\na+='y'\nb=[1]\nb+=[2]\nb=[3]\nb+=[4]").unwrap();
        assert_eq!(settings[0].value, atom("xy"));
        assert_eq!(settings[1].value, Value::List(vec![atom("3"), atom("4")]));
    }

    #[test]
    fn numbers_are_strtol_s() {
        for (text, number) in [
            ("010", Some(8)),
            ("0", Some(0)),
            ("'0XfF'", Some(255)),
            ("'-7'", Some(-7)),
            ("' +7'", Some(7)),
            ("'7 '", None),
            ("'--7'", None),
            ("''", None),
            ("0x", None),
            ("08", None),
            ("1f", None),
            ("99999999999999999999", None),
        ] {
            assert_eq!(
                value(&alloc::format!("a={text}")).number(),
                number,
                "{text}"
            );
        }
    }

    #[test]
    fn faults_name_their_line() {
        for (text, line, part) in [
            ("a=1\nname web", 2, "expected `=`"),
            ("name", 1, "expected `=`"),
            ("\nname=web\n", 2, "quotes"),
            ("name='web\n", 1, "closing quote"),
            ("name='\\d'", 1, "\\d in a string"),
            ("a=1\nd=[1,\n2\n", 2, "closing `]`"),
            ("a=[1 2]", 1, "expected `,`"),
            ("a=\nb=1", 1, "value is missing"),
            ("a=12k", 1, "`k` after the value"),
            ("a=1 b=2", 1, "after the value"),
            ("a='x'\na+=[1]", 2, "can't add"),
            ("%", 1, "unexpected character"),
            ("A=1", 1, "small letters"),
            ("_a=1", 1, "begin with a letter"),
            ("a=1\r\n", 1, "line ends of DOS"),
            ("import os\na=1", 1, "expected `=`"),
            ("a=2*3", 1, "Python"),
            ("a=[[[[[[[[[1]]]]]]]]]", 1, "too deep"),
        ] {
            let error = parse(text.as_bytes()).unwrap_err();
            assert_eq!(error.line, line, "{text}: {error}");
            assert!(error.cause.contains(part), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in "\\PC*|[a-c=+'\"\\[\\],#\n\\\\0-9 ]*") {
            let _ = parse(text.as_bytes());
        }

        #[test]
        fn strings_come_back(text in proptest::collection::vec(any::<u8>(), 0..40)) {
            prop_assume!(!text.iter().any(|byte| b"\n\\'\0".contains(byte)));
            let config = [b"k='", &text[..], b"' # \xff"].concat();
            prop_assert_eq!(&parse(&config).unwrap()[0].value, &Value::Atom(text));
        }
    }
}
