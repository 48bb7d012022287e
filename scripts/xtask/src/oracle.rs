//! Boots a kernel as Dom0 under Debian's real Xen 4.20, for comparison.

use crate::debian::{self, Part, dom0, toolstack};
use crate::process;
use anyhow::{Context, Result};
use clap::Args;
use std::fs;
use std::path::{Path, PathBuf};
use xenlike_tests::machine::{Chipset, Firmware, Machine, Serial};
use xenlike_tests::media::Media;
use xenlike_tests::paths::Scratch;
use xenlike_tests::scenario::find_file;

/// Options of `xtask oracle`.
#[derive(Args)]
pub struct Options {
    /// The Dom0 kernel (default: Debian's Linux)
    #[arg(long)]
    kernel: Option<PathBuf>,
    /// Its initrd (default with Debian's Linux: the busybox one)
    #[arg(long)]
    initrd: Option<PathBuf>,
    /// Its command line
    #[arg(long, default_value = "console=hvc0 earlyprintk=xen")]
    append: String,
    /// Words added to Xen's command line
    #[arg(long, default_value = "")]
    xen: String,
    /// CPUs
    #[arg(long, default_value_t = 2)]
    cpus: u32,
    /// Memory, MiB
    #[arg(long, default_value_t = 1024)]
    mem: u32,
    /// Machine type pc instead of q35
    #[arg(long)]
    pc: bool,
    /// Boot by UEFI
    #[arg(long)]
    uefi: bool,
    /// QEMU's -cpu
    #[arg(long, default_value = "max")]
    cpu: String,
    /// Boot Debian's Linux with Debian's own xl as Dom0, and there `xl create -c` this configuration:
    /// its files are taken from its own folder, build/guests and build/debian
    #[arg(long, conflicts_with_all = ["kernel", "initrd"])]
    guest: Option<PathBuf>,
    /// With --guest: shell commands for the Dom0 instead of `xl create -c`
    #[arg(long, requires = "guest")]
    commands: Option<String>,
    /// Further QEMU arguments
    #[arg(last = true)]
    qemu: Vec<String>,
}

/// Boots the kernel on this terminal; `Ctrl-A x` quits.
///
/// # Errors
/// If a part is missing or QEMU fails.
pub fn boot(options: &Options) -> Result<()> {
    let scratch = Scratch::new("oracle")?;
    let mut parts = vec![Part::Xen];
    if options.kernel.is_none() {
        parts.extend([Part::Linux, Part::Initramfs]);
    }
    if options.guest.is_some() {
        parts.extend([Part::Dom0Modules, Part::Toolstack]);
    }
    debian::ensure(&parts)?;
    let kernel = options.kernel.clone().unwrap_or_else(|| Part::Linux.path());
    let initrd = match (&options.guest, &options.kernel, &options.initrd) {
        (Some(guest), _, _) => {
            let script = options.commands.as_deref();
            let script = script.unwrap_or("xl create -c guest.cfg");
            Some(toolstack_with(guest, script, &scratch)?)
        }
        (None, None, None) => Some(Part::Initramfs.path()),
        (None, _, given) => given.clone(),
    };
    let command_line = "console=com1 com1=115200,8n1 loglvl=all guest_loglvl=all noreboot";
    let command_line = match options.guest {
        Some(_) => format!("{command_line} dom0_mem=512M"),
        None => command_line.to_owned(),
    };
    let media = Media::new(Part::Xen.path())
        .command_line(&command_line)
        .and(&options.xen)
        .dom0(kernel, &options.append, initrd);
    let iso = scratch.path().join("oracle.iso");
    media.write(&iso)?;
    let machine = Machine {
        chipset: if options.pc {
            Chipset::Pc
        } else {
            Chipset::Q35
        },
        firmware: if options.uefi {
            Firmware::Uefi
        } else {
            Firmware::Bios
        },
        cpus: options.cpus,
        memory_mib: options.mem,
        cpu: options.cpu.clone(),
        usb_stick: false,
        extra: options.qemu.clone(),
    };
    let mut qemu = machine.command(&iso, Serial::Terminal, scratch.path())?;
    process::become_command(qemu.arg("-no-reboot"))
}

/// Debian's toolstack with the guest's configuration as `guest.cfg`, the files that it names, and a script to run.
///
/// # Errors
/// If a file is missing.
pub fn toolstack_with(guest: &Path, script: &str, scratch: &Scratch) -> Result<PathBuf> {
    let text = fs::read_to_string(guest).with_context(|| guest.display().to_string())?;
    let folder = guest.parent().unwrap_or(Path::new("."));
    let mut files = vec![("guest.cfg".to_owned(), guest.to_owned())];
    for line in text.lines() {
        let Some((key, value)) = line.split_once('=') else {
            continue;
        };
        if matches!(key.trim(), "kernel" | "ramdisk") {
            let name = value.trim().trim_matches('"').to_owned();
            let beside = folder.join(&name);
            let path = if beside.is_file() {
                beside
            } else {
                find_file(&name)?
            };
            files.push((name, path));
        }
    }
    let mut image = dom0::base()?;
    image.extend(toolstack::files_for_root(&files, script)?);
    let path = scratch.path().join("toolstack.img");
    fs::write(&path, image)?;
    Ok(path)
}
