//! What the keys of a configuration mean (xl.cfg(5)).

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::syntax::{self, Setting, Value};
use super::{Action, ConfigError, CpuSet, DomainConfig, Parsed, Pinning};

/// Keys of xl that change nothing here because there is nothing that they could change.
const WITHOUT_EFFECT: &[&str] = &[
    "acpi",
    "apic",
    "boot",
    "claim_mode",
    "cpuid",
    "device_model_version",
    "e820_host",
    "gfx_passthru",
    "keymap",
    "localtime",
    "nographic",
    "nomigrate",
    "nx",
    "pae",
    "parallel",
    "pool",
    "rtc_timeoffset",
    "sdl",
    "serial",
    "stdvga",
    "tsc_mode",
    "usb",
    "vnc",
    "vncconsole",
    "vnclisten",
    "xen_platform_pci",
];

/// Keys that ask for devices, which need a back-end domain.
const DEVICES: &[&str] = &[
    "disk", "vif", "vif2", "vfb", "pci", "pvusb", "usbdev", "usbctrl", "vtpm", "p9", "channel",
    "vkb", "vdispl", "vsnd", "rdm", "dtdev", "ioports", "irqs", "iomem",
];

/// `DOMID`-independent bounds: 16 TiB of memory, 8192 vCPUs of the event channel ABI.
const MAX_MEMORY_MIB: u64 = 16 << 20;
const MAX_VCPUS: u64 = 8192;
/// Bytes of `start_info.cmd_line` without its NUL (xen.h, `MAX_GUEST_CMDLINE`).
pub const MAX_CMDLINE: usize = 1023;

type Fault = (Option<usize>, String);

struct Keys {
    settings: Vec<Setting>,
    warnings: Vec<(usize, String)>,
}

impl Keys {
    fn take(&mut self, key: &str) -> Option<Setting> {
        let at = self.settings.iter().position(|s| s.key == key)?;
        Some(self.settings.remove(at))
    }

    fn text(&mut self, key: &str) -> Result<Option<String>, Fault> {
        match self.take(key) {
            None => Ok(None),
            Some(Setting {
                value: Value::Text(text),
                ..
            }) => Ok(Some(text)),
            Some(other) => Err(wrong(&other, "a string")),
        }
    }

    fn number(&mut self, key: &str, least: u64, most: u64) -> Result<Option<u64>, Fault> {
        let Some(setting) = self.take(key) else {
            return Ok(None);
        };
        let number = match &setting.value {
            Value::Number(number) => *number,
            Value::Text(text) => match text.trim().parse() {
                Ok(number) => number,
                Err(_) => return Err(wrong(&setting, "a number")),
            },
            Value::List(_) => return Err(wrong(&setting, "a number")),
        };
        if (least..=most).contains(&number) {
            return Ok(Some(number));
        }
        let cause = format!("{key}={number} is not between {least} and {most}");
        Err((Some(setting.line), cause))
    }

    fn action(&mut self, key: &str, default: Action) -> Result<Action, Fault> {
        let line = self.settings.iter().find(|s| s.key == key).map(|s| s.line);
        match self.text(key)?.as_deref() {
            None => Ok(default),
            Some("destroy" | "coredump-destroy") => Ok(Action::Destroy),
            Some("restart" | "coredump-restart") => Ok(Action::Restart),
            Some("rename-restart") => Ok(Action::RenameRestart),
            Some("preserve") => Ok(Action::Preserve),
            Some(other) => Err((
                line,
                format!("{key}={other:?}: choose destroy, restart, rename-restart or preserve"),
            )),
        }
    }

    fn warn(&mut self, line: usize, warning: String) {
        self.warnings.push((line, warning));
    }

    /// Refuses guests of other types.
    fn check_type(&mut self) -> Result<(), Fault> {
        for key in ["type", "builder"] {
            let line = self.settings.iter().find(|s| s.key == key).map(|s| s.line);
            match self.text(key)?.as_deref() {
                None | Some("pv" | "generic" | "linux") => {}
                Some(other) => {
                    let cause =
                        format!("{key}={other:?}: only PV domains (type=\"pv\") can be created");
                    return Err((line, cause));
                }
            }
        }
        if let Some(setting) = self.take("pvh")
            && !matches!(setting.value, Value::Number(0))
        {
            let cause = "pvh=1: only PV domains (type=\"pv\") can be created";
            return Err((Some(setting.line), cause.to_string()));
        }
        if let Some(setting) = self.take("bootloader") {
            let cause = "bootloader= is not supported: name the kernel by kernel=";
            return Err((Some(setting.line), cause.to_string()));
        }
        Ok(())
    }

