//! The meaning of a configuration's keys (xl.cfg(5)).

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::known::Ignored;
use super::syntax::{self, Setting, Value};
use crate::ops::check_name;

use super::{Action, ConfigError, CpuSet, DomainConfig, NamedFile, Parsed, Pinning, Place};

/// Upper bounds: 16 TiB of memory, and the 8192 vCPUs of the event channel ABI.
const MAX_MEMORY_MIB: u64 = 16 << 20;
const MAX_VCPUS: u64 = 8192;
/// Maximum length of `start_info.cmd_line` without its NUL, in bytes (xen.h, `MAX_GUEST_CMDLINE`).
pub const MAX_CMDLINE: usize = 1023;

type Fault = (Option<usize>, String);

struct Keys {
    settings: Vec<Setting>,
    warnings: Vec<(usize, String)>,
    /// The keys that name files, with their lines.
    files: Vec<(usize, &'static str, String)>,
}

impl Keys {
    fn line(&self, key: &str) -> Option<usize> {
        self.settings.iter().find(|s| s.key == key).map(|s| s.line)
    }

    /// Takes the single value of `key`. A list is ignored with a warning, as by xl.
    fn take(&mut self, key: &str) -> Option<Setting> {
        let at = self.settings.iter().position(|s| s.key == key)?;
        let setting = self.settings.remove(at);
        if matches!(setting.value, Value::List(_)) {
            let warning = format!("{key} is ignored: it is a list, and one value is wanted");
            self.warn(setting.line, warning);
            return None;
        }
        Some(setting)
    }

    fn text(&mut self, key: &str) -> Result<Option<String>, Fault> {
        let Some(Setting { value, line, .. }) = self.take(key) else {
            return Ok(None);
        };
        let Value::Atom(bytes) = value else {
            return Ok(None);
        };
        match String::from_utf8(bytes) {
            Ok(text) => Ok(Some(text)),
            Err(_) => Err((Some(line), format!("{key}: its text is not UTF-8"))),
        }
    }

    /// The name of a file; an empty name counts as none.
    fn file(&mut self, key: &'static str) -> Result<Option<String>, Fault> {
        let line = self.line(key).unwrap_or_default();
        let name = self.text(key)?.filter(|name| !name.is_empty());
        if let Some(name) = &name {
            self.files.push((line, key, name.clone()));
        }
        Ok(name)
    }

    fn number(&mut self, key: &str, least: u64, most: u64) -> Result<Option<u64>, Fault> {
        let Some(setting) = self.take(key) else {
            return Ok(None);
        };
        let Some(number) = setting.value.number() else {
            let cause = format!("{key} must be a number, not {}", setting.value.kind());
            return Err((Some(setting.line), cause));
        };
        match u64::try_from(number) {
            Ok(number) if (least..=most).contains(&number) => Ok(Some(number)),
            _ => {
                let cause = format!("{key}={number} is not between {least} and {most}");
                Err((Some(setting.line), cause))
            }
        }
    }

    fn action(&mut self, key: &str, default: Action) -> Result<Action, Fault> {
        let line = self.line(key);
        match self.text(key)?.as_deref() {
            None => Ok(default),
            Some("destroy" | "coredump-destroy") => Ok(Action::Destroy),
            Some("restart" | "coredump-restart") => Ok(Action::Restart),
            Some("rename-restart") => Ok(Action::RenameRestart),
            Some("preserve") => Ok(Action::Preserve),
            Some("soft-reset") => {
                let instead = format!("{key}=\"soft-reset\" is not supported yet: restart instead");
                self.warn(line.unwrap_or(1), instead);
                Ok(Action::Restart)
            }
            Some(other) => Err((
                line,
                format!("{key}={other:?}: choose destroy, restart, rename-restart or preserve"),
            )),
        }
    }

    fn warn(&mut self, line: usize, warning: String) {
        self.warnings.push((line, warning));
    }

