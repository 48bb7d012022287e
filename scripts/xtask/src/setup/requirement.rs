//! The programs that building and booting need, and how to detect them.

use crate::process;
use std::path::Path;
use std::process::Command;

/// A program or file that the machine must have.
pub struct Requirement {
    /// Its name for the user.
    pub what: &'static str,
    /// The Debian package that contains it.
    pub package: &'static str,
    /// Why it is needed.
    pub purpose: &'static str,
    check: Check,
}

enum Check {
    Program(&'static str),
    File(&'static str),
    Qemu,
}

/// All requirements.
pub const REQUIREMENTS: &[Requirement] = &[
    Requirement {
        what: "QEMU 9.1 or newer",
        package: "qemu-system-x86",
        purpose: "boots the hypervisor; older versions have bugs in ring 3",
        check: Check::Qemu,
    },
    Requirement {
        what: "grub-mkrescue",
        package: "grub-common",
        purpose: "makes the boot image",
        check: Check::Program("grub-mkrescue"),
    },
    Requirement {
        what: "GRUB for BIOS",
        package: "grub-pc-bin",
        purpose: "boots on BIOS machines",
        check: Check::File("/usr/lib/grub/i386-pc/multiboot2.mod"),
    },
    Requirement {
        what: "GRUB for UEFI",
        package: "grub-efi-amd64-bin",
        purpose: "boots on UEFI machines",
        check: Check::File("/usr/lib/grub/x86_64-efi/multiboot2.mod"),
    },
    Requirement {
        what: "xorriso",
        package: "xorriso",
        purpose: "writes the boot image",
        check: Check::Program("xorriso"),
    },
    Requirement {
        what: "mtools",
        package: "mtools",
        purpose: "writes the boot image's EFI partition",
        check: Check::Program("mformat"),
    },
    Requirement {
        what: "OVMF",
        package: "ovmf",
        purpose: "UEFI firmware for QEMU",
        check: Check::File("/usr/share/OVMF/OVMF_CODE_4M.fd"),
    },
    Requirement {
        what: "Bochs",
        package: "bochs",
        purpose: "the second emulator that the tests boot in",
        check: Check::Program("bochs"),
    },
    Requirement {
        what: "Bochs's BIOS",
        package: "bochsbios",
        purpose: "firmware for Bochs",
        check: Check::File("/usr/share/bochs/BIOS-bochs-latest"),
    },
    Requirement {
        what: "a VGA BIOS",
        package: "vgabios",
        purpose: "firmware for Bochs",
        check: Check::File("/usr/share/vgabios/vgabios.bin"),
    },
    Requirement {
        what: "Xen's public headers",
        package: "libxen-dev",
        purpose: "layout tests compare with them",
        check: Check::File("/usr/include/xen/xen.h"),
    },
    Requirement {
        what: "binutils",
        package: "binutils",
        purpose: "strips the hypervisor",
        check: Check::Program("objcopy"),
    },
    Requirement {
        what: "xz",
        package: "xz-utils",
        purpose: "unpacks Debian packages",
        check: Check::Program("xz"),
    },
];

impl Requirement {
    /// Whether the machine has it.
    pub fn is_met(&self) -> bool {
        match self.check {
            Check::Program(name) => process::exists(name),
            Check::File(path) => Path::new(path).exists(),
            Check::Qemu => qemu_version().is_some_and(|version| version >= (9, 1)),
        }
    }
}

/// The version of `qemu-system-x86_64`, if it is installed.
fn qemu_version() -> Option<(u32, u32)> {
    if !process::exists("qemu-system-x86_64") {
        return None;
    }
    let said = process::output(Command::new("qemu-system-x86_64").arg("--version")).ok()?;
    parse_version(&said)
}

/// Parses the version in `QEMU emulator version 10.0.2 (Debian …)`.
fn parse_version(said: &str) -> Option<(u32, u32)> {
    let (_, rest) = said.split_once("version ")?;
    let mut numbers = rest.split(|c: char| !c.is_ascii_digit());
    let major = numbers.next()?.parse().ok()?;
    let minor = numbers.next()?.parse().ok()?;
    Some((major, minor))
}

#[cfg(test)]
mod tests {
    use super::parse_version;

    #[test]
    fn versions_compare_as_numbers() {
        let debian = parse_version("QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2)\n");
        assert_eq!(debian, Some((10, 0)));
        assert!(debian > parse_version("QEMU emulator version 9.1.0"));
        assert_eq!(parse_version("what?"), None);
    }
}
