//! Boots a Dom0 with a busybox root, from power-on to the init process.

use super::super::boot::mark;
use super::super::{counted, machine};
use super::Hypervisor;
use crate::build;
use crate::debian::Part;
use anyhow::{Context, Result};
use elf::ElfBytes;
use elf::endian::AnyEndian;
use std::fs;
use std::time::{Duration, Instant};
use xenlike_tests::machine::{Chipset, Machine};
use xenlike_tests::media::{Media, Module};
use xenlike_tests::paths::Scratch;
use xenlike_tests::session::Session;

/// The memory of the machine and of Dom0. Both are set, since the hypervisors' defaults differ.
pub const MEMORY_MIB: u32 = 1024;
pub const DOM0_MEMORY: &str = "dom0_mem=512M";

/// Linux boots slowly while every instruction is counted.
pub const LIMIT: Duration = Duration::from_secs(1800);

/// The first output of init.
const INIT: &str = "^init: Linux";

/// Number of runs on 2 CPUs.
const RUNS: usize = 5;

/// L4 slots 256 to 271, which are the hypervisor's; the addresses for which the boot domain is linked; those
/// of Linux, after it.
const SHARES: &str = "share=hypervisor@0xffff800000000000-0xffff87ffffffffff,\
                      share=domain@0xffffffff80000000-0xffffffff80ffffff,\
                      share=linux@0xffffffff81000000-0xffffffffffffffff";

/// The cost of a boot.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Boot {
    /// Instructions from power-on to the first of init, on 1 CPU.
    pub total: u64,
    /// Instructions of the hypervisor.
    pub hypervisor: u64,
    /// Instructions of the boot domain.
    pub boot_domain: u64,
    /// Instructions before the hypervisor's first at its own addresses: firmware, GRUB, the hypervisor's entry.
    pub before: u64,
    /// Seconds on 2 CPUs, in the order of the runs.
    pub seconds: Vec<f64>,
}

/// Measures xenlike's boot and Xen's.
pub fn measure() -> Result<[Boot; 2]> {
    let hypervisors = [Hypervisor::Xenlike, Hypervisor::Xen];
    let mut boots = [count(hypervisors[0])?, count(hypervisors[1])?];
    for _ in 0..RUNS {
        for (boot, hypervisor) in boots.iter_mut().zip(hypervisors) {
            boot.seconds.push(seconds(hypervisor)?);
        }
    }
    Ok(boots)
}

/// The medium to boot, with words for the init script.
pub fn media(hypervisor: Hypervisor, words: &str) -> Result<Media> {
    let media = hypervisor.media()?.and(DOM0_MEMORY);
    let words = format!("console=hvc0 {words}");
    Ok(media
        .module(Module::with_arguments(Part::Linux.path(), words.trim_end()))
        .module(Module::with_arguments(Part::Initramfs.path(), "")))
}

fn count(hypervisor: Hypervisor) -> Result<Boot> {
    let scratch = Scratch::new("linux-boot")?;
    let output = scratch.path().join("marks");
    let arguments = format!("{SHARES},{}", mark("init", busybox_entry()?));
    let machine = Machine {
        memory_mib: MEMORY_MIB,
        ..machine::with_plugin(&build::counter()?, &output, &arguments)
    };
    machine::until(&media(hypervisor, "")?, &machine, INIT, LIMIT)?;
    read(&fs::read_to_string(&output)?)
}

fn read(text: &str) -> Result<Boot> {
    let events = counted::events(text);
    let linux = events.iter().position(|event| event.name == "linux");
    let linux = linux.context("Linux was not reached")?;
    // Earlier programs may have had code at the same addresses.
    let mut behind = events[linux..].iter();
    let init = behind.find(|event| event.name == "init");
    let init = init.context("init was not reached")?;
    let first = events.iter().find(|event| event.name == "hypervisor");
    Ok(Boot {
        total: init.total,
        hypervisor: init.share("hypervisor"),
        boot_domain: init.share("domain"),
        before: first.map_or(0, |event| event.total),
        seconds: Vec::new(),
    })
}

/// The address of busybox's first instruction, which is fixed when it is linked.
fn busybox_entry() -> Result<u64> {
    let archive = fs::read(Part::Initramfs.path())?;
    let start = archive.windows(4).position(|bytes| bytes == b"\x7fELF");
    let program = &archive[start.context("no program in the initramfs")?..];
    Ok(ElfBytes::<AnyEndian>::minimal_parse(program)?.ehdr.e_entry)
}

fn seconds(hypervisor: Hypervisor) -> Result<f64> {
    let machine = Machine {
        chipset: Chipset::Pc,
        memory_mib: MEMORY_MIB,
        ..Machine::default()
    };
    let media = media(hypervisor, "")?;
    let scratch = Scratch::new("linux-seconds")?;
    let iso = scratch.path().join("boot.iso");
    media.write(&iso)?;
    let start = Instant::now();
    let mut session = Session::boot_iso("linux-seconds", &iso, &machine)?;
    session.expect(INIT, LIMIT)?;
    Ok(start.elapsed().as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::{Boot, read};

    const TEXT: &str = "mark init 3\nmark hypervisor 10\nmark domain 60\nshare domain hypervisor 50\n\
        mark linux 100\nmark init 200\nshare init hypervisor 90\nshare init domain 20\nmark init 300\n";

    #[test]
    fn init_is_what_runs_behind_linux() {
        let boot = Boot {
            total: 200,
            hypervisor: 90,
            boot_domain: 20,
            before: 10,
            seconds: Vec::new(),
        };
        assert_eq!(read(TEXT).ok(), Some(boot));
    }
}
