//! Builds Domain-0 from the boot modules.

use alloc::string::String;

use dom0_tools::boot::Dom0Options;
use dom0_tools::build::Progress;
use dom0_tools::hyper::{domain, machine};
use dom0_tools::ops::{self, Dom0};
use xenlike_rt::abi::hypercall;
use xenlike_rt::abi::platform::{PlatformOp, XENPF_GET_DOM0_CONSOLE, XENPF_INTERFACE_VERSION};
use xenlike_rt::{hyper, println};

use crate::words;
use xenlike_door::Door;

/// Pages that this domain keeps for small allocations while it builds Domain-0. Large blocks come from
/// outside of its memory.
const OWN_PAGES: u64 = 16 << 8;

/// Prints a line about each long step.
struct Lines;

impl Progress for Lines {
    fn unpacking(&mut self, file: &str, bytes: u64) {
        println!("Domain-0: reading the kernel {file} ({} KiB)", bytes >> 10);
    }

    fn memory(&mut self, done: u64, all: u64) {
        if done == 0 {
            println!("Domain-0: {} MiB of memory", all >> 8);
        }
    }
}

/// Builds Domain-0 and lets it run. If that fails, the machine has nothing else to do: the cause stays on the screen.
pub fn start(
    door: &mut Door,
    options: &Dom0Options,
    line: &str,
    kernel: &[u8],
    initrd: Option<&[u8]>,
) {
    // The other pages are more useful for Domain-0.
    xenlike_rt::memory::give_back(OWN_PAGES);
    if let Err(cause) = build(door, options, line, kernel, initrd) {
        println!("error: Domain-0 can't be started: {cause}");
        xenlike_rt::shutdown(xenlike_rt::abi::sched::SHUTDOWN_CRASH)
    }
}

fn build(
    door: &mut Door,
    options: &Dom0Options,
    line: &str,
    kernel: &[u8],
    initrd: Option<&[u8]>,
) -> Result<(), String> {
    let host = machine::host(door).map_err(words)?;
    let dom0 = Dom0 {
        kernel,
        initrd,
        cmdline: line,
        vcpus: options.max_vcpus.unwrap_or(host.cpus).min(host.cpus.max(1)),
        options,
        screen: screen(),
    };
    let id = ops::create_dom0(door, &dom0, &mut Lines).map_err(words)?;
    domain::unpause(door, id).map_err(words)
}

/// The screen that Domain-0 inherits, as described by the hypervisor.
fn screen() -> ([u8; 40], u32) {
    let mut op = PlatformOp {
        cmd: XENPF_GET_DOM0_CONSOLE,
        interface_version: XENPF_INTERFACE_VERSION,
        ..PlatformOp::default()
    };
    match hyper::control(hypercall::PLATFORM_OP, &mut op) {
        Ok(bytes) if bytes > 0 => (op.u.get(), (bytes as u32).min(40)),
        _ => ([0; 40], 0),
    }
}
