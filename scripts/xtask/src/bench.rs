//! `scripts/bench`: figures in executed instructions, beside those of Debian's Xen.

use anyhow::{Result, bail};
use clap::Args;

/// Options of `scripts/bench`.
#[derive(Args)]
pub struct Options {}

/// Measures.
///
/// # Errors
/// When a boot fails.
pub fn bench(_options: &Options) -> Result<()> {
    bail!("no benchmark is defined yet")
}
