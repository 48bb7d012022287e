//! Code that checks and reports share: reads the source files of ring 0, without their tests.

use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};
use xenlike_tests::paths::root;

/// A Rust source file.
pub struct Source {
    /// Path below the folder that was read.
    pub path: PathBuf,
    /// Contents of the file.
    pub text: String,
}

impl Source {
    /// The text before the file's test module. A test module in a file of its own, which a line at the
    /// top declares, doesn't count.
    pub fn without_tests(&self) -> &str {
        let before = |marker: &str| {
            let mut found = self.text.match_indices(marker).map(|(at, _)| at);
            found.find(|&at| {
                let module = self.text.get(at + marker.len()..).unwrap_or_default();
                module.lines().next().is_some_and(|line| line.contains('{'))
            })
        };
        let end = ["test", "all(test, loom)", "all(test, not(loom))"]
            .iter()
            .filter_map(|when| before(&format!("#[cfg({when})]\nmod ")))
            .min();
        let end = end.unwrap_or(self.text.len());
        self.text.get(..end).unwrap_or_default()
    }

    /// What [`Self::without_tests`] leaves out.
    pub fn tests(&self) -> &str {
        let code = self.without_tests().len();
        self.text.get(code..).unwrap_or_default()
    }

    /// Whether the whole file is a test (`tests.rs`, `…/tests/…`), or part of a model that is built only for the
    /// model checker (`models.rs`, `…/models/…`, loom's atomics). The audit counts as neither: the rules for rooms
    /// and lints apply to it.
    pub fn is_test(&self) -> bool {
        self.path.components().any(|part| {
            let name = part.as_os_str().to_string_lossy();
            let for_tests = ["tests", "models", "model.rs"].contains(&&*name);
            for_tests || name.ends_with("tests.rs") || name.ends_with("models.rs")
        })
    }
}

impl Source {
    /// Whether the file is only in test builds: the audit, and the parts of services that it needs.
    pub fn is_audit(&self) -> bool {
        self.path.components().any(|part| {
            let name = part.as_os_str().to_string_lossy();
            ["audit", "audit.rs", "standstill.rs"].contains(&&*name)
        })
    }
}

/// The hypervisor's source folder.
pub fn core_folder() -> PathBuf {
    root().join("xenlike-core/src")
}

/// All `.rs` files below `folder`, sorted by path.
///
/// # Errors
/// If the folder can't be read.
pub fn sources(folder: &Path) -> Result<Vec<Source>> {
    let mut found = Vec::new();
    gather(folder, folder, &mut found)?;
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

fn gather(top: &Path, folder: &Path, found: &mut Vec<Source>) -> Result<()> {
    let entries = fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            gather(top, &path, found)?;
        } else if path.extension().is_some_and(|end| end == "rs") {
            found.push(Source {
                text: fs::read_to_string(&path)?,
                path: path.strip_prefix(top)?.to_owned(),
            });
        }
    }
    Ok(())
}
