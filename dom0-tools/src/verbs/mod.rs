//! The commands of the toolstack: one table, from which the shell of the bare Dom0 and the CLI of a Linux Dom0 take
//! names, options and help.
//!
//! [`Request::read`] turns a command line into a [`Request`] by the table's rules; each front end then has one exhaustive
//! `match` over [`Op`]. Names and options are xl's wherever xl has the command. `table` holds the entries, `help` prints
//! them, `nearest` finds what a misspelt word may have meant.

mod help;
mod nearest;
mod table;

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::ops::RangeInclusive;

pub use help::{list, usage};
pub use table::{Op, VERBS};

/// The most words where one may come again.
const MAX_WORDS: usize = 64;

/// Which of the two programs runs the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Front {
    /// The shell of the bare Dom0.
    Shell,
    /// `xenlike` in a Linux Dom0.
    Cli,
}

/// Where a command can do its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In both.
    Both,
    /// In one alone; the sentence says why not in the other.
    Only(Front, &'static str),
}

/// An option of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opt {
    /// Its letter, if it has one.
    pub letter: Option<char>,
    /// Its long name, without the dashes.
    pub name: &'static str,
    /// What its value is called, if it takes one.
    pub value: Option<&'static str>,
    /// One line about it.
    pub about: &'static str,
}

/// A command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verb {
    /// Its name.
    pub name: &'static str,
    /// Other names for it.
    pub aliases: &'static [&'static str],
    /// The words that it takes besides options, as its usage shows them and in the same number: one in brackets may be
    /// missing, one with dots may come again.
    pub words: &'static str,
    /// Its options.
    pub options: &'static [Opt],
    /// One line about it.
    pub about: &'static str,
    /// Where it works.
    pub place: Place,
    /// What it does.
    pub op: Op,
}

impl Verb {
    fn is_called(&self, name: &str) -> bool {
        self.name == name || self.aliases.contains(&name)
    }

    /// Why this front end can't do it, if so.
    fn refusal(&self, front: Front) -> Option<String> {
        match self.place {
            Place::Only(other, why) if other != front => Some(format!("{}: {why}", self.name)),
            _ => None,
        }
    }

    /// How many words it takes.
    fn counts(&self) -> RangeInclusive<usize> {
        let words = || self.words.split_ascii_whitespace();
        let least = words().filter(|word| !word.starts_with('[')).count();
        let again = words().any(|word| word.contains("..."));
        least..=if again { MAX_WORDS } else { words().count() }
    }
}

/// The command of that name.
///
/// # Errors
/// A sentence with the nearest name, or where the command is to be had.
pub fn find(name: &str) -> Result<&'static Verb, String> {
    if let Some(verb) = VERBS.iter().find(|verb| verb.is_called(name)) {
        return Ok(verb);
    }
    if table::XL_ONLY.contains(&name) {
        return Err(format!(
            "{name}: a command of xl that is missing here; in a Linux Dom0 with Debian's tools, `xl {name}` has it"
        ));
    }
    let names = VERBS.iter().map(|verb| verb.name);
    Err(match nearest::of(name, names) {
        Some(near) => format!("{name}: no such command; did you mean `{near}`?"),
        None => format!("{name}: no such command; `help` lists them"),
    })
}

/// A command with what was given to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The command.
    pub verb: &'static Verb,
    given: Vec<(&'static str, Option<String>)>,
    words: Vec<String>,
}

/// What a command line asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Read {
    /// Nothing: it is empty.
    Nothing,
    /// To print this help.
    Help(String),
    /// To run a command.
    Run(Request),
}

impl Request {
    /// Reads the words of a command line. `xl` or `xenlike` in front, as typed by habit, is dropped.
    ///
    /// # Errors
    /// One sentence.
    pub fn read(words: &[String], front: Front) -> Result<Read, String> {
        let words = match words.split_first() {
            Some((first, rest)) if matches!(first.as_str(), "xl" | "xenlike") => rest,
            _ => words,
        };
        let Some((name, rest)) = words.split_first() else {
            return Ok(Read::Nothing);
        };
        let verb = find(name)?;
        let asks_for_help = |word: &String| matches!(word.as_str(), "-h" | "--help");
        if rest.iter().any(asks_for_help) {
            return Ok(Read::Help(usage(verb)));
        }
        if verb.op == Op::Help {
            return match rest {
                [] => Ok(Read::Help(list(front))),
                [name] => Ok(Read::Help(usage(find(name)?))),
                _ => Err(format!("usage: {}", help::line(verb))),
            };
        }
        if let Some(sentence) = verb.refusal(front) {
            return Err(sentence);
        }
        let mut request = Request {
            verb,
            given: Vec::new(),
            words: Vec::new(),
        };
        request.take(rest)?;
        if !verb.counts().contains(&request.words.len()) {
            return Err(format!("usage: {}", help::line(verb)));
        }
        Ok(Read::Run(request))
    }

