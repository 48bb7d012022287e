//! The logic behind `scripts/*`: a subcommand for each, and a few for developers.

mod bench;
mod build;
mod check;
mod debian;
mod faults;
mod frames;
mod miri;
mod models;
mod nospec;
mod oracle;
mod process;
mod report;
mod rooms;
mod run;
mod setup;
mod test;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Builds, boots, tests and measures xenlike.
#[derive(Parser)]
#[command(name = "xtask")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Install what is missing (Debian, Ubuntu) or say what to install
    Setup,
    /// Build build/xenlike, build/guests, build/bin/xenlike and build/xenlike.iso
    Build(build::Options),
    /// Build, then boot in QEMU with the embedded control domain's shell on this terminal
    Run(run::Options),
    /// Run all tests, or a part of them
    Test(test::Options),
    /// Measure, side by side with Debian's Xen
    Bench(bench::Options),
    /// Hold the `use` lines of xenlike-core against the order of its rooms
    Rooms,
    /// The largest stack frames of build/xenlike
    Frames,
    /// Whether build/xenlike bounds guests' addresses before it uses them
    Nospec,
    /// Lines and unsafe blocks of the ring-0 code
    Report,
    /// Boot a kernel as Dom0 under Debian's real Xen 4.20, to compare
    Oracle(oracle::Options),
    /// Make build/xenlike.iso of what is in build/ already
    Iso,
    /// Make the disk image with a Debian root for Dom0
    Root,
    /// Fetch the kernels that come from Debian's packages into build/debian
    Fetch,
    /// Turn a boot domain's ELF into the flat image that the core includes
    Flatten(build::flat::Options),
}

fn main() -> ExitCode {
    let done = match Cli::parse().task {
        Task::Setup => setup::setup(),
        Task::Build(options) => build::build(&options),
        Task::Run(options) => run::run(&options),
        Task::Test(options) => test::test(&options),
        Task::Bench(options) => bench::bench(&options),
        Task::Rooms => rooms::check(),
        Task::Frames => frames::check(),
        Task::Nospec => nospec::check(),
        Task::Report => report::print(),
        Task::Oracle(options) => oracle::boot(&options),
        Task::Iso => build::image::xenlike_iso(),
        Task::Fetch => debian::ensure(&debian::ALL),
        Task::Root => debian::root::ensure(),
        Task::Flatten(options) => build::flat::flatten(&options.elf, &options.image),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
