//! `scripts/run`: boots what was built, on this terminal or for a few commands.

mod exec;

use crate::build::{self, image};
use crate::debian::{self, Part};
use crate::process;
use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};
use std::env;
use std::path::{Path, PathBuf};
use xenlike_tests::machine::{Chipset, Firmware, Machine, Serial};
use xenlike_tests::media::{Media, Module};
use xenlike_tests::paths::{Scratch, build as artefact};

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
    /// A configuration for the embedded shell's files: `create NAME` there creates the domain
    #[arg(long, value_name = "FILE", conflicts_with_all = ["dom0", "kernel"])]
    cfg: Option<PathBuf>,
    /// Another file for the embedded shell, such as a kernel that a configuration names; may be given many times
    #[arg(long, value_name = "FILE", conflicts_with_all = ["dom0", "kernel"])]
    file: Vec<PathBuf>,
    /// Run commands of the embedded shell (separated by `;`), or with --dom0 a line of Dom0's shell; print what they
    /// print, end with their status
    #[arg(long, value_name = "COMMANDS", conflicts_with = "kernel")]
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
    /// The command line for Linux.
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

/// Boots the machine.
///
/// # Errors
/// If the build or QEMU fails, or with `--exec` a command fails.
pub fn run(options: &Options) -> Result<()> {
    if !options.no_build {
        build::build(&build::Options::default())?;
    }
    if options.dom0 == Some(Dom0::DebianRoot) {
        debian::root::ensure()?;
    }
    let scratch = Scratch::new("run")?;
    match (&options.exec, options.dom0) {
        (Some(line), Some(dom0)) => return exec::in_dom0(options, dom0, line),
        (Some(commands), None) => return exec::in_shell(options, commands, &scratch),
        (None, _) => {}
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
    /// QEMU's arguments for the disk with Debian's root.
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
    let own_files = options.cfg.is_some() || !options.file.is_empty();
    let media = match options.dom0 {
        // With `--no-build`, the artefacts may be newer than the image.
        None if !own_files && !options.no_build && options.append.is_empty() => {
            return Ok(artefact("xenlike.iso"));
        }
        None => options.shell_media()?,
        Some(dom0) => dom0.media(),
    };
    let iso = scratch.path().join("run.iso");
    media.and(&options.append).write(&iso)?;
    Ok(iso)
}

impl Dom0 {
    fn media(self) -> Media {
        let initrd = Some(debian::dom0::initrd());
        Media::xenlike().dom0(Part::Linux.path(), self.words(), initrd)
    }
}

impl Options {
    /// A medium with the embedded shell and its usual files; those named on the command line take precedence.
    fn shell_media(&self) -> Result<Media> {
        let mut own = Vec::new();
        for path in self.cfg.iter().chain(&self.file) {
            let source = from_caller(path);
            let name = source.file_name().context("a file's name")?;
            ensure!(
                source.is_file(),
                "{}: there is no such file",
                path.display()
            );
            own.push(Module::file(&name.to_string_lossy(), source.clone()));
        }
        let usual = image::shell_files()?;
        let hidden = |module: &Module| own.iter().any(|it| it.arguments() == module.arguments());
        let usual: Vec<_> = usual.into_iter().filter(|it| !hidden(it)).collect();
        Ok(Media::xenlike().modules(own).modules(usual))
    }
}

/// A path relative to the caller's folder: `scripts/run` itself works in the repository's root.
fn from_caller(file: &Path) -> PathBuf {
    match env::var_os("XENLIKE_CALLED_FROM") {
        Some(folder) => Path::new(&folder).join(file),
        None => file.to_owned(),
    }
}
