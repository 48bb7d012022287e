//! `guests/linuxbench` as the init process of Linux: in Dom0, or in a `DomU` that the hypervisor's toolstack creates.

use super::super::machine::{self, Figures};
use super::Hypervisor;
use super::boot::{DOM0_MEMORY, LIMIT, MEMORY_MIB};
use crate::debian::Part;
use crate::oracle;
use anyhow::{Result, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use xenlike_tests::cpio;
use xenlike_tests::machine::Machine;
use xenlike_tests::media::{Media, Module};
use xenlike_tests::paths::Scratch;
use xenlike_tests::session::Session;

/// The domain in which Linux runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the hardware domain.
    Dom0,
    /// In an ordinary guest.
    DomU,
}

/// Linux's command line.
const LINUX: &str = "console=hvc0 quiet rdinit=/bin/linuxbench";
const PASS: &str = "(PASS|FAIL) linuxbench.*";

/// Measures all rows.
pub fn run(hypervisor: Hypervisor, place: Place, program: &Path) -> Result<Figures> {
    let scratch = Scratch::new("linuxbench")?;
    let initrd = initrd(program, &scratch)?;
    let mut session = match (place, hypervisor) {
        (Place::Dom0, _) => start(hypervisor, &initrd, "", &counting())?,
        (Place::DomU, Hypervisor::Xen) => {
            let command = "xl create -q -c guest.cfg";
            let tools = oracle::toolstack_with(&config(&initrd, &scratch)?, command, &scratch)?;
            Session::boot("linuxbench-xl", &with_toolstack(&tools)?, &counting())?
        }
        (Place::DomU, Hypervisor::Xenlike) => {
            let media = hypervisor
                .media()?
                .module(Module::file("guest.cfg", config(&initrd, &scratch)?))
                .module(Module::file("vmlinuz", Part::Linux.path()))
                .module(Module::file("linuxbench.img", &initrd));
            let mut session = Session::boot("linuxbench-create", &media, &counting())?;
            session.expect_prompt(LIMIT)?;
            session.send_line("create guest.cfg -c")?;
            session
        }
    };
    finish(&mut session)
}

/// Boots Linux as Dom0 on a machine, with words for the program.
fn start(hypervisor: Hypervisor, initrd: &Path, words: &str, machine: &Machine) -> Result<Session> {
    let media = hypervisor
        .media()?
        .and(DOM0_MEMORY)
        .module(Module::with_arguments(
            Part::Linux.path(),
            format!("{LINUX} -- {words}"),
        ))
        .module(Module::with_arguments(initrd, ""));
    let name = format!("linuxbench-dom0-{hypervisor:?}");
    Session::boot(&name, &media, machine)
}

/// Like `start`, then waits until the machine ends, so that the plug-in's counts are written.
pub fn dom0_to_end(
    hypervisor: Hypervisor,
    initrd: &Path,
    words: &str,
    machine: &Machine,
) -> Result<Figures> {
    let mut session = start(hypervisor, initrd, words, machine)?;
    let figures = finish(&mut session)?;
    session.expect_end(LIMIT)?;
    Ok(figures)
}

fn with_toolstack(tools: &Path) -> Result<Media> {
    let media = Hypervisor::Xen.media()?.and(DOM0_MEMORY);
    Ok(media
        .module(Module::with_arguments(
            Part::Linux.path(),
            "console=hvc0 quiet",
        ))
        .module(Module::with_arguments(tools, "")))
}

/// The counting machine, with memory for two Linux domains.
fn counting() -> Machine {
    Machine {
        memory_mib: MEMORY_MIB,
        ..machine::counting_machine()
    }
}

fn finish(session: &mut Session) -> Result<Figures> {
    let printed = session.read_until(PASS, LIMIT)?;
    let figures = machine::parse(&printed);
    ensure!(
        session.transcript().contains("PASS linuxbench"),
        "linuxbench failed:\n{printed}"
    );
    Ok(figures)
}

/// busybox's root file system with the program added.
pub fn initrd(program: &Path, scratch: &Scratch) -> Result<PathBuf> {
    let mut archive = cpio::Archive::default();
    let content = fs::read(program)?;
    archive.add("bin/linuxbench", &cpio::Entry::Program(&content));
    let mut image = fs::read(Part::Initramfs.path())?;
    image.extend(archive.finish());
    let path = scratch.path().join("linuxbench.img");
    fs::write(&path, image)?;
    Ok(path)
}

/// The configuration, beside the initrd that it names. The time-stamp counter is native, as in Dom0.
fn config(initrd: &Path, scratch: &Scratch) -> Result<PathBuf> {
    let text = format!(
        "name = \"guest\"\nkernel = \"vmlinuz\"\nramdisk = \"{}\"\nmemory = 256\nvcpus = 1\n\
         extra = \"{LINUX}\"\ntsc_mode = \"native\"\n",
        initrd.file_name().unwrap_or_default().to_string_lossy()
    );
    let path = scratch.path().join("guest.cfg");
    fs::write(&path, text)?;
    Ok(path)
}