    /// Refuses guests of types other than PV.
    fn check_type(&mut self) -> Result<(), Fault> {
        for key in ["type", "builder"] {
            let line = self.line(key);
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
            && setting.value.number() != Some(0)
        {
            let cause = "pvh=1: only PV domains (type=\"pv\") can be created";
            return Err((Some(setting.line), cause.to_string()));
        }
        let line = self.line("bootloader");
        if self.text("bootloader")?.is_some_and(|it| !it.is_empty()) {
            let cause = "bootloader= is not supported: name the kernel by kernel=";
            return Err((line, cause.to_string()));
        }
        Ok(())
    }

    fn cmdline(&mut self) -> Result<String, Fault> {
        let lines = ["cmdline", "root", "extra"].map(|key| self.line(key));
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
        let Some(at) = self.settings.iter().position(|s| s.key == "cpus") else {
            return Ok(Pinning::Any);
        };
        let setting = self.settings.remove(at);
        let fault = |cause| (Some(setting.line), format!("cpus: {cause}"));
        let set = |value: &Value| match value {
            Value::Atom(bytes) => CpuSet::parse(&String::from_utf8_lossy(bytes)).map_err(fault),
            Value::List(_) => Err(fault("a list in the list".to_string())),
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
        let line = self.line("uuid");
        let Some(text) = self.text("uuid")? else {
            return Ok(None);
        };
        match parse_uuid(&text) {
            Some(uuid) => Ok(Some(uuid)),
            None => Err((line, format!("uuid={text:?} is not 32 hexadecimal digits"))),
        }
    }

    /// Warns about keys that were not used.
    fn leftovers(&mut self) {
        for Setting { key, value, line } in core::mem::take(&mut self.settings) {
            let ignored = Ignored::of(&key);
            // An empty list of devices needs no warning.
            if ignored != Ignored::Device || value != Value::List(Vec::new()) {
                self.warn(line, format!("{key}= {}", ignored.words()));
            }
        }
    }
}

/// Reads a UUID: 32 hexadecimal digits, with or without dashes.
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
    let name_line = keys.line("name");
    let name = keys.text("name")?.unwrap_or_else(|| stem.to_string());
    check_name(&name).map_err(|cause| (name_line, cause))?;
    if name.chars().all(|c| c.is_ascii_digit()) {
        let warning = format!("name={name:?}: commands will take it for a domain's number");
        keys.warn(name_line.unwrap_or(1), warning);
    }
    let Some(kernel) = keys.file("kernel")? else {
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
        ramdisk: keys.file("ramdisk")?,
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
        max_grant_version: keys
            .number("max_grant_version", 1, 2)?
            .map(|version| version as u32),
        on_poweroff: keys.action("on_poweroff", Action::Destroy)?,
        on_reboot: keys.action("on_reboot", Action::Restart)?,
        on_watchdog: keys.action("on_watchdog", Action::Destroy)?,
        on_crash: keys.action("on_crash", Action::Destroy)?,
    })
}

/// Reads the configuration `bytes` of the file called `file`, and `settings` from the command line, which override
/// it. Without `name=`, the domain is named after the file.
///
/// # Errors
/// The first error, with its place.
pub fn parse(file: &str, bytes: &[u8], settings: &[String]) -> Result<Parsed, ConfigError> {
    // As in xl, the settings are appended to the file's last line, and `+=` adds to the file's value.
    let last_line = 1 + bytes.iter().filter(|&&byte| byte == b'\n').count();
    let mut text = bytes.to_vec();
    for setting in settings {
        text.push(b'\n');
        text.extend_from_slice(setting.as_bytes());
    }
    let place = |line: usize| match line {
        line if line > last_line => Place::CommandLine,
        line => Place::Line(file.to_string(), line),
    };
    let settings = syntax::parse(&text).map_err(|error| ConfigError {
        place: place(error.line),
        cause: error.cause,
        warnings: Vec::new(),
    })?;
    let mut keys = Keys {
        settings,
        warnings: Vec::new(),
        files: Vec::new(),
    };
    let base = file.rsplit('/').next().unwrap_or(file);
    let stem = base.strip_suffix(".cfg").unwrap_or(base);
    let config = domain(&mut keys, stem);
    if let Err((None, _)) = config {
        // The error isn't in a particular line, so a misspelt key may be its cause. Otherwise the line itself says
        // enough.
        keys.settings
            .retain(|it| Ignored::of(&it.key) == Ignored::Unknown && !is_known(&it.key));
    }
    if !matches!(config, Err((Some(_), _))) {
        keys.leftovers();
    }
    let warnings = keys.warnings.iter();
    let warnings = warnings.map(|(line, warning)| format!("{}: {warning}", place(*line)));
    let warnings = warnings.collect();
    let named = |(line, key, name)| NamedFile {
        by: format!("{}: {key}", place(line)),
        name,
    };
    match config {
        Ok(config) => Ok(Parsed {
            config,
            warnings,
            files: keys.files.into_iter().map(named).collect(),
        }),
        Err((line, cause)) => Err(ConfigError {
            place: line.map_or(Place::File(file.to_string()), place),
            cause,
            warnings,
        }),
    }
}

/// The keys that this program acts on.
pub(super) const KEYS: [&str; 25] = [
    "bootloader",
    "builder",
    "cap",
    "cmdline",
    "cpu_weight",
    "cpus",
    "extra",
    "kernel",
    "max_grant_frames",
    "max_grant_version",
    "max_maptrack_frames",
    "maxmem",
    "maxvcpus",
    "memory",
    "name",
    "on_crash",
    "on_poweroff",
    "on_reboot",
    "on_watchdog",
    "pvh",
    "ramdisk",
    "root",
    "type",
    "uuid",
    "vcpus",
];

/// Whether this program acts on the key. It may not have got that far because of an error.
fn is_known(key: &str) -> bool {
    KEYS.contains(&key)
}
