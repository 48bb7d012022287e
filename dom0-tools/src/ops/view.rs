//! The output of `list`, `info`, `vcpu-list` and `top`, as text in xl's format and as JSON.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::Display;

use guest_pv_abi::version::{XEN_CAPABILITIES_INFO_LEN, XENVER_CAPABILITIES};
use serde::Serialize;

use super::table::{Align, Table};
use super::uuid_text;
use super::virtualisation::virtualisation;
use crate::config::{CpuSet, DomainConfig};
use crate::hyper::{
    CallError, DomId, DomainInfo, Ending, Hypercalls, VcpuId, VcpuInfo, domain, machine,
};

/// Finds the names of domains. Without a Xenstore, only the toolstack knows them.
pub trait Names {
    /// The name of a domain.
    fn name(&self, id: DomId) -> String;

    /// The configuration from which a domain was created, if known.
    fn config(&self, _id: DomId) -> Option<DomainConfig> {
        None
    }

    /// The configuration that libxl stores for a domain with this UUID, if xl created it.
    fn libxl_config(&self, _id: DomId, _uuid: &str) -> Option<serde_json::Value> {
        None
    }
}

/// Converts to seconds with one decimal.
fn seconds(ns: u64) -> f64 {
    (ns / 100_000_000) as f64 / 10.0
}

fn mib(pages: u64) -> u64 {
    pages.div_ceil(256)
}

/// Formats `value` as JSON, with a newline.
#[must_use]
pub fn json<T: Serialize>(value: &T) -> String {
    or_error(serde_json::to_string_pretty(value))
}

/// Formats `value` as JSON on one line, for repeated output.
#[must_use]
pub fn json_line<T: Serialize>(value: &T) -> String {
    or_error(serde_json::to_string(value))
}

fn or_error(text: serde_json::Result<String>) -> String {
    match text {
        Ok(text) => text + "\n",
        Err(error) => format!("{{\"error\": \"{error}\"}}\n"),
    }
}

/// The state in xl's letters: running, blocked, paused, shut down, crashed, dying.
#[must_use]
pub fn state(info: &DomainInfo) -> String {
    let crashed = matches!(info.ended, Some(Ending::Crash | Ending::Watchdog));
    let letters = [
        (info.running, 'r'),
        (info.blocked && !info.running, 'b'),
        (info.paused, 'p'),
        (info.ended.is_some() && !crashed, 's'),
        (crashed, 'c'),
        (info.dying, 'd'),
    ];
    letters
        .iter()
        .map(|&(on, letter)| if on { letter } else { '-' })
        .collect()
}

/// Whether `list` shows UUIDs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Uuids {
    /// A column shows the UUIDs.
    Shown,
    /// UUIDs are not shown.
    Hidden,
}

/// A domain's row in `list`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DomainRow {
    /// Name of the domain.
    pub name: String,
    /// Id of the domain.
    pub domid: u16,
    /// Memory that it has, in MiB.
    pub memory_mib: u64,
    /// Maximum memory, in MiB.
    pub max_memory_mib: u64,
    /// Number of vCPUs that are up.
    pub vcpus: u32,
    /// Its state in xl's letters.
    pub state: String,
    /// Seconds that its vCPUs have run together.
    pub cpu_seconds: f64,
    /// UUID of the domain.
    pub uuid: String,
}

/// Collects the rows of `list`.
///
/// # Errors
/// If the hypervisor refuses the call.
pub fn domains<H: Hypercalls + ?Sized>(
    h: &mut H,
    names: &dyn Names,
) -> Result<Vec<DomainRow>, CallError> {
    let infos = domain::list(h)?;
    Ok(infos.iter().map(|info| row(info, names)).collect())
}

pub(super) fn row(info: &DomainInfo, names: &dyn Names) -> DomainRow {
    DomainRow {
        name: names.name(info.id),
        domid: info.id.0,
        memory_mib: mib(info.pages),
        max_memory_mib: mib(info.max_pages),
        vcpus: info.online_vcpus,
        state: state(info),
        cpu_seconds: seconds(info.cpu_time_ns),
        uuid: uuid_text(&info.handle),
    }
}

