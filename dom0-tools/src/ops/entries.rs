//! The Xenstore entries of a domain, as guests, xenconsoled and xl expect them
//! (docs/misc/xenstore-paths), with libxl's permissions.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::create::{Created, uuid_text};
use crate::config::DomainConfig;
use crate::hyper::DomId;
use crate::store::{Perms, path};

/// A Xenstore node of a domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The node's absolute path.
    pub path: String,
    /// The value of the node.
    pub value: String,
    /// The permissions of the node.
    pub perms: Perms,
}

/// Nodes that the guest may write: its answers, and the features that it offers.
const GUESTS_OWN: [&str; 11] = [
    "device/suspend/event-channel",
    "control/shutdown",
    "control/feature-poweroff",
    "control/feature-reboot",
    "control/feature-suspend",
    "control/sysrq",
    "data",
    "drivers",
    "feature",
    "attr",
    "error",
];

/// The path of a domain's entries by UUID.
#[must_use]
pub fn vm_path(uuid: &[u8; 16]) -> String {
    format!("/vm/{}", uuid_text(uuid))
}

/// All entries of a new domain. Each follows the entries above it in the tree.
#[must_use]
pub fn entries(config: &DomainConfig, created: &Created, uuid: &[u8; 16]) -> Vec<Entry> {
    let (id, vm) = (created.id, vm_path(uuid));
    let (home, perms) = (path::home(id), Perms::readable_by(id));
    let mut entries = Vec::new();
    let mut add = |path: String, value: String, perms: &Perms| {
        let perms = perms.clone();
        entries.push(Entry { path, value, perms });
    };
    add(home.clone(), String::new(), &perms);
    add(vm.clone(), String::new(), &perms);
    add(format!("{vm}/name"), config.name.clone(), &perms);
    add(format!("{vm}/uuid"), uuid_text(uuid), &perms);
    for (name, value) in to_read(config, created, vm) {
        add(format!("{home}/{name}"), value, &perms);
    }
    for name in GUESTS_OWN {
        add(format!("{home}/{name}"), String::new(), &Perms::private(id));
    }
    entries
}

/// The entries below the domain's home that the guest may read, with their values.
fn to_read(config: &DomainConfig, created: &Created, vm: String) -> Vec<(String, String)> {
    let mut list: Vec<(String, String)> = Vec::new();
    let mut add = |name: &str, value: String| list.push((name.to_string(), value));
    for folder in ["cpu", "memory", "device", "device/suspend", "control"] {
        add(folder, String::new());
    }
    add("vm", vm);
    add("name", config.name.clone());
    add("domid", created.id.to_string());
    add("memory/target", (config.memory_mib << 10).to_string());
    add(
        "memory/static-max",
        (config.max_memory_mib << 10).to_string(),
    );
    add("memory/videoram", "0".to_string());
    for vcpu in 0..config.max_vcpus {
        let online = vcpu < config.vcpus;
        let state = if online { "online" } else { "offline" };
        add(&format!("cpu/{vcpu}/availability"), state.to_string());
    }
    add("store/ring-ref", created.store.0.to_string());
    if let Some(port) = created.store_port {
        add("store/port", port.0.to_string());
    }
    add("console/ring-ref", created.console.0.to_string());
    add("console/port", created.console_port.0.to_string());
    for (name, value) in [
        ("console/limit", "1048576"),
        ("console/type", "xenconsoled"),
        ("console/output", "pty"),
        ("console/tty", ""),
        ("control/platform-feature-multiprocessor-suspend", "1"),
        ("control/platform-feature-xs_reset_watches", "1"),
    ] {
        add(name, value.to_string());
    }
    list
}

/// A request to a domain's kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// The domain shall power off.
    PowerOff,
    /// The domain shall reboot.
    Reboot,
}

impl Wish {
    /// The request as the domain's kernel reads it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Wish::PowerOff => "poweroff",
            Wish::Reboot => "reboot",
        }
    }
}

/// The node that a domain's kernel watches for requests. It empties the node when it accepts one.
#[must_use]
pub fn wish_path(id: DomId) -> String {
    format!("{}/control/shutdown", path::home(id))
}