    /// Sorts words into options and others. Options may stand anywhere; behind `--` there are none.
    fn take(&mut self, words: &[String]) -> Result<(), String> {
        let mut words = words.iter();
        while let Some(word) = words.next() {
            if word == "--" {
                self.words.extend(words.by_ref().cloned());
            } else if let Some(long) = word.strip_prefix("--") {
                let (name, value) = match long.split_once('=') {
                    Some((name, value)) => (name, Some(value)),
                    None => (long, None),
                };
                let option = self.option(|option| option.name == name, word)?;
                let value = match (option.value, value) {
                    (None, None) => None,
                    (Some(_), Some(value)) => Some(value.to_string()),
                    (Some(wanted), None) => Some(next(&mut words, word, wanted)?),
                    (None, Some(_)) => return Err(format!("--{name} takes no value")),
                };
                self.given.push((option.name, value));
            } else if word.len() > 1 && word.starts_with('-') {
                self.letters(word, &mut words)?;
            } else {
                self.words.push(word.clone());
            }
        }
        Ok(())
    }

    /// Letters behind one dash, the last of which may have a value: `-cq`, `-o FILE`, `-oFILE`.
    fn letters<'a>(
        &mut self,
        word: &str,
        words: &mut impl Iterator<Item = &'a String>,
    ) -> Result<(), String> {
        let mut letters = word.chars().skip(1);
        while let Some(letter) = letters.next() {
            let option = self.option(|option| option.letter == Some(letter), word)?;
            let value = match option.value {
                None => None,
                Some(wanted) => {
                    let rest: String = letters.by_ref().collect();
                    Some(if rest.is_empty() {
                        next(words, word, wanted)?
                    } else {
                        rest
                    })
                }
            };
            self.given.push((option.name, value));
        }
        Ok(())
    }

    fn option(&self, is: impl Fn(&Opt) -> bool, word: &str) -> Result<&'static Opt, String> {
        let found = self.verb.options.iter().find(|option| is(option));
        found.ok_or_else(|| format!("unknown option {word}; usage: {}", help::line(self.verb)))
    }

    /// Whether the option of that long name was given.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.given.iter().any(|(given, _)| *given == name)
    }

    /// The value of the option of that long name; of several the last.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<&str> {
        let mut given = self.given.iter().rev();
        let (_, value) = given.find(|(given, _)| *given == name)?;
        value.as_deref()
    }

    /// The same as a number.
    ///
    /// # Errors
    /// A sentence if it is no number.
    pub fn number(&self, name: &str) -> Result<Option<u64>, String> {
        let Some(text) = self.value(name) else {
            return Ok(None);
        };
        let number = text.parse();
        number
            .map(Some)
            .map_err(|_| format!("--{name}={text}: not a number"))
    }

    /// The words besides options.
    #[must_use]
    pub fn words(&self) -> &[String] {
        &self.words
    }

    /// The word at a place; empty if it was not given.
    #[must_use]
    pub fn word(&self, place: usize) -> &str {
        self.words.get(place).map_or("", String::as_str)
    }

    /// The one word that may be given.
    #[must_use]
    pub fn only_word(&self) -> Option<&str> {
        self.words.first().map(String::as_str)
    }
}

fn next<'a>(
    words: &mut impl Iterator<Item = &'a String>,
    option: &str,
    wanted: &str,
) -> Result<String, String> {
    let value = words.next().cloned();
    value.ok_or_else(|| format!("{option} wants a value: {wanted}"))
}

/// The file that `create` is to read, and settings in the form of its lines.
///
/// # Errors
/// A sentence.
pub fn configuration(request: &Request) -> Result<(&str, Vec<String>), String> {
    let (file, words) = match (request.value("defconfig"), request.words()) {
        (Some(file), words) => (file, words),
        (None, [file, words @ ..]) => (file.as_str(), words),
        (None, []) => return Err(format!("usage: {}", help::line(request.verb))),
    };
    let setting =
        |word: &String| crate::shell::setting(word).ok_or_else(|| format!("{word}: not KEY=VALUE"));
    Ok((file, words.iter().map(setting).collect::<Result<_, _>>()?))
}

/// Refuses a request that names neither one domain nor all, or both.
///
/// # Errors
/// A sentence.
pub fn one_or_all(request: &Request) -> Result<(), String> {
    if request.has("all") == request.words().is_empty() {
        return Ok(());
    }
    Err(format!("usage: {}", help::line(request.verb)))
}

#[cfg(test)]
mod tests;
