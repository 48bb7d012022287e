//! `scripts/test faults`: seeded faults. Each patch in `tests/faults/` puts a fault that the source once had,
//! or a similar one, into a copy of the tree; a model or test that the patch names must then fail. This shows
//! that the checks work.
//!
//! A patch begins with some lines of prose and one or more lines of this form, each of which must hold by itself:
//!
//! ```text
//! Fails: models kit::cell::models
//! Fails: host pagetype::tests
//! Fails: qemu race_of_one_domain
//! ```
//!
//! The second word is a part of the names of the tests. Checks in QEMU run only with `XENLIKE_FAULTS_QEMU=1`.

mod check;
mod copy;

use anyhow::{Context, Result, bail, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;
use xenlike_tests::paths::root;

use check::{Check, Verdict};

/// A patch with its checks.
struct Fault {
    name: String,
    path: PathBuf,
    checks: Vec<Check>,
}

/// Applies each patch whose name contains `filter`, alone, and requires that its checks fail.
///
/// # Errors
/// If a patch doesn't apply or build any more, or a fault isn't noticed.
pub fn test(filter: Option<&str>) -> Result<()> {
    let faults = faults(filter)?;
    ensure!(!faults.is_empty(), "no such patch in tests/faults");
    let mut unseen = Vec::new();
    for fault in &faults {
        println!("\n--- {}", fault.name);
        if let Err(error) = seed(fault) {
            eprintln!("error: {error:#}");
            unseen.push(fault.name.as_str());
        }
    }
    println!(
        "\n{} of {} faults are seen",
        faults.len() - unseen.len(),
        faults.len()
    );
    ensure!(unseen.is_empty(), "unseen or stale: {}", unseen.join(", "));
    Ok(())
}

fn faults(filter: Option<&str>) -> Result<Vec<Fault>> {
    let folder = root().join("tests/faults");
    let mut faults = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        let name = path.file_stem().unwrap_or_default();
        let name = name.to_string_lossy().into_owned();
        let is_patch = path.extension().is_some_and(|ending| ending == "patch");
        if is_patch && filter.is_none_or(|wanted| name.contains(wanted)) {
            let checks = checks(&path)?;
            faults.push(Fault { name, path, checks });
        }
    }
    faults.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(faults)
}

/// The checks that a patch names.
fn checks(patch: &Path) -> Result<Vec<Check>> {
    let text = fs::read_to_string(patch)?;
    let header = text.split("\ndiff --git").next().unwrap_or_default();
    let named = header
        .lines()
        .filter_map(|line| line.strip_prefix("Fails: "));
    let checks: Vec<Check> = named
        .map(|line| Check::parse(line).with_context(|| patch.display().to_string()))
        .collect::<Result<_>>()?;
    ensure!(
        !checks.is_empty(),
        "{}: no line `Fails: …`",
        patch.display()
    );
    Ok(checks)
}

/// Puts the fault into the copy and runs its checks there.
fn seed(fault: &Fault) -> Result<()> {
    let tree = copy::refresh()?;
    copy::apply(&tree, &fault.path)?;
    for check in &fault.checks {
        if !check.is_asked_for() {
            println!("{check}: on demand");
            continue;
        }
        let start = Instant::now();
        let verdict = check.run(&tree)?;
        println!("{check}: {verdict}, {} s", start.elapsed().as_secs());
        if let Verdict::Passed(said) = verdict {
            bail!("{check} passes with the fault:\n{said}");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::faults;
    use std::process::Command;
    use xenlike_tests::paths::root;

    /// The patches run on demand only, so nothing else notices that the source has moved away from under one.
    #[test]
    fn every_patch_applies() {
        let faults = faults(None).expect("tests/faults");
        assert!(!faults.is_empty());
        for fault in faults {
            let done = Command::new("git")
                .args(["apply", "--check", "--whitespace=nowarn"])
                .arg(&fault.path)
                .current_dir(root())
                .output()
                .expect("git");
            let said = String::from_utf8_lossy(&done.stderr);
            assert!(done.status.success(), "{}: {said}", fault.name);
        }
    }
}
