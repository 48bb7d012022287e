//! The output of `create -n` and `image`, in plain words.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use guest_pv_abi::Width;

use super::create::{CreateError, Files, contents};
use super::uuid_text;
use crate::build;
use crate::config::{Action, DomainConfig, Pinning};
use crate::image::{Claims, Image, Role};

/// Checks that a domain could be built from `config`, and describes it.
///
/// # Errors
/// The error with which creating it would fail, as far as it can be found without a hypervisor.
pub fn dry_run(config: &DomainConfig, files: &dyn Files) -> Result<String, CreateError> {
    let kernel = files.read(&config.kernel).map_err(CreateError::File)?;
    let initrd = config.ramdisk.as_ref().map(|name| files.read(name));
    let initrd = initrd.transpose().map_err(CreateError::File)?;
    let image = Image::open(&config.kernel, &kernel)?;
    build::plan(&contents(config, &image, initrd.as_deref()))
        .map_err(|error| super::create::named(error, config))?;
    let mut lines = Lines::default();
    lines.add("name", &config.name);
    let uuid = config.uuid.as_ref().map(uuid_text);
    lines.add("UUID", &uuid.unwrap_or("chosen at creation".to_string()));
    let system = image.claims().map(system).unwrap_or_default();
    lines.add(
        "kernel",
        &format!(
            "{}: {}, {}, {system}",
            config.kernel,
            size(kernel.len()),
            width(image.width())
        ),
    );
    if let (Some(name), Some(initrd)) = (&config.ramdisk, &initrd) {
        lines.add("ramdisk", &format!("{name}: {}", size(initrd.len())));
    }
    lines.add("command line", &config.cmdline);
    add_settings(&mut lines, config);
    Ok(lines.0)
}

/// Adds a configuration's settings other than names and files.
pub(super) fn add_settings(lines: &mut Lines, config: &DomainConfig) {
    let (memory, most) = (config.memory_mib, config.max_memory_mib);
    lines.add(
        "memory",
        &up_to(&format!("{memory} MiB"), &most.to_string(), memory != most),
    );
    let (vcpus, most) = (config.vcpus, config.max_vcpus);
    lines.add(
        "vCPUs",
        &up_to(&vcpus.to_string(), &most.to_string(), vcpus != most),
    );
    lines.add("runs on", &pinning(&config.pinning));
    if let Some(weight) = config.weight {
        lines.add("CPU weight", &weight.to_string());
    }
    if let Some(cap) = config.cap.filter(|cap| *cap > 0) {
        lines.add("CPU cap", &format!("{cap} % of one CPU"));
    }
    let limits = [
        ("grant frames", config.max_grant_frames),
        ("maptrack frames", config.max_maptrack_frames),
        ("grant version", config.max_grant_version),
    ];
    for (name, limit) in limits {
        if let Some(limit) = limit {
            lines.add(name, &format!("at most {limit}"));
        }
    }
    for (event, action) in [
        ("at power-off", config.on_poweroff),
        ("at reboot", config.on_reboot),
        ("at a crash", config.on_crash),
        ("at its watchdog", config.on_watchdog),
    ] {
        lines.add(event, consequence(action));
    }
}

fn up_to(now: &str, most: &str, grows: bool) -> String {
    if grows {
        format!("{now}, at most {most}")
    } else {
        now.to_string()
    }
}

fn pinning(pinning: &Pinning) -> String {
    match pinning {
        Pinning::Any => "all CPUs".to_string(),
        Pinning::All(set) => format!("CPUs {set}"),
        Pinning::Each(sets) => {
            let words: Vec<String> = sets
                .iter()
                .enumerate()
                .map(|(vcpu, set)| match set {
                    Some(set) => format!("vCPU {vcpu}: CPUs {set}"),
                    None => format!("vCPU {vcpu}: all"),
                })
                .collect();
            words.join("; ")
        }
    }
}

fn consequence(action: Action) -> &'static str {
    match action {
        Action::Destroy => "it is removed",
        Action::Restart => "it is started again",
        Action::RenameRestart => "it stays under another name, and is started again",
        Action::Preserve => "it stays as it is",
    }
}

fn size(bytes: usize) -> String {
    match bytes {
        0..0x10_0000 => format!("{} KiB", bytes.div_ceil(1 << 10)),
        _ => format!("{} MiB", bytes.div_ceil(1 << 20)),
    }
}

/// Name and version of the kernel's system, as it states them.
fn system(claims: &Claims) -> String {
    let words = [&claims.guest_os, &claims.guest_version];
    let known: Vec<&str> = words
        .into_iter()
        .map(String::as_str)
        .filter(|word| !word.is_empty())
        .collect();
    match known.as_slice() {
        [] => "of an unnamed system".to_string(),
        words => words.join(" "),
    }
}

fn width(width: Width) -> &'static str {
    match width {
        Width::Wide => "64-bit",
        Width::Narrow => "32-bit",
    }
}

/// The output of `image`.
///
/// # Errors
/// A message if the kernel makes no claims.
pub fn image_text(image: &Image, json: bool) -> Result<String, String> {
    let Some(claims) = image.claims() else {
        return Err("this kernel says nothing about Xen".to_string());
    };
    if json {
        return Ok(super::view::json(claims));
    }
    let mut text = claims_text(image, claims);
    for (role, name) in [(Role::Guest, "a PV guest"), (Role::Dom0, "Domain-0")] {
        match image.pv(role) {
            Ok(_) => text.push_str(&format!("It can be {name}.\n")),
            Err(error) => text.push_str(&format!("It can't be {name}: {error}\n")),
        }
    }
    Ok(text)
}

/// A kernel's claims about itself as text.
fn claims_text(image: &Image, claims: &Claims) -> String {
    let mut lines = Lines::default();
    lines.add("system", &system(claims));
    lines.add("width", width(image.width()));
    for (name, text) in [
        ("Xen version", &claims.xen_version),
        ("loader", &claims.loader),
        ("PAE mode", &claims.pae_mode),
    ] {
        lines.add(name, text.as_deref().unwrap_or_default());
    }
    for (name, number) in [
        ("entry", claims.entry),
        ("virtual base", claims.virt_base),
        ("physical offset", claims.paddr_offset),
        ("hypercall page", claims.hypercall_page),
        ("hypervisor from", claims.hv_start_low),
        ("initial P2M", claims.init_p2m),
        ("PVH entry", claims.phys32_entry),
    ] {
        lines.add(
            name,
            &number.map_or(String::new(), |number| format!("{number:#x}")),
        );
    }
    lines.add(
        "can work with",
        &claims.features.names(claims.features.supported),
    );
    lines.add("needs", &claims.features.names(claims.features.required));
    for (name, on) in [
        (
            "ramdisk",
            claims.mod_start_pfn.then_some("need not be mapped"),
        ),
        (
            "symbols",
            claims.bsd_symtab.then_some("are to be behind it"),
        ),
        (
            "suspend",
            claims.suspend_cancel.then_some("can be cancelled"),
        ),
        (
            "notes",
            claims.legacy.then_some("in the old __xen_guest form"),
        ),
    ] {
        lines.add(name, on.unwrap_or_default());
    }
    lines.0
}

/// Lines of the form `name : value`. A line without a value is left out.
#[derive(Default)]
pub(super) struct Lines(pub(super) String);

impl Lines {
    pub(super) fn add(&mut self, name: &str, value: &str) {
        if !value.is_empty() {
            self.0.push_str(&format!("{name:<16}: {value}\n"));
        }
    }
}
