//! Creating the smallest guest on Xen in the usual way: by Debian's xl, in a Linux Dom0.

use super::boot::mark;
use super::machine::{self, Figures};
use super::symbols::Symbols;
use super::{counted, runs};
use crate::build;
use crate::debian::{self, Part};
use crate::oracle;
use anyhow::{Context, Result};
use std::fs;
use std::time::Duration;
use xenlike_tests::machine::Machine;
use xenlike_tests::media::Module;
use xenlike_tests::paths::{Scratch, build as artefact};
use xenlike_tests::scenario::find_file;

/// The row of this measurement.
pub const ROW: &str = "create_hello";
/// Linux boots slowly while every instruction is counted.
const LIMIT: Duration = Duration::from_secs(1800);
/// The output of Dom0 when all is done.
const DONE: &str = "^BENCH-DONE";
/// A whole `xl create` lasts from the first instruction of one guest to that of the next.
const SCRIPT: &str =
    "for name in a b c; do xl create -q -e guest.cfg name=\\\"$name\\\"; done; echo BENCH-DONE";

/// Boots Xen and Linux, and creates the guest repeatedly. Takes minutes.
pub fn create() -> Result<Figures> {
    debian::ensure(&debian::ALL)?;
    let scratch = Scratch::new("xl")?;
    let tools = oracle::toolstack_with(&find_file("hello.cfg")?, SCRIPT, &scratch)?;
    let media = runs::xen()?
        .and("dom0_mem=512M")
        .module(Module::with_arguments(Part::Linux.path(), "console=hvc0"))
        .module(Module::with_arguments(tools, ""));
    let mut guest = Symbols::default();
    guest.add(&artefact("guests/hello"))?;
    let output = scratch.path().join("marks");
    let marks = mark("start", guest.address("_start")?);
    let machine = Machine {
        memory_mib: 1024,
        ..machine::with_plugin(&build::counter()?, &output, &marks)
    };
    machine::until(&media, &machine, DONE, LIMIT)?;
    let starts = counted::marks(&fs::read_to_string(&output)?, "start");
    let spans = starts.windows(2).map(|pair| pair[1] - pair[0]);
    let best = spans.min().context("xl created no two domains")?;
    Ok([(ROW.to_owned(), best)].into())
}
