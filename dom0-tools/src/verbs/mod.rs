//! The commands of the toolstack. The shell of the bare Dom0 and the CLI of a Linux Dom0 take names, options and
//! help from one table.
//!
//! [`Request::read`] parses a command line into a [`Request`] by the table's rules. Each front end then has one
//! exhaustive `match` over [`Op`]. Names and options are xl's wherever xl has the command. `table` holds the entries,
//! `help` prints them, and `nearest` guesses at misspelt words.

mod help;
mod nearest;
mod table;

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::ops::RangeInclusive;

pub use help::{list, usage};
pub use table::{Op, VERBS};

/// Maximum number of words where a word may be repeated.
const MAX_WORDS: usize = 64;

/// The program that runs the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Front {
    /// The shell of the bare Dom0.
    Shell,
    /// `xenlike` in a Linux Dom0.
    Cli,
}

/// The front ends that have a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Both front ends have it.
    Both,
    /// Only one front end has it; the sentence tells the user of the other why.
    Only(Front, &'static str),
}

/// An option of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opt {
    /// The option's letter, if it has one.
    pub letter: Option<char>,
    /// The option's long name, without dashes.
    pub name: &'static str,
    /// The name of its value in the usage, if it takes one.
    pub value: Option<&'static str>,
    /// A line of help about the option.
    pub about: &'static str,
}

/// A command of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verb {
    /// Name of the command.
    pub name: &'static str,
    /// Alternative names of the command.
    pub aliases: &'static [&'static str],
    /// The words that it takes besides options, as in its usage: a word in brackets is optional, and a word with
    /// dots may be repeated.
    pub words: &'static str,
    /// The options that it takes.
    pub options: &'static [Opt],
    /// A line of help about the command.
    pub about: &'static str,
    /// The front ends that have it.
    pub place: Place,
    /// The operation that it performs.
    pub op: Op,
}

impl Verb {
    fn is_called(&self, name: &str) -> bool {
        self.name == name || self.aliases.contains(&name)
    }

    /// Why this front end doesn't have it, if it doesn't.
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

/// Finds the command with this name.
///
/// # Errors
/// A message that suggests the nearest name, or says which program has the command.
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

/// A command with its options and words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The command to run.
    pub verb: &'static Verb,
    given: Vec<(&'static str, Option<String>)>,
    words: Vec<String>,
}

/// The result of parsing a command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Read {
    /// The line is empty.
    Nothing,
    /// This help is to be printed.
    Help(String),
    /// A command is to be run.
    Run(Request),
}

impl Request {
    /// Parses the words of a command line. A leading `xl` or `xenlike`, typed from habit, is dropped.
    ///
    /// # Errors
    /// A message about the error.
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

    /// Separates options from other words. Options may be anywhere before a `--`.
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

    /// Letters after one dash, of which the last may have a value: `-cq`, `-o FILE`, `-oFILE`.
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

    /// Whether the option with this long name was given.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.given.iter().any(|(given, _)| *given == name)
    }

    /// The value of the option with this long name; the last one if it was repeated.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<&str> {
        let mut given = self.given.iter().rev();
        let (_, value) = given.find(|(given, _)| *given == name)?;
        value.as_deref()
    }

    /// The value of the option as a number.
    ///
    /// # Errors
    /// A message if it isn't a number.
    pub fn number(&self, name: &str) -> Result<Option<u64>, String> {
        let Some(text) = self.value(name) else {
            return Ok(None);
        };
        let number = text.parse();
        number
            .map(Some)
            .map_err(|_| format!("--{name}={text}: not a number"))
    }

    /// The words other than options.
    #[must_use]
    pub fn words(&self) -> &[String] {
        &self.words
    }

    /// The word at this position; empty if it was not given.
    #[must_use]
    pub fn word(&self, place: usize) -> &str {
        self.words.get(place).map_or("", String::as_str)
    }

    /// The only word, if it was given.
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
/// A message about the error.
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

/// Checks that a request names either one domain or all.
///
/// # Errors
/// A message about the error.
pub fn one_or_all(request: &Request) -> Result<(), String> {
    if request.has("all") == request.words().is_empty() {
        return Ok(());
    }
    Err(format!("usage: {}", help::line(request.verb)))
}

#[cfg(test)]
mod tests;
