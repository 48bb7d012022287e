//! `scripts/run`: boots what was built, on this terminal or for a few commands.

use crate::build::{self, image};
use crate::debian::{self, Part};
use crate::process;
use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{env, fs};
use xenlike_tests::machine::{Chipset, Firmware, Machine, Serial};
use xenlike_tests::media::{Media, Module};
use xenlike_tests::paths::{Scratch, build as artefact};
use xenlike_tests::session::Session;

/// Options of `scripts/run`.
#[derive(Args)]
pub struct Options {
    /// Boot an unmodified Linux as Dom0 instead of the embedded control domain
    #[arg(long, value_enum)]
    dom0: Option<Dom0>,
    /// Boot this kernel as Dom0, any that Xen would: a Linux bzImage, an ELF with Xen's notes (`cargo run -p
    /// xtask -- oracle --kernel FILE` boots it under real Xen)
    #[arg(long, value_name = "FILE", conflicts_with = "dom0")]
    kernel: Option<PathBuf>,
    /// With --kernel: its initrd
    #[arg(long, value_name = "FILE", requires = "kernel")]
    initrd: Option<PathBuf>,
    /// With --kernel: its command line
    #[arg(
        long,
        value_name = "WORDS",
        requires = "kernel",
        default_value = "",
        allow_hyphen_values = true
    )]
    args: String,
    /// Boot by UEFI
    #[arg(long)]
    uefi: bool,
    /// Number of CPUs
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=255))]
    cpus: u32,
    /// Memory in MiB
    #[arg(long, default_value_t = 2048, value_parser = clap::value_parser!(u32).range(128..))]
    mem: u32,
    /// Machine type
    #[arg(long, value_enum, default_value = "q35")]
    machine: MachineType,
    /// Run shell commands (separated by `;`), print what they print, power off
    #[arg(long, value_name = "COMMANDS", conflicts_with_all = ["dom0", "kernel"])]
    exec: Option<String>,
    /// With --exec: limit in seconds
    #[arg(long, default_value_t = 600)]
    limit: u64,
    /// With --exec: print the boot messages too
    #[arg(long, short)]
    verbose: bool,
    /// Words added to the hypervisor's command line
    #[arg(long, default_value = "")]
    append: String,
    /// Boot what is there, without building
    #[arg(long)]
    no_build: bool,
    /// QEMU's -cpu
    #[arg(long, default_value = "max")]
    cpu: String,
    /// Further QEMU arguments
    #[arg(last = true)]
    qemu: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Dom0 {
    /// Debian's Linux with a busybox root
    Debian,
    /// Debian's Linux with a Debian 13 root on a disk, whose changes are forgotten
    DebianRoot,
}

impl Dom0 {
    /// Linux's command line.
    fn words(self) -> &'static str {
        match self {
            Self::Debian => "console=hvc0",
            Self::DebianRoot => "console=hvc0 xenlike.root=/dev/vda",
        }
    }
}

#[derive(Clone, Copy, ValueEnum)]
enum MachineType {
    Pc,
    Q35,
}

/// Boots.
///
/// # Errors
/// When the build or QEMU fails, or with `--exec` a command did.
pub fn run(options: &Options) -> Result<()> {
    if !options.no_build {
        build::build(&build::Options::default())?;
    }
    if options.dom0 == Some(Dom0::DebianRoot) {
        debian::root::ensure()?;
    }
    let scratch = Scratch::new("run")?;
    if let Some(commands) = &options.exec {
        return execute(options, commands, &scratch);
    }
    let iso = interactive_iso(options, &scratch)?;
    println!("Ctrl-A x ends QEMU.");
    let mut qemu = options
        .machine()
        .command(&iso, Serial::Terminal, scratch.path())?;
    process::become_command(&mut qemu)
}

impl Options {
    fn machine(&self) -> Machine {
        Machine {
            chipset: match self.machine {
                MachineType::Pc => Chipset::Pc,
                MachineType::Q35 => Chipset::Q35,
            },
            firmware: if self.uefi {
                Firmware::Uefi
            } else {
                Firmware::Bios
            },
            cpus: self.cpus,
            memory_mib: self.mem,
            cpu: self.cpu.clone(),
            usb_stick: false,
            extra: self.disk().into_iter().chain(self.qemu.clone()).collect(),
        }
    }
}

impl Options {
    /// The disk with Debian's root.
    fn disk(&self) -> Vec<String> {
        if self.dom0 != Some(Dom0::DebianRoot) {
            return Vec::new();
        }
        let drive = format!(
            "file={},format=raw,if=virtio,snapshot=on",
            debian::root::path().display()
        );
        vec!["-drive".to_owned(), drive]
    }
}

fn interactive_iso(options: &Options, scratch: &Scratch) -> Result<PathBuf> {
    if let Some(kernel) = &options.kernel {
        let iso = scratch.path().join("run.iso");
        let initrd = options.initrd.as_deref().map(from_caller);
        Media::xenlike()
            .dom0(from_caller(kernel), &options.args, initrd)
            .and(&options.append)
            .write(&iso)?;
        return Ok(iso);
    }
    let media = match options.dom0 {
        None if options.append.is_empty() => return Ok(artefact("xenlike.iso")),
        None => Media::xenlike().modules(image::shell_files()?),
        Some(dom0) => Media::xenlike().dom0(
            Part::Linux.path(),
            dom0.words(),
            Some(debian::dom0::initrd()),
        ),
    };
    let iso = scratch.path().join("run.iso");
    media.and(&options.append).write(&iso)?;
    Ok(iso)
}

/// A file as who called `scripts/run` named it, which works from the repository's root.
fn from_caller(file: &Path) -> PathBuf {
    match env::var_os("XENLIKE_CALLED_FROM") {
        Some(folder) => Path::new(&folder).join(file),
        None => file.to_owned(),
    }
}

/// The shell runs a file named `autoexec`, reports each command's status, and powers off.
fn execute(options: &Options, commands: &str, scratch: &Scratch) -> Result<()> {
    let lines: Vec<&str> = commands
        .split([';', '\n'])
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    if lines.is_empty() {
        bail!("--exec: no command given");
    }
    let script = scratch.path().join("autoexec");
    fs::write(&script, lines.join("\n") + "\n")?;
    let media = Media::xenlike()
        .and(&options.append)
        .modules(image::shell_files()?)
        .module(Module::file("autoexec", script));
    let mut session = Session::boot("run", &media, &options.machine())?;
    let limit = Duration::from_secs(options.limit);

    let boot = session.read_until("^xenlike> ", limit)?;
    if options.verbose {
        print!("{boot}");
    }
    let mut failed = 0;
    for line in &lines {
        let printed = session.read_until(r"^\[exec\] status ", limit)?;
        let status = session.expect(r"\d+\n", limit)?;
        print!("> {}", printed.trim_start_matches("xenlike> "));
        if status.trim() != "0" {
            eprintln!("error: `{line}` failed");
            failed += 1;
        }
    }
    // Most machines power off; where that is not possible the session's end takes QEMU down.
    let _ = session.expect_end(Duration::from_secs(5));
    session.kill().context("QEMU")?;
    match failed {
        0 => Ok(()),
        count => bail!("{count} of {} commands failed", lines.len()),
    }
}
