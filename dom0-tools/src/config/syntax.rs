//! The syntax of xl's configuration files: `key = value` lines, where a value is a number, a string in single or
//! double quotes, or a list in brackets that may span lines (xl.cfg(5)). `+=` appends to a string or a list.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

/// A value as written in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// A whole number, decimal, 0x… or 0….
    Number(u64),
    /// A quoted string, without its quotes.
    Text(String),
    /// A list; its elements are values.
    List(Vec<Value>),
}

impl Value {
    /// What the value is, for messages.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Value::Number(_) => "a number",
            Value::Text(_) => "a string",
            Value::List(_) => "a list",
        }
    }
}

/// One `key = value` of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// The name left of `=`.
    pub key: String,
    /// The value.
    pub value: Value,
    /// Line of the key, from 1.
    pub line: usize,
}

/// Why the text is not a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyntaxError {
    /// Line of the fault, from 1.
    pub line: usize,
    /// What is wrong, in words.
    pub cause: String,
}

impl fmt::Display for SyntaxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.cause)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Word(String),
    Text(String),
    Number(u64),
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
            Token::Word(word) => write!(f, "`{word}`"),
            Token::Text(_) => f.write_str("a string"),
            Token::Number(number) => write!(f, "the number {number}"),
            Token::Assign => f.write_str("`=`"),
            Token::Append => f.write_str("`+=`"),
            Token::Open => f.write_str("`[`"),
            Token::Close => f.write_str("`]`"),
            Token::Comma => f.write_str("`,`"),
            Token::End => f.write_str("the end of the line"),
        }
    }
}

/// How deep lists may nest.
const MAX_DEPTH: usize = 8;

