//! The machine that QEMU emulates: chipset, firmware, CPUs, memory.

use anyhow::{Context, Result};
use std::fs;
use std::path::Path;
use std::process::Command;

/// The chipset and machine type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chipset {
    /// i440FX and PIIX, QEMU's `pc`.
    Pc,
    /// ICH9 with PCI Express, QEMU's `q35`.
    Q35,
    /// Hardware-reduced ACPI, with neither HPET nor PM timer; the medium is a disk. QEMU's `microvm`.
    Reduced,
}

/// The firmware that starts GRUB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Firmware {
    /// SeaBIOS, as QEMU brings it.
    Bios,
    /// OVMF, from Debian's package `ovmf`.
    Uefi,
}

/// Where the first serial port is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Serial {
    /// QEMU's standard input and output carry only the port's bytes.
    Pipe,
    /// The user's terminal, with QEMU's monitor at `Ctrl-A c` and quitting at `Ctrl-A x`.
    Terminal,
}

/// A machine on which to boot a medium.
#[derive(Clone, Debug)]
pub struct Machine {
    /// Chipset of the machine.
    pub chipset: Chipset,
    /// Firmware of the machine.
    pub firmware: Firmware,
    /// Number of CPUs.
    pub cpus: u32,
    /// Size of memory in MiB.
    pub memory_mib: u32,
    /// Value of QEMU's `-cpu`.
    pub cpu: String,
    /// Whether the image is a USB stick instead of a CD.
    pub usb_stick: bool,
    /// Further arguments for QEMU.
    pub extra: Vec<String>,
}

impl Default for Machine {
    fn default() -> Self {
        Self {
            chipset: Chipset::Q35,
            firmware: Firmware::Bios,
            cpus: 2,
            memory_mib: 2048,
            cpu: "max".to_owned(),
            usb_stick: false,
            extra: Vec::new(),
        }
    }
}

impl Machine {
    /// The QEMU command that boots `iso` on this machine. QEMU writes files into `scratch`.
    ///
    /// # Errors
    /// If the UEFI firmware's files are missing.
    pub fn command(&self, iso: &Path, serial: Serial, scratch: &Path) -> Result<Command> {
        let mut qemu = Command::new("qemu-system-x86_64");
        let chipset = match self.chipset {
            Chipset::Pc => "pc",
            Chipset::Q35 => "q35",
            Chipset::Reduced => "microvm,acpi=on,pit=on,pic=on,rtc=on,isa-serial=on",
        };
        qemu.args(["-machine", chipset, "-accel", "tcg"])
            .args(["-cpu", &self.cpu])
            .args(["-smp", &self.cpus.to_string()])
            .args(["-m", &format!("{}M", self.memory_mib)])
            .args(["-display", "none", "-nic", "none"]);
        let drive = format!(
            "if=none,id=stick,format=raw,snapshot=on,file={}",
            iso.display()
        );
        if self.chipset == Chipset::Reduced {
            qemu.args(["-drive", &drive])
                .args(["-device", "virtio-blk-device,drive=stick"]);
        } else if self.usb_stick {
            qemu.args(["-drive", &drive, "-device", "qemu-xhci"]).args([
                "-device",
                "usb-storage,drive=stick,removable=on,bootindex=0",
            ]);
        } else {
            qemu.args(["-boot", "d", "-cdrom"]).arg(iso);
        }
        match serial {
            Serial::Pipe => qemu.args(["-monitor", "none", "-serial", "stdio"]),
            Serial::Terminal => qemu.args(["-serial", "mon:stdio"]),
        };
        if self.firmware == Firmware::Uefi {
            add_firmware(&mut qemu, scratch)?;
        }
        qemu.args(&self.extra);
        Ok(qemu)
    }

    /// Adds an argument for QEMU.
    #[must_use]
    pub fn with(mut self, argument: &str) -> Self {
        self.extra.push(argument.to_owned());
        self
    }
}

const OVMF_CODE: &str = "/usr/share/OVMF/OVMF_CODE_4M.fd";
const OVMF_VARS: &str = "/usr/share/OVMF/OVMF_VARS_4M.fd";

fn add_firmware(qemu: &mut Command, scratch: &Path) -> Result<()> {
    let variables = scratch.join("ovmf-vars.fd");
    fs::copy(OVMF_VARS, &variables)
        .with_context(|| format!("{OVMF_VARS} (package ovmf; run scripts/setup)"))?;
    qemu.arg("-drive")
        .arg(format!(
            "if=pflash,format=raw,unit=0,readonly=on,file={OVMF_CODE}"
        ))
        .arg("-drive")
        .arg(format!(
            "if=pflash,format=raw,unit=1,file={}",
            variables.display()
        ));
    Ok(())
}