    fn cmdline(&mut self) -> Result<String, Fault> {
        let lines = ["cmdline", "root", "extra"]
            .map(|key| self.settings.iter().find(|s| s.key == key).map(|s| s.line));
        let (whole, root, extra) = (
            self.text("cmdline")?,
            self.text("root")?,
            self.text("extra")?,
        );
        let line = lines.into_iter().flatten().next();
        let cmdline = match (whole, root, extra) {
            (Some(whole), None, None) => whole,
            (Some(whole), _, _) => {
                self.warn(
                    line.unwrap_or(1),
                    "root= and extra= are ignored beside cmdline=".to_string(),
                );
                whole
            }
            (None, Some(root), Some(extra)) => format!("root={root} {extra}"),
            (None, Some(root), None) => format!("root={root}"),
            (None, None, extra) => extra.unwrap_or_default(),
        };
        if cmdline.len() > MAX_CMDLINE || cmdline.contains('\0') {
            let cause = format!(
                "the kernel's command line is longer than {MAX_CMDLINE} bytes or holds a NUL"
            );
            return Err((line, cause));
        }
        Ok(cmdline)
    }

    fn pinning(&mut self) -> Result<Pinning, Fault> {
        let Some(setting) = self.take("cpus") else {
            return Ok(Pinning::Any);
        };
        let at = |cause| (Some(setting.line), format!("cpus: {cause}"));
        let set = |value: &Value| match value {
            Value::Text(text) => CpuSet::parse(text).map_err(at),
            Value::Number(cpu) => CpuSet::parse(&cpu.to_string()).map_err(at),
            Value::List(_) => Err(wrong(&setting, "a string or a list of strings")),
        };
        match &setting.value {
            Value::List(each) => each
                .iter()
                .map(set)
                .collect::<Result<_, _>>()
                .map(Pinning::Each),
            one => Ok(set(one)?.map_or(Pinning::Any, Pinning::All)),
        }
    }

    fn uuid(&mut self) -> Result<Option<[u8; 16]>, Fault> {
        let line = self
            .settings
            .iter()
            .find(|s| s.key == "uuid")
            .map(|s| s.line);
        let Some(text) = self.text("uuid")? else {
            return Ok(None);
        };
        match parse_uuid(&text) {
            Some(uuid) => Ok(Some(uuid)),
            None => Err((line, format!("uuid={text:?} is not 32 hexadecimal digits"))),
        }
    }

    /// Warns about what is left.
    fn leftovers(&mut self) {
        for setting in core::mem::take(&mut self.settings) {
            let Setting { key, value, line } = setting;
            if DEVICES.contains(&key.as_str()) {
                if value != Value::List(Vec::new()) {
                    self.warn(
                        line,
                        format!("{key}= is ignored: there is no device back-end here"),
                    );
                }
            } else if !WITHOUT_EFFECT.contains(&key.as_str()) {
                self.warn(line, format!("unknown key {key} is ignored"));
            }
        }
    }
}

fn wrong(setting: &Setting, wanted: &str) -> Fault {
    let (key, kind) = (&setting.key, setting.value.kind());
    (
        Some(setting.line),
        format!("{key} must be {wanted}, not {kind}"),
    )
}

/// Reads a UUID: 32 hexadecimal digits with or without dashes.
pub(crate) fn parse_uuid(text: &str) -> Option<[u8; 16]> {
    let digits: Vec<u32> = text
        .chars()
        .filter(|&c| c != '-')
        .map(|c| c.to_digit(16))
        .collect::<Option<_>>()?;
    let (pairs, rest) = digits.as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    let bytes: Vec<u8> = pairs
        .iter()
        .map(|[high, low]| (high << 4 | low) as u8)
        .collect();
    bytes.try_into().ok()
}

