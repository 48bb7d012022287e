//! The copy of the tree that faults are put into. It is kept between runs with its build results. Unchanged files are
//! left alone, so that little is rebuilt.

use crate::process;
use anyhow::{Context, Result};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use xenlike_tests::paths::{build, root};

/// Makes the copy equal to the tree, without the changes of earlier patches.
///
/// # Errors
/// If git can't list the files, or one can't be copied.
pub fn refresh() -> Result<PathBuf> {
    let tree = build("faults/tree");
    let listed = process::output(
        Command::new("git")
            .args([
                "ls-files",
                "-z",
                "--cached",
                "--others",
                "--exclude-standard",
            ])
            .current_dir(root()),
    )?;
    let files: BTreeSet<&str> = listed.split('\0').filter(|name| !name.is_empty()).collect();
    for file in &files {
        copy(&root().join(file), &tree.join(file)).with_context(|| (*file).to_owned())?;
    }
    let marker = tree.with_file_name("files");
    // Removes files that have been deleted from the tree since, or that a patch has added.
    for old in fs::read_to_string(&marker).unwrap_or_default().lines() {
        if !files.contains(old) {
            let _ = fs::remove_file(tree.join(old));
        }
    }
    fs::write(&marker, files.into_iter().collect::<Vec<_>>().join("\n"))?;
    Ok(tree)
}

/// Copies a file if it differs. A listed file that is gone is skipped.
fn copy(from: &Path, to: &Path) -> Result<()> {
    if !from.is_file() {
        let _ = fs::remove_file(to);
        return Ok(());
    }
    let wanted = fs::read(from)?;
    if fs::read(to).is_ok_and(|there| there == wanted) {
        return Ok(());
    }
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::copy(from, to)?;
    Ok(())
}

/// Applies a patch to the copy. Lines may have moved since the patch was made.
///
/// # Errors
/// If it doesn't apply.
pub fn apply(tree: &Path, patch: &Path) -> Result<()> {
    // The copy is inside another repository's tree, for a part of which git would otherwise take it.
    let ceiling = tree.parent().unwrap_or(tree);
    let done = process::output(
        Command::new("git")
            .args(["apply", "--whitespace=nowarn"])
            .arg(patch)
            .env("GIT_CEILING_DIRECTORIES", ceiling)
            .current_dir(tree),
    );
    done.map(drop).context("the patch doesn't apply any more")
}
