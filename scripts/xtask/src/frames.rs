//! Stack frames of the built hypervisor: ring 0 has one small stack a CPU, and inlining can pile the
//! buffers of many functions up in one frame.

use crate::process;
use anyhow::{Result, bail};
use regex::Regex;
use std::process::Command;
use xenlike_tests::paths::build;

/// No function that runs for a guest may need more, in bytes.
const MAX_FRAME: u64 = 6 << 10;
/// Frames shown.
const SHOWN: usize = 8;
/// A prologue has fewer instructions than this.
const PROLOGUE: usize = 32;

/// Prints the largest frames of `build/xenlike`.
///
/// # Errors
/// When one is too large, or there is no hypervisor to look at.
pub fn check() -> Result<()> {
    let mut objdump = Command::new("objdump");
    objdump
        .args(["-d", "-C", "--no-show-raw-insn"])
        .arg(build("xenlike"));
    let mut frames = frames(&process::output(&mut objdump)?)?;
    frames.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
    println!("largest stack frames, bytes");
    for (name, bytes) in frames.iter().take(SHOWN) {
        println!("{bytes:>8} {name}");
    }
    // The boot runs once, on a stack of its own.
    let guests = |name: &str| name.contains("xenlike_core") && !name.contains("::boot::");
    let large = frames
        .iter()
        .filter(|(name, bytes)| *bytes > MAX_FRAME && guests(name));
    let large: Vec<&str> = large.map(|(name, _)| name.as_str()).collect();
    if !large.is_empty() {
        bail!("stack frames above {MAX_FRAME} bytes: {}", large.join(", "));
    }
    Ok(())
}

/// Each function with the bytes that its prologue takes of the stack.
fn frames(listing: &str) -> Result<Vec<(String, u64)>> {
    let label = Regex::new(r"^[0-9a-f]+ <(.*)>:$")?;
    let taken = Regex::new(r"sub +\$0x([0-9a-f]+),%(rsp|r11)$")?;
    let mut found: Vec<(String, u64)> = Vec::new();
    let (mut left, mut probing) = (0, false);
    for line in listing.lines() {
        if let Some(name) = label.captures(line) {
            found.push((name[1].to_owned(), 0));
            (left, probing) = (PROLOGUE, false);
        } else if left > 0
            && let Some((_, frame)) = found.last_mut()
        {
            left -= 1;
            let Some(amount) = taken.captures(line) else {
                continue;
            };
            let bytes = u64::from_str_radix(&amount[1], 16)?;
            if &amount[2] == "r11" {
                // A loop follows that takes and touches these bytes page by page.
                *frame += bytes;
                probing = true;
            } else if probing {
                probing = false;
            } else {
                *frame += bytes;
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::frames;

    #[test]
    fn probed_pages_count_once() {
        let listing = "\
ffff82d04002a7f0 <unrolled>:
ffff82d04002a7fa:\tsub    $0x1000,%rsp
ffff82d04002a801:\tmovq   $0x0,(%rsp)
ffff82d04002a809:\tsub    $0x228,%rsp
ffff82d040018750 <looped>:
ffff82d04001875d:\tsub    $0xd000,%r11
ffff82d040018764:\tsub    $0x1000,%rsp
ffff82d040018778:\tsub    $0x8,%rsp
";
        let found = frames(listing).expect("two functions");
        let expected = [
            ("unrolled".to_owned(), 0x1228),
            ("looped".to_owned(), 0xd008),
        ];
        assert_eq!(found, expected);
    }
}