struct Parser<'a> {
    rest: core::iter::Peekable<core::str::Chars<'a>>,
    /// The line being read.
    line: usize,
    /// The line of the last token, which messages name.
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

    /// Skips blanks and comments; line ends too when inside a list.
    fn skip_blanks(&mut self) {
        while let Some(&c) = self.rest.peek() {
            match c {
                '#' => while self.rest.next_if(|&c| c != '\n').is_some() {},
                '\n' if self.depth > 0 => {
                    self.line += 1;
                    self.rest.next();
                }
                ' ' | '\t' | '\r' => {
                    self.rest.next();
                }
                _ => return,
            }
        }
    }

    /// The next token; `None` at the end of the text.
    fn token(&mut self) -> Result<Option<Token>, SyntaxError> {
        self.skip_blanks();
        self.at = self.line;
        let Some(&c) = self.rest.peek() else {
            return Ok(None);
        };
        let token = match c {
            '\'' | '"' => return self.text().map(Some),
            '0'..='9' => return self.number().map(Some),
            'a'..='z' | 'A'..='Z' | '_' => {
                let word = self.run(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
                return Ok(Some(Token::Word(word)));
            }
            '=' => Token::Assign,
            '[' => Token::Open,
            ']' => Token::Close,
            ',' => Token::Comma,
            ';' => Token::End,
            '\n' => {
                self.line += 1;
                Token::End
            }
            '+' => {
                self.rest.next();
                if self.rest.peek() != Some(&'=') {
                    return self.fail("`+` must be followed by `=`");
                }
                Token::Append
            }
            other => return self.fail(format_args!("unexpected character {other:?}")),
        };
        self.rest.next();
        Ok(Some(token))
    }

    fn run(&mut self, keep: impl Fn(char) -> bool) -> String {
        let mut word = String::new();
        while let Some(c) = self.rest.next_if(|&c| keep(c)) {
            word.push(c);
        }
        word
    }

    fn number(&mut self) -> Result<Token, SyntaxError> {
        let word = self.run(|c| c.is_ascii_alphanumeric() || c == '_');
        let parsed = match word.strip_prefix("0x").or(word.strip_prefix("0X")) {
            Some(hex) => u64::from_str_radix(hex, 16),
            None if word.len() > 1 && word.starts_with('0') => u64::from_str_radix(&word, 8),
            None => word.parse(),
        };
        match parsed {
            Ok(number) => Ok(Token::Number(number)),
            Err(_) => self.fail(format_args!("{word} is not a number")),
        }
    }

    fn text(&mut self) -> Result<Token, SyntaxError> {
        let quote = self.rest.next();
        let mut text = String::new();
        loop {
            match self.rest.next() {
                None | Some('\n') => return self.fail("string without its closing quote"),
                c if c == quote => return Ok(Token::Text(text)),
                Some('\\') => match self.rest.next() {
                    Some('n') => text.push('\n'),
                    Some('t') => text.push('\t'),
                    Some(c @ ('\\' | '"' | '\'')) => text.push(c),
                    Some(c) if c != '\n' => text.extend(['\\', c]),
                    _ => return self.fail("string without its closing quote"),
                },
                Some(c) => text.push(c),
            }
        }
    }

    fn expect_value(&mut self) -> Result<Value, SyntaxError> {
        match self.token()? {
            Some(Token::Number(number)) => Ok(Value::Number(number)),
            Some(Token::Text(text)) => Ok(Value::Text(text)),
            Some(Token::Open) => self.list(),
            Some(Token::Word(word)) => self.fail(format_args!(
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
            if self.rest.peek() == Some(&']') {
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

    /// One setting after its key.
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
                (Value::Text(first), Value::Text(second)) => Value::Text(first + &second),
                (Value::List(first), Value::List(second)) => {
                    Value::List(first.into_iter().chain(second).collect())
                }
                (first, second) => {
                    let (first, second) = (first.kind(), second.kind());
                    return self.fail(format_args!("`{key}` is {first}: `+=` can't add {second}"));
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

/// Reads a whole configuration; a key given twice keeps its last value.
///
/// # Errors
/// The first line that is not `key = value`, with the reason.
pub fn parse(text: &str) -> Result<Vec<Setting>, SyntaxError> {
    let mut parser = Parser {
        rest: text.chars().peekable(),
        line: 1,
        at: 1,
        depth: 0,
    };
    let mut found = Vec::new();
    while let Some(token) = parser.token()? {
        match token {
            Token::End => {}
            Token::Word(key) => parser.setting(&key, &mut found)?,
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
        parse(text).unwrap().remove(0).value
    }

    #[test]
    fn reads_what_xl_reads() {
        let text = "# a domain\nname = \"web\"\r\nmemory=0x80 # MiB\n\ndisk = [\n 'a', # one\n \"b\",\n]\nvcpus = 2; extra='x=\\'1\\''";
        let settings = parse(text).unwrap();
        let lines: Vec<_> = settings.iter().map(|s| (s.key.as_str(), s.line)).collect();
        assert_eq!(
            lines,
            [
                ("name", 2),
                ("memory", 3),
                ("disk", 5),
                ("vcpus", 9),
                ("extra", 9)
            ]
        );
        assert_eq!(settings[1].value, Value::Number(128));
        let list = vec![Value::Text("a".into()), Value::Text("b".into())];
        assert_eq!(settings[2].value, Value::List(list));
        assert_eq!(settings[4].value, Value::Text("x='1'".into()));
    }

    #[test]
    fn appends_and_replaces() {
        let settings = parse("a='x'\na+='y'\nb=[1]\nb+=[2]\nb=[3]\nb+=[4]").unwrap();
        assert_eq!(settings[0].value, Value::Text("xy".into()));
        assert_eq!(
            settings[1].value,
            Value::List(vec![Value::Number(3), Value::Number(4)])
        );
    }

    #[test]
    fn numbers_have_xl_bases() {
        assert_eq!(value("a=010"), Value::Number(8));
        assert_eq!(value("a=0"), Value::Number(0));
        assert_eq!(value("a=0XfF"), Value::Number(255));
    }

    #[test]
    fn faults_name_their_line() {
        for (text, line, part) in [
            ("a=1\nname web", 2, "expected `=`"),
            ("name", 1, "expected `=`"),
            ("\nname=web\n", 2, "quotes"),
            ("name='web\n", 1, "closing quote"),
            ("a=1\nd=[1,\n2\n", 2, "closing `]`"),
            ("a=[1 2]", 1, "expected `,`"),
            ("a=\nb=1", 1, "value is missing"),
            ("a=12k", 1, "12k is not a number"),
            ("a=99999999999999999999999", 1, "not a number"),
            ("a=1 b=2", 1, "after the value"),
            ("a='x'\na+=1", 2, "can't add"),
            ("%", 1, "unexpected character"),
            ("a=[[[[[[[[[1]]]]]]]]]", 1, "too deep"),
        ] {
            let error = parse(text).unwrap_err();
            assert_eq!(error.line, line, "{text}: {error}");
            assert!(error.cause.contains(part), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in "\\PC*|[a-c=+'\"\\[\\],#\n\\\\0-9 ]*") {
            let _ = parse(&text);
        }

        #[test]
        fn strings_come_back(text in "[^'\n\\\\]*") {
            let config = alloc::format!("k='{text}'");
            prop_assert_eq!(value(&config), Value::Text(text));
        }
    }
}
