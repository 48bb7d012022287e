//! `scripts/setup`: checks what is missing, installs it where apt exists, and otherwise says what to install.

mod apt;
mod requirement;

use anyhow::{Result, bail};
use requirement::{REQUIREMENTS, Requirement};

/// Installs what is missing. Returns quickly if nothing is.
///
/// # Errors
/// If something is missing and can't be installed.
pub fn setup() -> Result<()> {
    let missing: Vec<&Requirement> = REQUIREMENTS.iter().filter(|it| !it.is_met()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    if !apt::is_here() {
        bail!("please install:\n{}", list(&missing));
    }
    println!("setup: installing\n{}", list(&missing));
    let packages: Vec<&str> = missing.iter().map(|it| it.package).collect();
    apt::install(&packages)?;
    let still: Vec<&Requirement> = missing.into_iter().filter(|it| !it.is_met()).collect();
    if !still.is_empty() {
        bail!(
            "installed, but not as new or as complete as needed:\n{}",
            list(&still)
        );
    }
    Ok(())
}

fn list(missing: &[&Requirement]) -> String {
    let lines: Vec<String> = missing
        .iter()
        .map(|it| format!("  {:<22} (Debian: {}): {}", it.what, it.package, it.purpose))
        .collect();
    lines.join("\n")
}
