//! The boot domain: the first domain, and the only one that the hypervisor starts by itself.
//!
//! With a kernel among the boot modules, it builds Domain-0 from that kernel, lets it run, and ends. Otherwise
//! it becomes Domain-0 and stays as the embedded control domain: it starts the domains of a manifest, runs a
//! script if there is one, and provides a shell. The toolstack library contains the logic; this crate connects
//! it to the machine.

#![no_std]
#![no_main]

extern crate alloc;

mod dom0;
mod events;
mod files;
mod machine;
mod ring;
mod store;

use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;

use dom0_tools::boot::{Dom0Options, Purpose, purposes, unused_modules};
use dom0_tools::hyper;
use dom0_tools::manifest::Manifest;
use dom0_tools::shell::{Shell, Terminal};
use xenlike_rt::abi::Errno;
use xenlike_rt::abi::xen::{VIRQ_CONSOLE, VIRQ_DOM_EXC};
use xenlike_rt::{console, modules, println};

use files::Modules;
use machine::{Machine, Screen};
use xenlike_door::Door;

xenlike_rt::entry!(main);

fn main() {
    xenlike_rt::large::enable();
    let mut door = match Door::new() {
        Ok(door) => door,
        Err(error) => return println!("error: the boot domain can't map memory: {error}"),
    };
    let command_line = hyper::machine::command_line(&mut door).unwrap_or_default();
    let (options, faults) = Dom0Options::parse(&command_line);
    for fault in faults {
        println!("warning: {fault}");
    }
    let modules = modules::boot_modules();
    let lines: Vec<&str> = modules.iter().map(|module| module.command_line).collect();
    let purposes = purposes(&lines);
    for fault in unused_modules(&purposes) {
        println!("warning: {fault}");
    }
    let of = |wanted: fn(&Purpose) -> bool| {
        let found = modules
            .iter()
            .zip(&purposes)
            .find(|(_, purpose)| wanted(purpose));
        found.map(|(module, _)| module.bytes)
    };
    let manifest = of(|purpose| *purpose == Purpose::Manifest).map(Manifest::decode);
    let files = Modules::new(&modules, &purposes, modules::initrd());
    let kernel = purposes.iter().find_map(|purpose| match purpose {
        Purpose::Kernel(line) => Some(*line),
        _ => None,
    });
    let image = of(|purpose| matches!(purpose, Purpose::Kernel(_)));
    match kernel.zip(image) {
        Some((line, kernel)) => {
            let initrd = of(|purpose| *purpose == Purpose::Initrd);
            dom0::start(&mut door, &options, line, kernel, initrd);
        }
        None => stay(door, files, &options, manifest.transpose()),
    }
}

/// Becomes Domain-0 and serves the user at the console for ever.
fn stay<E: core::fmt::Display>(
    mut door: Door,
    files: Modules,
    options: &Dom0Options,
    manifest: Result<Option<Manifest>, E>,
) {
    if let Err(error) = become_dom0(&mut door) {
        return println!("error: {error}");
    }
    let bound = bind();
    let script = options.exec.clone().or_else(|| files.text("autoexec"));
    let mut shell = Shell::new(Machine::new(door, Rc::new(files)));
    match manifest {
        Ok(Some(manifest)) => shell.start_manifest(&manifest),
        Ok(None) => {}
        Err(error) => println!("error: {error}"),
    }
    if let Err(error) = bound {
        println!("error: no keyboard and no news of domains: {error}");
    }
    shell.start(script.as_deref());
    serve(&mut shell);
}

/// Other hypervisors make their first domain Domain-0 from the start.
fn become_dom0(door: &mut Door) -> Result<(), hyper::CallError> {
    let (_, _, extra) = hyper::machine::version(door)?;
    if extra.contains("xenlike") {
        hyper::domain::become_dom0(door)?;
    }
    Ok(())
}

/// Binds the events for keys and for domains that end.
fn bind() -> Result<(), Errno> {
    events::bind_virq(VIRQ_CONSOLE, events::News::Keys)?;
    events::bind_virq(VIRQ_DOM_EXC, events::News::Ends)
}

/// Handles events and alarms until the shell leaves the machine.
fn serve(shell: &mut Shell<Machine>) {
    let mut keys = [0; 256];
    while !shell.left() {
        let news = events::wait(shell.alarm());
        if news.keys {
            loop {
                let count = console::read(&mut keys);
                if count == 0 {
                    break;
                }
                shell.input(&keys[..count]);
            }
        }
        if news.ends {
            shell.look_for_ends();
        }
        shell.poll();
    }
    Screen.print(b"\r\nThe machine may be switched off now.\r\n");
    loop {
        events::wait(None);
    }
}

/// Formats an error that has no better message.
fn words(text: impl core::fmt::Display) -> String {
    alloc::format!("{text}")
}
