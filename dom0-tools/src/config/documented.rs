//! Checks that docs/xl.md names each key that is known here, with its effect, and no others.

extern crate std;

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use std::collections::BTreeMap;

use super::keys::KEYS;
use super::known::{Ignored, LISTS};

const DOCUMENT: &str = include_str!("../../../docs/xl.md");

/// The keys in the first cells of the table, each with the row's second cell.
fn documented() -> BTreeMap<String, String> {
    let section = DOCUMENT
        .split("## Keys of xl.cfg")
        .nth(1)
        .expect("the section");
    let rows = section.lines().filter(|line| line.starts_with("| "));
    let mut keys = BTreeMap::new();
    for row in rows.skip(1) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        for key in cells[1].split(", ") {
            let before = keys.insert(key.to_string(), cells[2].to_string());
            assert_eq!(before, None, "{key} is there twice");
        }
    }
    keys
}

/// How the document's second cell must begin.
fn words(ignored: Ignored) -> &'static [&'static str] {
    match ignored {
        Ignored::Device => &["ignored: a device"],
        Ignored::NotForPv => &["no effect"],
        Ignored::NotYet => &["ignored: not yet"],
        Ignored::Unknown => &["works", "refused"],
    }
}

#[test]
fn each_key_is_documented() {
    let mut documented = documented();
    let acted_on = (&KEYS[..], Ignored::Unknown);
    for (keys, ignored) in LISTS.into_iter().chain([acted_on]) {
        for key in keys {
            let said = documented.remove(*key);
            let said = said.unwrap_or_else(|| panic!("docs/xl.md lacks {key}"));
            let fits = words(ignored).iter().any(|words| said.starts_with(words));
            assert!(fits, "docs/xl.md says of {key}: {said}");
        }
    }
    assert!(
        documented.is_empty(),
        "docs/xl.md alone knows {documented:?}"
    );
}
