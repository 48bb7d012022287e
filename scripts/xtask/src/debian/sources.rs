//! The machine's Debian mirror, read from its apt configuration.

use crate::process;
use anyhow::{Result, bail};
use std::path::Path;
use std::process::Command;

/// A package index that apt is configured to use.
pub struct Target {
    /// Address of the repository.
    pub uri: String,
    /// Suite or code name, such as `bookworm-backports`.
    pub codename: String,
    origin: String,
}

const FORMAT: &str = "$(REPO_URI)|$(CODENAME)|$(ORIGIN)";

/// Debian's archive keys (package debian-archive-keyring), with which apt checks signatures.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// The package indices that this machine's apt uses.
///
/// # Errors
/// If apt can't tell.
pub fn configured() -> Result<Vec<Target>> {
    let listed = process::output(Command::new("apt-get").args([
        "indextargets",
        "--format",
        FORMAT,
        "Created-By: Packages",
    ]))?;
    Ok(listed.lines().filter_map(parse).collect())
}

fn parse(line: &str) -> Option<Target> {
    let mut fields = line.split('|').map(str::to_owned);
    Some(Target {
        uri: fields.next()?,
        codename: fields.next()?,
        origin: fields.next()?,
    })
}

/// The mirror of Debian's main archive: the configured one, or `XENLIKE_DEBIAN_MIRROR`.
///
/// # Errors
/// If there is neither (Ubuntu, or apt was never updated).
pub fn debian_mirror(targets: &[Target]) -> Result<String> {
    if let Ok(mirror) = std::env::var("XENLIKE_DEBIAN_MIRROR") {
        return Ok(mirror);
    }
    let main = targets
        .iter()
        .find(|it| it.origin == "Debian" && !it.codename.contains("security"));
    match main {
        Some(target) => Ok(target.uri.clone()),
        None => bail!(
            "no Debian mirror in apt's configuration: run `apt-get update`, or set \
             XENLIKE_DEBIAN_MIRROR to the address of one"
        ),
    }
}

/// A `sources.list` line for the packages of `suite` for an architecture, checked with Debian's keys.
pub fn list_line(mirror: &str, suite: &str, architecture: &str) -> String {
    let signed = if Path::new(KEYRING).exists() {
        format!("signed-by={KEYRING} ")
    } else {
        String::new()
    };
    format!("deb [{signed}arch={architecture}] {mirror} {suite} main\n")
}
