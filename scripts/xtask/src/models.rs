//! `scripts/test models`: runs the lock-free protocols of the core under loom, which tries every interleaving of a
//! few CPUs' steps up to a bound that each model names.
//!
//! The models are tests named `…::models::…`. They run the core's own code, since `kit::atomic` is loom's under
//! `--cfg loom`. `LOOM_MAX_PREEMPTIONS=5 scripts/test models` searches beyond each model's own bound.

use crate::process;
use anyhow::Result;
use std::process::Command;
use xenlike_tests::paths::{build, root};

/// Builds and runs the models whose name contains `filter`.
///
/// # Errors
/// If a model fails. loom then prints the model's name and the panic of the failing interleaving.
pub fn test(filter: Option<&str>) -> Result<()> {
    let mut cargo = Command::new("cargo");
    cargo
        .args(["test", "--quiet", "--package", "xenlike-core", "--lib"])
        .args(["--profile", "models", "--", "--skip", "::tests::"])
        .arg(filter.unwrap_or("models::"))
        .env("RUSTFLAGS", "--cfg loom")
        .env("CARGO_TARGET_DIR", build("models"))
        .current_dir(root());
    process::run(&mut cargo)
}
