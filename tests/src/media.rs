//! Bootable media: a hybrid BIOS and UEFI image with GRUB, a multiboot kernel and its modules.

use crate::paths::{Scratch, build};
use anyhow::{Context, Result, bail};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A multiboot2 module: a file, and the words after it on GRUB's `module2` line.
#[derive(Clone, Debug)]
pub struct Module {
    source: PathBuf,
    arguments: String,
}

impl Module {
    /// A file for the embedded shell, called `name` (the boot domain's `file=NAME` rule).
    pub fn file(name: &str, source: impl Into<PathBuf>) -> Self {
        Self::with_arguments(source, format!("file={name}"))
    }

    /// A module with any command line: a Dom0 kernel, an initrd, a manifest.
    pub fn with_arguments(source: impl Into<PathBuf>, arguments: impl Into<String>) -> Self {
        Self {
            source: source.into(),
            arguments: arguments.into(),
        }
    }

    /// The words of its command line.
    pub fn arguments(&self) -> &str {
        &self.arguments
    }
}

/// The contents of a medium.
#[derive(Clone, Debug)]
pub struct Media {
    kernel: PathBuf,
    command_line: String,
    modules: Vec<Module>,
    text_screen: bool,
    version_1: bool,
    acpi_tables: Vec<(String, Vec<u8>)>,
}

impl Media {
    /// A medium that boots `kernel` by multiboot2.
    pub fn new(kernel: impl Into<PathBuf>) -> Self {
        Self {
            kernel: kernel.into(),
            command_line: String::new(),
            modules: Vec::new(),
            text_screen: false,
            version_1: false,
            acpi_tables: Vec::new(),
        }
    }

    /// A medium that boots `build/xenlike` with its console on the first serial port.
    pub fn xenlike() -> Self {
        Self::new(build("xenlike")).command_line("console=com1,vga com1=115200,8n1")
    }

    /// Like [`Self::xenlike`], with the test build, which can audit itself ([`crate::session::Session::audit`]).
    pub fn test_build() -> Self {
        Self::xenlike().with_kernel(build("test/xenlike"))
    }

    /// Replaces the kernel.
    #[must_use]
    pub fn with_kernel(mut self, kernel: impl Into<PathBuf>) -> Self {
        self.kernel = kernel.into();
        self
    }

    /// Whether it boots the test build.
    pub fn is_test_build(&self) -> bool {
        self.kernel == build("test/xenlike")
    }

    /// Replaces the kernel's command line (GRUB's quoting rules apply).
    #[must_use]
    pub fn command_line(mut self, text: &str) -> Self {
        self.command_line = text.to_owned();
        self
    }

    /// Adds words to the kernel's command line.
    #[must_use]
    pub fn and(mut self, words: &str) -> Self {
        if !self.command_line.is_empty() {
            self.command_line.push(' ');
        }
        self.command_line.push_str(words);
        self
    }

    /// Adds a module after the present ones.
    #[must_use]
    pub fn module(mut self, module: Module) -> Self {
        self.modules.push(module);
        self
    }

    /// Makes GRUB leave the screen in VGA text mode (BIOS).
    #[must_use]
    pub fn on_text_screen(mut self) -> Self {
        self.text_screen = true;
        self
    }

    /// Makes GRUB load the kernel by version 1 of multiboot.
    #[must_use]
    pub fn by_version_1(mut self) -> Self {
        self.version_1 = true;
        self
    }

    /// Makes GRUB replace the firmware's ACPI tables with that signature by `table`.
    #[must_use]
    pub fn with_acpi_table(mut self, signature: &str, table: Vec<u8>) -> Self {
        self.acpi_tables.push((signature.to_owned(), table));
        self
    }

    /// Adds several modules.
    #[must_use]
    pub fn modules(mut self, modules: impl IntoIterator<Item = Module>) -> Self {
        self.modules.extend(modules);
        self
    }

