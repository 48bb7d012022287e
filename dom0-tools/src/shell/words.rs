//! A command line's words: blanks separate, quotes keep blanks together, `#` begins a comment.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// Splits a line. Quotes are dropped, except around the values of `key=value` words, which are read as configuration lines
/// later.
///
/// # Errors
/// A sentence about an unclosed quote.
pub fn split(line: &str) -> Result<Vec<String>, String> {
    let (mut words, mut word, mut any, mut quote) = (Vec::new(), String::new(), false, None);
    for c in line.chars() {
        match quote {
            Some((open, kept)) => {
                if c == open {
                    quote = None;
                }
                if c != open || kept {
                    word.push(c);
                }
            }
            None if c == '#' && word.is_empty() && !any => break,
            None if c == '"' || c == '\'' => {
                let kept = word.contains('=');
                (quote, any) = (Some((c, kept)), true);
                if kept {
                    word.push(c);
                }
            }
            None if c.is_whitespace() => {
                if any {
                    words.push(core::mem::take(&mut word));
                }
                any = false;
            }
            None => {
                word.push(c);
                any = true;
            }
        }
    }
    if let Some((open, _)) = quote {
        return Err(alloc::format!("a {open} is not closed"));
    }
    if any {
        words.push(word);
    }
    Ok(words)
}

/// The words of a command after its name.
#[derive(Debug, Clone, Default)]
pub struct Arguments {
    /// Words that begin with `-`.
    options: Vec<String>,
    /// All others, in order.
    pub plain: Vec<String>,
}

impl Arguments {
    /// Sorts words.
    #[must_use]
    pub fn new(words: &[String]) -> Arguments {
        let option = |word: &&String| word.starts_with('-') && word.len() > 1;
        Arguments {
            options: words.iter().filter(option).cloned().collect(),
            plain: words.iter().filter(|word| !option(word)).cloned().collect(),
        }
    }

    /// Was one of these options given? It is struck out.
    pub fn option(&mut self, spellings: &[&str]) -> bool {
        let before = self.options.len();
        self.options
            .retain(|word| !spellings.contains(&word.as_str()));
        self.options.len() < before
    }

    /// The number in `--NAME=NUMBER`, which is struck out.
    ///
    /// # Errors
    /// A sentence if it is no number.
    pub fn number(&mut self, name: &str) -> Result<Option<u64>, String> {
        let value = |word: &String| word.strip_prefix(name)?.strip_prefix('=').map(String::from);
        let Some(at) = self.options.iter().position(|word| value(word).is_some()) else {
            return Ok(None);
        };
        let word = self.options.remove(at);
        let text = value(&word).unwrap_or_default();
        text.parse()
            .map(Some)
            .map_err(|_| alloc::format!("{word}: not a number"))
    }

    /// Refuses what is left of the options, and too many or too few other words.
    ///
    /// # Errors
    /// One sentence.
    pub fn check(
        &self,
        usage: &str,
        counts: core::ops::RangeInclusive<usize>,
    ) -> Result<(), String> {
        if let Some(option) = self.options.first() {
            return Err(alloc::format!("unknown option {option}; usage: {usage}"));
        }
        if !counts.contains(&self.plain.len()) {
            return Err(alloc::format!("usage: {usage}"));
        }
        Ok(())
    }

    /// The word at a place.
    #[must_use]
    pub fn get(&self, place: usize) -> &str {
        self.plain.get(place).map_or("", String::as_str)
    }
}

/// A `key=value` word as a line of a configuration: a value without quotes that is neither a number nor a list is text.
#[must_use]
pub fn setting(word: &str) -> Option<String> {
    let (key, value) = word.split_once('=')?;
    let plain = value.starts_with(['"', '\'', '['])
        || !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit());
    let value = if plain {
        value.to_string()
    } else {
        // Only what the syntax of configurations knows: Rust's own quoting has more.
        let escaped = value.replace('\\', "\\\\").replace('"', "\\\"");
        alloc::format!("\"{}\"", escaped.replace('\n', "\\n"))
    };
    Some(alloc::format!("{key}={value}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits() {
        let split = |line| split(line).unwrap();
        assert_eq!(split("  create a.cfg  -c # now"), ["create", "a.cfg", "-c"]);
        assert_eq!(
            split("wait a 'two words' \"\""),
            ["wait", "a", "two words", ""]
        );
        assert_eq!(
            split("create a name=\"my vm\" x='#'"),
            ["create", "a", "name=\"my vm\"", "x='#'"]
        );
        assert_eq!(
            split("create a \"extra=a b\" 'name=\"my vm\"'"),
            ["create", "a", "extra=a b", "name=\"my vm\""]
        );
        assert!(super::split("a 'b").is_err());
    }

    #[test]
    fn settings_become_lines() {
        assert_eq!(setting("memory=64").unwrap(), "memory=64");
        assert_eq!(setting("name=idle0").unwrap(), "name=\"idle0\"");
        assert_eq!(setting("name=\"a b\"").unwrap(), "name=\"a b\"");
        assert_eq!(setting("cpus=[\"1\"]").unwrap(), "cpus=[\"1\"]");
        assert_eq!(setting("a.cfg"), None);
    }
}
