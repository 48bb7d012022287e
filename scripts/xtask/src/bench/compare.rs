//! `scripts/bench --compare REVISION`: compares with an earlier revision.

use super::machine::Figures;
use super::rows::ROWS;
use super::runs;
use super::table::{quotient, shown};
use crate::process;
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;
use xenlike_tests::media::Media;
use xenlike_tests::paths::{build as artefact, root};

/// A worktree of a revision, in a folder below `build/`. Its build results are kept for the next comparison.
struct Worktree {
    path: PathBuf,
}

impl Worktree {
    fn at(revision: &str) -> Result<Self> {
        let path = artefact("bench/worktree");
        if path.join(".git").exists() {
            let mut checkout = Command::new("git");
            checkout.arg("-C").arg(&path);
            process::output(
                checkout.args(["checkout", "--quiet", "--force", "--detach", revision]),
            )?;
        } else {
            let mut add = Command::new("git");
            add.args(["worktree", "add", "--quiet", "--force", "--detach"]);
            process::output(add.arg(&path).arg(revision).current_dir(root()))?;
        }
        Ok(Self { path })
    }

    /// Builds the revision with its own build logic.
    fn build(&self) -> Result<()> {
        let status = Command::new("cargo")
            .args(["run", "--quiet", "--package", "xtask", "--", "build"])
            .arg("--no-debian")
            .current_dir(&self.path)
            .status()
            .context("cargo")?;
        if !status.success() {
            bail!("the revision can't be built");
        }
        Ok(())
    }

    /// Measures the revision's hypervisor with the present guest.
    fn figures(&self) -> Result<Figures> {
        self.build()?;
        runs::of(&Media::xenlike().with_kernel(self.path.join("build/xenlike")))
    }
}

/// Measures `revision` and prints it beside `now`.
///
/// # Errors
/// If the revision doesn't exist or can't be built.
pub fn compare(revision: &str, now: &Figures) -> Result<()> {
    let commit = resolve(revision, root())?;
    let before = Worktree::at(&commit)?.figures()?;
    print!("{}", text(revision, &before, now));
    Ok(())
}

fn resolve(revision: &str, folder: &Path) -> Result<String> {
    let mut parse = Command::new("git");
    parse.args(["rev-parse", "--verify", "--quiet"]);
    let found = process::output(
        parse
            .arg(format!("{revision}^{{commit}}"))
            .current_dir(folder),
    );
    let commit = found.with_context(|| format!("{revision}: no such revision"))?;
    Ok(commit.trim().to_owned())
}

/// The rows that changed, and the number of rows that didn't.
fn text(revision: &str, before: &Figures, now: &Figures) -> String {
    let mut lines = format!("{:<26} {revision:>13} {:>13} {:>6}\n", "", "now", "ratio");
    let mut same = 0;
    for row in ROWS {
        let (old, new) = (before.get(row.name), now.get(row.name));
        if old == new {
            same += u32::from(old.is_some());
            continue;
        }
        let ratio = match (old, new) {
            (Some(old), Some(new)) => format!("{:.2}", quotient(*new, *old)),
            _ => String::new(),
        };
        lines.push_str(&format!(
            "{:<26} {:>13} {:>13} {ratio:>6}\n",
            row.name,
            shown(old.copied()),
            shown(new.copied())
        ));
    }
    lines.push_str(&format!("{same} rows are the same\n"));
    lines
}

#[cfg(test)]
mod tests {
    use super::{Figures, text};

    #[test]
    fn only_what_changed_is_told() {
        let figures = |iret, version| -> Figures {
            [
                ("iret".to_owned(), iret),
                ("xen_version".to_owned(), version),
            ]
            .into()
        };
        let told = text("v1", &figures(200, 177), &figures(100, 177));
        assert!(told.contains("iret") && told.contains("0.50"));
        assert!(!told.contains("xen_version") && told.contains("1 rows are the same"));
    }
}
