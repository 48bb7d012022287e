//! `dominfo` and `list -l`: everything about a domain, as text and in xl's JSON.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use serde::Serialize;
use serde_json::{Value, json};

use super::summary::{Lines, add_settings};
use super::view::{DomainRow, Names, domains};
use crate::config::{Action, DomainConfig};
use crate::hyper::{CallError, DomId, DomainInfo, Hypercalls, domain};

/// A limit of this many MiB (2^32 pages) or more means no limit, as domain 0 has.
const NO_LIMIT_MIB: u64 = 1 << 24;

/// The information that `dominfo` shows.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DomainDetail {
    #[serde(flatten)]
    row: DomainRow,
    max_vcpus: u32,
    uptime_seconds: Option<u64>,
    /// The configuration from which it was created, if known here.
    config: Option<DomainConfig>,
    #[serde(skip)]
    state: String,
}

/// Collects the information about domain `id`.
///
/// # Errors
/// If the hypervisor refuses the call.
pub fn detail<H: Hypercalls + ?Sized>(
    h: &mut H,
    names: &dyn Names,
    id: DomId,
    uptime_seconds: Option<u64>,
) -> Result<DomainDetail, CallError> {
    let info = domain::info(h, id)?;
    let mut rows = domains(h, names)?;
    let at = rows.iter().position(|row| row.domid == id.0);
    let row = match at {
        Some(at) => rows.swap_remove(at),
        None => super::view::row(&info, names),
    };
    Ok(DomainDetail {
        row,
        max_vcpus: info.vcpus,
        uptime_seconds,
        config: names.config(id),
        state: state(&info),
    })
}

/// The state in words instead of xl's letters.
fn state(info: &DomainInfo) -> String {
    let mut words: Vec<String> = Vec::new();
    if let Some(ending) = info.ended {
        words.push(ending.to_string());
    }
    for (on, word) in [
        (info.dying, "being removed"),
        (info.paused, "paused"),
        (info.running, "running"),
        (info.blocked && !info.running, "waits for events"),
    ] {
        if on {
            words.push(word.to_string());
        }
    }
    if words.is_empty() {
        words.push("ready to run".to_string());
    }
    words.join(", ")
}

/// Formats `dominfo` as text.
#[must_use]
pub fn detail_text(detail: &DomainDetail) -> String {
    let row = &detail.row;
    let mut lines = Lines::default();
    lines.add("name", &row.name);
    lines.add("number", &row.domid.to_string());
    lines.add("UUID", &row.uuid);
    lines.add("state", &detail.state);
    lines.add("has run", &format!("{:.1} s", row.cpu_seconds));
    if let Some(seconds) = detail.uptime_seconds {
        lines.add("up since", &format!("{seconds} s ago"));
    }
    let most = match row.max_memory_mib {
        NO_LIMIT_MIB.. => "no limit".to_string(),
        mib => format!("at most {mib} MiB"),
    };
    lines.add("memory", &format!("{} MiB, {most}", row.memory_mib));
    let vcpus = format!("{} of {}", row.vcpus, detail.max_vcpus);
    lines.add("vCPUs up", &vcpus);
    match &detail.config {
        Some(config) => {
            lines.0.push_str("It was created with:\n");
            lines.add("kernel", &config.kernel);
            lines.add("ramdisk", config.ramdisk.as_deref().unwrap_or_default());
            lines.add("command line", &config.cmdline);
            add_settings(&mut lines, config);
        }
        None if row.domid == 0 => {}
        None => lines.0.push_str("It was not created by this toolstack.\n"),
    }
    lines.0
}

/// `list -l`: the domains in xl's JSON.
///
/// # Errors
/// If the hypervisor refuses the call.
pub fn long<H: Hypercalls + ?Sized>(
    h: &mut H,
    names: &dyn Names,
    only: Option<DomId>,
) -> Result<Value, CallError> {
    let rows = domains(h, names)?;
    let wanted = rows
        .iter()
        .filter(|row| only.is_none_or(|only| only.0 == row.domid));
    let domain = |row: &DomainRow| {
        let id = DomId(row.domid);
        let known = names
            .config(id)
            .map(|config| libxl_json(&config, &row.uuid));
        let known = known.or_else(|| names.libxl_config(id, &row.uuid));
        let config = match known {
            Some(config) => config,
            None => json!({
                "c_info": { "type": "pv", "name": row.name, "uuid": row.uuid },
                "b_info": {
                    "max_memkb": row.max_memory_mib << 10,
                    "target_memkb": row.memory_mib << 10,
                    "type.pv": {},
                },
            }),
        };
        json!({ "domid": row.domid, "config": config })
    };
    Ok(wanted.map(domain).collect())
}

/// A domain's configuration in libxl's JSON (`libxl_domain_config`), which xl's verbs read.
#[must_use]
pub fn libxl_json(config: &DomainConfig, uuid: &str) -> Value {
    let online: Vec<u32> = (0..config.vcpus).collect();
    let mut build = json!({
        "max_vcpus": config.max_vcpus,
        "avail_vcpus": online,
        "max_memkb": config.max_memory_mib << 10,
        "target_memkb": config.memory_mib << 10,
        // Without this member, xl subtracts one KiB from the target.
        "video_memkb": 0,
        "kernel": config.kernel,
        "cmdline": config.cmdline,
        "type.pv": {},
    });
    let mut scheduler = serde_json::Map::new();
    for (name, value) in [("weight", config.weight), ("cap", config.cap)] {
        scheduler.extend(value.map(|value| (name.to_string(), json!(value))));
    }
    let optional = [
        ("sched_params", Some(json!(scheduler))),
        ("ramdisk", config.ramdisk.as_ref().map(|name| json!(name))),
        (
            "max_grant_frames",
            config.max_grant_frames.map(|limit| json!(limit)),
        ),
        (
            "max_maptrack_frames",
            config.max_maptrack_frames.map(|limit| json!(limit)),
        ),
        (
            "max_grant_version",
            config.max_grant_version.map(|limit| json!(limit)),
        ),
    ];
    if let Some(build) = build.as_object_mut() {
        for (name, value) in optional {
            build.extend(value.map(|value| (name.to_string(), value)));
        }
    }
    json!({
        "c_info": { "type": "pv", "name": config.name, "uuid": uuid },
        "b_info": build,
        "on_poweroff": action(config.on_poweroff),
        "on_reboot": action(config.on_reboot),
        "on_watchdog": action(config.on_watchdog),
        "on_crash": action(config.on_crash),
    })
}

fn action(action: Action) -> &'static str {
    match action {
        Action::Destroy => "destroy",
        Action::Restart => "restart",
        Action::RenameRestart => "rename_restart",
        Action::Preserve => "preserve",
    }
}
