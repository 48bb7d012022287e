//! Help texts, generated from the table.

use alloc::format;
use alloc::string::String;

use super::table::VERBS;
use super::{Front, Opt, Place, Verb};

/// The usage of a command on one line.
pub(super) fn line(verb: &Verb) -> String {
    let mut text = String::from(verb.name);
    for option in verb.options {
        text.push_str(&format!(" [{}]", spelling(option)));
    }
    if !verb.words.is_empty() {
        text.push(' ');
        text.push_str(verb.words);
    }
    text
}

/// The shortest spelling of an option.
fn spelling(option: &Opt) -> String {
    match (option.letter, option.value) {
        (Some(letter), Some(value)) => format!("-{letter} {value}"),
        (Some(letter), None) => format!("-{letter}"),
        (None, Some(value)) => format!("--{}={value}", option.name),
        (None, None) => format!("--{}", option.name),
    }
}

/// The output of `help COMMAND`.
#[must_use]
pub fn usage(verb: &Verb) -> String {
    let mut text = format!("usage: {}\n{}\n", line(verb), verb.about);
    for option in verb.options {
        let letter = option
            .letter
            .map_or(String::from("    "), |letter| format!("-{letter}, "));
        let value = option
            .value
            .map_or(String::new(), |value| format!("={value}"));
        let long = format!("--{}{value}", option.name);
        text.push_str(&format!("  {letter}{long:<18} {}\n", option.about));
    }
    if !verb.aliases.is_empty() {
        text.push_str(&format!("also called: {}\n", verb.aliases.join(", ")));
    }
    if let Place::Only(front, why) = verb.place {
        let place = match front {
            Front::Shell => "only in the shell of the bare Dom0",
            Front::Cli => "only in a Linux Dom0",
        };
        text.push_str(&format!("{place}: {why}\n"));
    }
    text
}

/// The output of `help`: the commands that this front end has.
#[must_use]
pub fn list(front: Front) -> String {
    let mut text = String::new();
    for verb in VERBS.iter().filter(|verb| verb.refusal(front).is_none()) {
        text.push_str(&format!("  {:<12} {}\n", verb.name, verb.about));
    }
    text.push_str("`help COMMAND` tells more. Ctrl-] leaves a domain's console.\n");
    text
}