    /// Adds Domain-0's kernel with its command line and, after it, its initrd, in the same order as for Xen.
    #[must_use]
    pub fn dom0(
        self,
        kernel: impl Into<PathBuf>,
        arguments: &str,
        initrd: Option<impl Into<PathBuf>>,
    ) -> Self {
        self.module(Module::with_arguments(kernel, arguments))
            .modules(initrd.map(|path| Module::with_arguments(path, "")))
    }

    /// Writes the image to `iso`.
    ///
    /// # Errors
    /// If a file is missing or `grub-mkrescue` fails, with the reason.
    pub fn write(&self, iso: &Path) -> Result<()> {
        let scratch = Scratch::new("iso")?;
        let boot = scratch.path().join("boot");
        fs::create_dir_all(boot.join("grub"))?;
        place(&self.kernel, &boot.join("kernel"))?;
        for (index, module) in self.modules.iter().enumerate() {
            place(&module.source, &boot.join(module_name(index, module)))?;
        }
        for (signature, table) in &self.acpi_tables {
            fs::write(boot.join(format!("{signature}.dat")), table)?;
        }
        fs::write(boot.join("grub/grub.cfg"), self.grub_config())?;
        make_rescue_image(scratch.path(), iso)
    }

    fn grub_config(&self) -> String {
        let mut text = String::from(PREAMBLE);
        if !self.acpi_tables.is_empty() {
            text.push_str(&acpi_command(&self.acpi_tables));
        }
        // Writing to a String can't fail.
        let version = if self.version_1 { "" } else { "2" };
        let _ = writeln!(
            text,
            "multiboot{version} /boot/kernel {}",
            self.command_line
        );
        for (index, module) in self.modules.iter().enumerate() {
            let name = module_name(index, module);
            let _ = writeln!(
                text,
                "module{version} --nounzip /boot/{name} {}",
                module.arguments
            );
        }
        if self.text_screen {
            // Must follow `multiboot2`, which sets it by the kernel's header.
            text.push_str("set gfxpayload=text\n");
        }
        text.push_str("boot\n");
        text
    }
}

/// Puts GRUB's console on serial port and screen; a machine without a serial port keeps its screen.
const PREAMBLE: &str = "\
set timeout=0
if serial --unit=0 --speed=115200; then
  terminal_input serial console
  terminal_output serial console
fi
insmod all_video
";

/// The command that replaces ACPI tables.
fn acpi_command(tables: &[(String, Vec<u8>)]) -> String {
    let names: Vec<&str> = tables.iter().map(|(name, _)| name.as_str()).collect();
    let files: Vec<String> = names.iter().map(|n| format!("/boot/{n}.dat")).collect();
    format!("acpi --exclude={} {}\n", names.join(","), files.join(" "))
}

/// A unique name that is still recognisable to a reader.
fn module_name(index: usize, module: &Module) -> String {
    let base = module.source.file_name().unwrap_or_default();
    format!("{index:02}-{}", base.to_string_lossy().replace(' ', "_"))
}

/// Puts `source` at `target`: as a hard link if the file system allows, else as a copy.
fn place(source: &Path, target: &Path) -> Result<()> {
    let real = fs::canonicalize(source).with_context(|| format!("{}", source.display()))?;
    if fs::hard_link(&real, target).is_err() {
        fs::copy(&real, target).with_context(|| format!("copying {}", source.display()))?;
    }
    Ok(())
}

fn make_rescue_image(tree: &Path, iso: &Path) -> Result<()> {
    let output = Command::new("grub-mkrescue")
        .args(["--locales=", "--fonts=", "--themes=", "-o"])
        .arg(iso)
        .arg(tree)
        .args(["--", "-volid", "XENLIKE"])
        .output()
        .context("grub-mkrescue (run scripts/setup)")?;
    if !output.status.success() || !iso.exists() {
        bail!(
            "grub-mkrescue failed:\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(())
}