/// Formats `list` as text, with UUIDs at the end if they are `wanted`.
#[must_use]
pub fn domain_table(rows: &[DomainRow], wanted: Uuids) -> String {
    let right = Align::Right;
    let mut heading = Vec::from([
        ("Name", Align::Left),
        ("ID", right),
        ("Mem", right),
        ("VCPUs", right),
        ("State", right),
        ("Time(s)", right),
    ]);
    if wanted == Uuids::Shown {
        heading.push(("UUID", Align::Left));
    }
    let mut table = Table::new(&heading);
    for row in rows {
        let time = format!("{:.1}", row.cpu_seconds);
        let numbers = [
            row.domid.to_string(),
            row.memory_mib.to_string(),
            row.vcpus.to_string(),
        ];
        let cells = core::iter::once(row.name.clone())
            .chain(numbers)
            .chain([row.state.clone(), time])
            .chain((wanted == Uuids::Shown).then(|| row.uuid.clone()));
        table.row(cells);
    }
    table.print()
}

/// A vCPU's row in `vcpu-list`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct VcpuRow {
    /// Name of its domain.
    pub name: String,
    /// Id of its domain.
    pub domid: u16,
    /// Number of the vCPU.
    pub vcpu: u32,
    /// The CPU on which it runs or last ran; `None` while it is down.
    pub cpu: Option<u32>,
    /// Running, blocked or paused (down), in xl's letters.
    pub state: String,
    /// Seconds that it has run.
    pub cpu_seconds: f64,
    /// The CPUs on which it may run.
    pub affinity: String,
}

/// Collects the rows of `vcpu-list`, for one domain or for all.
///
/// # Errors
/// If the hypervisor refuses the call.
pub fn vcpus<H: Hypercalls + ?Sized>(
    h: &mut H,
    names: &dyn Names,
    only: Option<DomId>,
) -> Result<Vec<VcpuRow>, CallError> {
    let cpus = machine::host(h)?.cpus;
    let mut rows = Vec::new();
    for info in domain::list(h)? {
        if only.is_some_and(|only| only != info.id) {
            continue;
        }
        for vcpu in 0..info.vcpus {
            // If a vCPU can't be queried, it was never created.
            let Ok(about) = domain::vcpu_info(h, info.id, VcpuId(vcpu)) else {
                continue;
            };
            let affinity = domain::affinity(h, info.id, VcpuId(vcpu), cpus)?;
            rows.push(vcpu_row(
                names.name(info.id),
                info.id,
                vcpu,
                &about,
                &affinity,
                cpus,
            ));
        }
    }
    Ok(rows)
}

fn vcpu_row(
    name: String,
    id: DomId,
    vcpu: u32,
    about: &VcpuInfo,
    affinity: &[u8],
    cpus: u32,
) -> VcpuRow {
    let letters = [
        (about.running, 'r'),
        (about.blocked, 'b'),
        (!about.online, 'p'),
    ];
    let set = CpuSet::from_bitmap(affinity);
    let all = set.iter().take_while(|&cpu| cpu < cpus).count() == cpus as usize;
    VcpuRow {
        name,
        domid: id.0,
        vcpu,
        cpu: about.online.then_some(about.cpu),
        state: letters
            .iter()
            .map(|&(on, letter)| if on { letter } else { '-' })
            .collect(),
        cpu_seconds: seconds(about.cpu_time_ns),
        affinity: if all {
            "all".to_string()
        } else {
            set.to_string()
        },
    }
}

/// Formats `vcpu-list` as text.
#[must_use]
pub fn vcpu_table(rows: &[VcpuRow]) -> String {
    let right = Align::Right;
    let mut table = Table::new(&[
        ("Name", Align::Left),
        ("ID", right),
        ("VCPU", right),
        ("CPU", right),
        ("State", right),
        ("Time(s)", right),
        ("Affinity", Align::Left),
    ]);
    for row in rows {
        let cpu = row.cpu.map_or("-".to_string(), |cpu| cpu.to_string());
        let time = format!("{:.1}", row.cpu_seconds);
        let (id, vcpu) = (row.domid.to_string(), row.vcpu.to_string());
        table.row([
            row.name.clone(),
            id,
            vcpu,
            cpu,
            row.state.clone(),
            time,
            row.affinity.clone(),
        ]);
    }
    table.print()
}