fn domain(keys: &mut Keys, stem: &str) -> Result<DomainConfig, Fault> {
    keys.check_type()?;
    let name_line = keys
        .settings
        .iter()
        .find(|s| s.key == "name")
        .map(|s| s.line);
    let name = keys.text("name")?.unwrap_or_else(|| stem.to_string());
    let odd = |c: char| c.is_control() || c.is_whitespace() || c == '/';
    if name.is_empty()
        || name.len() > 64
        || name.contains(odd)
        || name.chars().all(|c| c.is_ascii_digit())
    {
        let cause = format!(
            "name={name:?}: a name has 1 to 64 visible characters, no `/`, and is not a number"
        );
        return Err((name_line, cause));
    }
    let Some(kernel) = keys.text("kernel")? else {
        return Err((None, "no kernel= names the kernel image".to_string()));
    };
    let memory_mib = keys.number("memory", 1, MAX_MEMORY_MIB)?;
    let max_memory_mib = keys.number("maxmem", 1, MAX_MEMORY_MIB)?;
    let memory_mib = memory_mib.or(max_memory_mib).unwrap_or(128);
    let max_memory_mib = max_memory_mib.unwrap_or(memory_mib);
    if max_memory_mib < memory_mib {
        return Err((
            None,
            format!("maxmem={max_memory_mib} is less than memory={memory_mib}"),
        ));
    }
    let vcpus = keys.number("vcpus", 1, MAX_VCPUS)?;
    let max_vcpus = keys.number("maxvcpus", 1, MAX_VCPUS)?;
    let vcpus = vcpus.or(max_vcpus).unwrap_or(1) as u32;
    let max_vcpus = max_vcpus.map_or(vcpus, |max| max as u32);
    if max_vcpus < vcpus {
        return Err((
            None,
            format!("maxvcpus={max_vcpus} is less than vcpus={vcpus}"),
        ));
    }
    Ok(DomainConfig {
        name,
        uuid: keys.uuid()?,
        kernel,
        ramdisk: keys.text("ramdisk")?.filter(|name| !name.is_empty()),
        cmdline: keys.cmdline()?,
        memory_mib,
        max_memory_mib,
        vcpus,
        max_vcpus,
        pinning: keys.pinning()?,
        weight: keys
            .number("cpu_weight", 1, 65535)?
            .map(|weight| weight as u16),
        cap: keys.number("cap", 0, 65535)?.map(|cap| cap as u16),
        max_grant_frames: keys
            .number("max_grant_frames", 1, 1 << 16)?
            .map(|frames| frames as u32),
        max_maptrack_frames: keys
            .number("max_maptrack_frames", 0, 1 << 16)?
            .map(|frames| frames as u32),
        on_poweroff: keys.action("on_poweroff", Action::Destroy)?,
        on_reboot: keys.action("on_reboot", Action::Restart)?,
        on_watchdog: keys.action("on_watchdog", Action::Destroy)?,
        on_crash: keys.action("on_crash", Action::Destroy)?,
    })
}

/// Reads the configuration `bytes` of the file called `file`. A domain without `name=` is called as its file is.
///
/// # Errors
/// The first fault, with its line.
pub fn parse(file: &str, bytes: &[u8]) -> Result<Parsed, ConfigError> {
    let fault = |line: Option<usize>, cause: String| ConfigError {
        file: file.to_string(),
        line,
        cause,
    };
    let text = core::str::from_utf8(bytes).map_err(|error| {
        let good = bytes.get(..error.valid_up_to()).unwrap_or_default();
        let line = 1 + good.iter().filter(|&&byte| byte == b'\n').count();
        fault(
            Some(line),
            "not a text file (bytes that are not UTF-8)".to_string(),
        )
    })?;
    let settings = syntax::parse(text).map_err(|error| fault(Some(error.line), error.cause))?;
    let mut keys = Keys {
        settings,
        warnings: Vec::new(),
    };
    let base = file.rsplit('/').next().unwrap_or(file);
    let stem = base.strip_suffix(".cfg").unwrap_or(base);
    let config = domain(&mut keys, stem).map_err(|(line, cause)| fault(line, cause))?;
    keys.leftovers();
    let warnings = keys
        .warnings
        .iter()
        .map(|(line, warning)| format!("{file}:{line}: {warning}"));
    Ok(Parsed {
        config,
        warnings: warnings.collect(),
    })
}
