//! Splits a command line into words: blanks separate them, quotes protect blanks, `#` begins a comment.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// Splits a line. Quotes are removed, except around the values of `key=value` words, which are parsed
/// as configuration lines later.
///
/// # Errors
/// A message about an unclosed quote.
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

/// Turns a `key=value` word into a configuration line: an unquoted value that is neither a number nor a list is text.
#[must_use]
pub fn setting(word: &str) -> Option<String> {
    let (key, value) = word.split_once('=')?;
    let plain = value.starts_with(['"', '\'', '['])
        || !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit());
    let value = if plain {
        value.to_string()
    } else {
        // Uses only escapes that the configuration syntax has; Rust's own quoting has more.
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