/// The information that `info` shows.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[expect(
    missing_docs,
    reason = "the names are xl's; sizes are in MiB, frames are 4 KiB"
)]
pub struct HostView {
    pub release: String,
    pub nr_cpus: u32,
    pub nr_nodes: u32,
    pub cores_per_socket: u32,
    pub threads_per_core: u32,
    pub cpu_mhz: String,
    pub hw_caps: String,
    pub virt_caps: String,
    pub total_memory: u64,
    pub free_memory: u64,
    pub free_frames: u64,
    pub xen_major: u32,
    pub xen_minor: u32,
    pub xen_extra: String,
    pub xen_caps: String,
    pub xen_scheduler: String,
    pub xen_commandline: String,
    pub cc_compiler: String,
    pub cc_compile_date: String,
    pub cpu_maker: String,
    pub hardware_virtualisation: String,
    pub virt_kind: &'static str,
    pub virt_firmware: &'static str,
    pub virt_nested_paging: &'static str,
}

/// Collects the information that `info` shows.
///
/// # Errors
/// If the hypervisor refuses the call.
pub fn host<H: Hypercalls + ?Sized>(h: &mut H) -> Result<HostView, CallError> {
    let cpu = virtualisation(h)?;
    let [virt_kind, virt_firmware, virt_nested_paging] = cpu.words();
    let host = machine::host(h)?;
    let (xen_major, xen_minor, xen_extra) = machine::version(h)?;
    let scheduler = machine::scheduler(h)?;
    let [compiler, _, _, date] = machine::compile_info(h)?;
    let caps: Vec<String> = host
        .features
        .iter()
        .map(|word| format!("{word:08x}"))
        .collect();
    Ok(HostView {
        release: "xenlike".to_string(),
        nr_cpus: host.cpus,
        nr_nodes: host.nodes,
        cores_per_socket: host.cores_per_socket,
        threads_per_core: host.threads_per_core,
        cpu_mhz: format!("{}.{:03}", host.cpu_khz / 1000, host.cpu_khz % 1000),
        hw_caps: caps.join(":"),
        virt_caps: virt_caps(host.capabilities),
        total_memory: mib(host.total_pages),
        free_memory: host.free_pages / 256,
        free_frames: host.free_pages,
        xen_major,
        xen_minor,
        xen_extra,
        xen_caps: machine::words(h, XENVER_CAPABILITIES, XEN_CAPABILITIES_INFO_LEN)?
            .trim()
            .to_string(),
        xen_scheduler: scheduler.name().to_string(),
        xen_commandline: machine::command_line(h)?,
        cc_compiler: compiler,
        cc_compile_date: date,
        cpu_maker: cpu.maker().to_string(),
        hardware_virtualisation: cpu.sentence(),
        virt_kind,
        virt_firmware,
        virt_nested_paging,
    })
}

/// Formats the output of `version`.
///
/// # Errors
/// If the hypervisor refuses the call.
pub fn version<H: Hypercalls + ?Sized>(h: &mut H, as_json: bool) -> Result<String, CallError> {
    let (major, minor, extra) = machine::version(h)?;
    let (own, abi) = (env!("CARGO_PKG_VERSION"), format!("{major}.{minor}{extra}"));
    Ok(if as_json {
        json(&serde_json::json!({ "xenlike": own, "xen_abi": abi }))
    } else {
        format!("xenlike {own}, Xen ABI {abi}\n")
    })
}

/// xl's names for the `XEN_SYSCTL_PHYSCAP_*` flags.
fn virt_caps(capabilities: u32) -> String {
    use guest_pv_abi::sysctl::{
        XEN_SYSCTL_PHYSCAP_HAP, XEN_SYSCTL_PHYSCAP_HVM, XEN_SYSCTL_PHYSCAP_PV,
    };
    let known = [
        (XEN_SYSCTL_PHYSCAP_PV, "pv"),
        (XEN_SYSCTL_PHYSCAP_HVM, "hvm"),
        (XEN_SYSCTL_PHYSCAP_HAP, "hap"),
    ];
    let words: Vec<&str> = known
        .iter()
        .filter(|(bit, _)| capabilities & bit != 0)
        .map(|(_, word)| *word)
        .collect();
    words.join(" ")
}

