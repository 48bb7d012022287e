//! Boots a kernel as Dom0 under Debian's real Xen 4.20: what does the peer do?

use crate::debian::{self, Part};
use crate::process;
use anyhow::Result;
use clap::Args;
use std::path::PathBuf;
use xenlike_tests::machine::{Chipset, Firmware, Machine, Serial};
use xenlike_tests::media::{Media, Module};
use xenlike_tests::paths::Scratch;

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
    /// Further QEMU arguments
    #[arg(last = true)]
    qemu: Vec<String>,
}

/// Boots it on this terminal; `Ctrl-A x` ends.
///
/// # Errors
/// When a part is missing or QEMU fails.
pub fn boot(options: &Options) -> Result<()> {
    let mut parts = vec![Part::Xen];
    if options.kernel.is_none() {
        parts.extend([Part::Linux, Part::Initramfs]);
    }
    debian::ensure(&parts)?;
    let kernel = options.kernel.clone().unwrap_or_else(|| Part::Linux.path());
    let initrd = match (&options.kernel, &options.initrd) {
        (None, None) => Some(Part::Initramfs.path()),
        (_, given) => given.clone(),
    };
    let command_line = "console=com1 com1=115200,8n1 loglvl=all guest_loglvl=all noreboot";
    let media = Media::new(Part::Xen.path())
        .command_line(command_line)
        .and(&options.xen)
        .module(Module::with_arguments(kernel, &options.append))
        .modules(initrd.map(|path| Module::with_arguments(path, "")));
    let scratch = Scratch::new("oracle")?;
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
        extra: options.qemu.clone(),
    };
    let mut qemu = machine.command(&iso, Serial::Terminal, scratch.path())?;
    process::run(qemu.arg("-no-reboot"))
}
