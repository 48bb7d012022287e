//! The command line (`extra` in a domain's configuration): its words, some of which are `name=value`.

use crate::info::start_info;

/// The whole command line, up to the first byte that isn't UTF-8.
#[must_use]
pub fn command_line() -> &'static str {
    let bytes = start_info().cmd_line_bytes();
    match core::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => bytes
            .get(..error.valid_up_to())
            .and_then(|valid| core::str::from_utf8(valid).ok())
            .unwrap_or(""),
    }
}

/// The value of the first word `name=value`.
#[must_use]
pub fn value(name: &str) -> Option<&'static str> {
    command_line()
        .split_ascii_whitespace()
        .find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
}

/// The value of `name=number`, decimal or hexadecimal with 0x; `default` if the word is missing or isn't a number.
#[must_use]
pub fn number(name: &str, default: u64) -> u64 {
    let parse = |text: &str| match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    };
    value(name).and_then(parse).unwrap_or(default)
}
