//! Checks the paths `crate::ROOM` in xenlike-core against the order of its rooms.
//!
//! The order is written in one place, the header of `xenlike-core/src/lib.rs`, as `a → {b, c} → d`: a room uses only
//! rooms further to the right. `a::e` in the order is a room inside room `a` that has its own place.

use crate::check::{self, Source};
use anyhow::{Context, Result, bail};
use regex::Regex;
use std::collections::BTreeMap;
use std::path::Path;

type Ranks = BTreeMap<String, usize>;

/// Checks the whole tree.
///
/// # Errors
/// Every use that violates the order.
pub fn check() -> Result<()> {
    let sources = check::sources(&check::core_folder())?;
    let header = sources
        .iter()
        .find(|source| source.path == Path::new("lib.rs"))
        .context("xenlike-core/src/lib.rs")?;
    let ranks = parse_order(&header.text)?;
    let files = sources.iter().filter(|source| !source.is_test());
    let problems: Vec<String> = files
        .flat_map(|source| problems_in(source, &ranks))
        .collect();
    if !problems.is_empty() {
        bail!("uses against the order of rooms:\n{}", problems.join("\n"));
    }
    println!("rooms: {} in order", ranks.len());
    Ok(())
}

/// Reads the order from the `//!` lines that contain arrows.
fn parse_order(header: &str) -> Result<Ranks> {
    let text: String = header
        .lines()
        .filter_map(|line| line.strip_prefix("//!"))
        .collect::<Vec<_>>()
        .join(" ");
    let quoted = text.split('`').find(|part| part.contains('→'));
    let order = quoted.context("lib.rs: no room order `a → b` in its header")?;
    let mut ranks = Ranks::new();
    for (rank, step) in order.split('→').enumerate() {
        for room in step.trim().trim_matches(['{', '}']).split(',') {
            ranks.insert(room.trim().to_owned(), rank);
        }
    }
    Ok(ranks)
}

fn problems_in(source: &Source, ranks: &Ranks) -> Vec<String> {
    let room = room_of(&source.path, ranks);
    if room == "lib" || room == "main" {
        return Vec::new();
    }
    let shown = source.path.display();
    let Some(own) = ranks.get(&room) else {
        return vec![format!("  {shown}: room {room} is not in the order")];
    };
    let mut problems = Vec::new();
    for path in used_paths(source.without_tests()) {
        let used = room_in(&path, ranks);
        match ranks.get(&used) {
            _ if used == room => {}
            Some(rank) if rank > own => {}
            Some(_) => problems.push(format!("  {shown}: {room} uses {used}")),
            None => problems.push(format!("  {shown}: {used} is not in the order")),
        }
    }
    problems.sort();
    problems.dedup();
    problems
}

/// The room of a file, by its folders or its own name.
fn room_of(path: &Path, ranks: &Ranks) -> String {
    let path = path.with_extension("");
    let names: Vec<_> = path.iter().map(|name| name.to_string_lossy()).collect();
    room_in(&names.join("::"), ranks)
}

/// The room that a path after `crate::` leads to: its first segment, or its first two if they are in the order.
fn room_in(path: &str, ranks: &Ranks) -> String {
    let mut segments = path.splitn(3, "::");
    let (first, second) = (
        segments.next().unwrap_or_default(),
        segments.next().unwrap_or_default(),
    );
    let inner = format!("{first}::{second}");
    if ranks.contains_key(&inner) {
        inner
    } else {
        first.to_owned()
    }
}

/// Every path after `crate::`, also inside `use crate::{a, b::{c, d}}`; at least its first two segments.
fn used_paths(text: &str) -> Vec<String> {
    let code: String = text
        .lines()
        .map(|line| line.split("//").next().unwrap_or_default())
        .collect::<Vec<_>>()
        .join("\n");
    let single = Regex::new(r"(?:\$?\bcrate)::([a-z_][a-z0-9_]*)(::\w+|::|\s*[;,])")
        .expect("a fixed pattern");
    let mut paths: Vec<String> = single
        .captures_iter(&code)
        .map(|found| found[1].to_owned() + found[2].trim_end_matches([';', ',', ' ', '\n']))
        .collect();
    for (start, opening) in code.match_indices("crate::{") {
        paths.extend(top_paths(&code[start + opening.len()..]));
    }
    paths
}

/// The path of each item of a brace group, up to its closing brace.
fn top_paths(group: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut depth = 0_u32;
    let mut item = String::new();
    for character in group.chars() {
        match character {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => names.push(std::mem::take(&mut item)),
            other if depth == 0 => item.push(other),
            _ => {}
        }
    }
    names.push(item);
    let paths = names.iter().map(|name| name.trim());
    paths
        .filter(|path| path.starts_with(|c: char| c.is_ascii_lowercase()))
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{parse_order, problems_in, room_in, used_paths};
    use crate::check::Source;

    const HEADER: &str = "//! Order:\n//! `top → {left, right}\n//! → top::base → low`\n";

    fn problems(path: &str, text: &str) -> Vec<String> {
        let ranks = parse_order(HEADER).expect("an order");
        let source = Source {
            path: path.into(),
            text: text.to_owned(),
        };
        problems_in(&source, &ranks)
    }

    #[test]
    fn only_rooms_further_right_may_be_used() {
        assert!(problems("top/mod.rs", "use crate::low::A;").is_empty());
        assert!(problems("left.rs", "use crate::left::{B, C};").is_empty());
        assert_eq!(problems("left.rs", "crate::right::f()").len(), 1);
        assert_eq!(problems("low/x.rs", "use crate::{low, top::T};").len(), 1);
        assert_eq!(problems("new/x.rs", "").len(), 1);
    }

    #[test]
    fn tests_and_comments_do_not_count() {
        let text = "// crate::top::x\n#[cfg(test)]\nmod tests { use crate::top::X; }";
        assert!(problems("low/x.rs", text).is_empty());
    }

    #[test]
    fn groups_are_read_at_their_top_level() {
        let ranks = parse_order(HEADER).expect("an order");
        let paths = used_paths("use crate::{low::{a, b}, right, top::base::c, left::c};");
        let used: Vec<_> = paths.iter().map(|path| room_in(path, &ranks)).collect();
        assert_eq!(used, ["low", "right", "top::base", "left"]);
    }

    #[test]
    fn a_room_within_a_room_has_its_own_place() {
        assert!(problems("left.rs", "use crate::top::base::B;").is_empty());
        assert!(problems("top/base/mod.rs", "use crate::low::A;").is_empty());
        assert_eq!(problems("top/base/x.rs", "use crate::left::B;").len(), 1);
        assert_eq!(problems("top/base.rs", "use crate::top::T;").len(), 1);
        assert_eq!(problems("low.rs", "crate::top::base::f()").len(), 1);
    }
}