/// Formats `info` as text, in xl's `name : value` lines.
#[must_use]
pub fn host_text(view: &HostView) -> String {
    let lines: [(&str, &dyn Display); 21] = [
        ("release", &view.release),
        ("nr_cpus", &view.nr_cpus),
        ("nr_nodes", &view.nr_nodes),
        ("cores_per_socket", &view.cores_per_socket),
        ("threads_per_core", &view.threads_per_core),
        ("cpu_maker", &view.cpu_maker),
        ("cpu_mhz", &view.cpu_mhz),
        ("hw_caps", &view.hw_caps),
        ("virt_caps", &view.virt_caps),
        ("hardware_virtualisation", &view.hardware_virtualisation),
        ("total_memory", &view.total_memory),
        ("free_memory", &view.free_memory),
        ("free_frames", &view.free_frames),
        ("xen_major", &view.xen_major),
        ("xen_minor", &view.xen_minor),
        ("xen_extra", &view.xen_extra),
        ("xen_caps", &view.xen_caps),
        ("xen_scheduler", &view.xen_scheduler),
        ("xen_commandline", &view.xen_commandline),
        ("cc_compiler", &view.cc_compiler),
        ("cc_compile_date", &view.cc_compile_date),
    ];
    let line = |(name, value): &(&str, &dyn Display)| {
        format!("{name:<24}: {value}").trim_end().to_string() + "\n"
    };
    lines.iter().map(line).collect()
}

/// A domain's row in `top`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TopRow {
    /// Name of the domain.
    pub name: String,
    /// Id of the domain.
    pub domid: u16,
    /// Its state in xl's letters.
    pub state: String,
    /// Seconds that its vCPUs have run since its start.
    pub cpu_seconds: f64,
    /// CPU time since the last refresh, in percent of one CPU.
    pub cpu_percent: f64,
    /// Memory that it has, in MiB.
    pub memory_mib: u64,
    /// Number of vCPUs that are up.
    pub vcpus: u32,
}

/// The rows of `top`. `before` is the information that was read `elapsed_ns` ago.
#[must_use]
pub fn top(
    before: &[DomainInfo],
    now: &[DomainInfo],
    elapsed_ns: u64,
    names: &dyn Names,
) -> Vec<TopRow> {
    let row = |info: &DomainInfo| {
        let then = before
            .iter()
            .find(|old| old.id == info.id)
            .map_or(info.cpu_time_ns, |old| old.cpu_time_ns);
        let permille =
            info.cpu_time_ns.saturating_sub(then).saturating_mul(1000) / elapsed_ns.max(1);
        TopRow {
            name: names.name(info.id),
            domid: info.id.0,
            state: state(info),
            cpu_seconds: seconds(info.cpu_time_ns),
            cpu_percent: permille as f64 / 10.0,
            memory_mib: mib(info.pages),
            vcpus: info.online_vcpus,
        }
    };
    let mut rows: Vec<TopRow> = now.iter().map(row).collect();
    rows.sort_by(|a, b| b.cpu_percent.total_cmp(&a.cpu_percent));
    rows
}

/// Formats `top` as text.
#[must_use]
pub fn top_table(rows: &[TopRow]) -> String {
    let right = Align::Right;
    let mut table = Table::new(&[
        ("Name", Align::Left),
        ("ID", right),
        ("State", right),
        ("CPU(s)", right),
        ("CPU(%)", right),
        ("Mem", right),
        ("VCPUs", right),
    ]);
    for row in rows {
        let times = [
            format!("{:.1}", row.cpu_seconds),
            format!("{:.1}", row.cpu_percent),
        ];
        let (id, memory, vcpus) = (
            row.domid.to_string(),
            row.memory_mib.to_string(),
            row.vcpus.to_string(),
        );
        let [time, percent] = times;
        table.row([
            row.name.clone(),
            id,
            row.state.clone(),
            time,
            percent,
            memory,
            vcpus,
        ]);
    }
    table.print()
}
