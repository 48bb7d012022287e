//! sysctl, xen_version and platform_op: the machine and the hypervisor.

use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use guest_pv_abi::arch_x86::CpuidLeaf;
use guest_pv_abi::sysctl::{self as abi, Sysctl};
use guest_pv_abi::{Errno, Payload, errno, hypercall, version};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::{Args, CallError, Hypercalls};

/// The scheduler in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheduler {
    /// The credit scheduler.
    Credit,
    /// The credit2 scheduler.
    Credit2,
    /// A scheduler without weights, by its number in domctl.h.
    Other(u32),
}

impl Scheduler {
    /// The scheduler's name as xl prints it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Scheduler::Credit => "credit",
            Scheduler::Credit2 => "credit2",
            Scheduler::Other(_) => "other",
        }
    }
}

/// Properties of the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Number of CPUs that are online.
    pub cpus: u32,
    /// Number of threads in a core.
    pub threads_per_core: u32,
    /// Number of cores in a socket.
    pub cores_per_socket: u32,
    /// Number of NUMA nodes.
    pub nodes: u32,
    /// Frequency of the time-stamp counter in kHz.
    pub cpu_khz: u32,
    /// Number of pages of memory.
    pub total_pages: u64,
    /// Number of pages of free memory.
    pub free_pages: u64,
    /// Number of free pages that must be scrubbed before use.
    pub scrub_pages: u64,
    /// The first words of the CPU's featureset.
    pub features: [u32; 8],
    /// `XEN_SYSCTL_PHYSCAP_*` flags.
    pub capabilities: u32,
}

pub(super) fn sysctl_in<H, T>(args: &mut Args<'_, H>, cmd: u32, body: &T) -> Result<T, Errno>
where
    H: Hypercalls + ?Sized,
    T: FromBytes + IntoBytes + Immutable,
{
    let call = args.put(&Sysctl {
        cmd,
        interface_version: abi::XEN_SYSCTL_INTERFACE_VERSION,
        u: Payload::of(body),
    })?;
    args.call(hypercall::SYSCTL, [call.handle.0, 0, 0, 0, 0])?;
    Ok(args.get::<Sysctl>(call).u.get())
}

impl Host {
    /// The highest grant table version that a domain may use.
    pub const fn newest_grant_version(&self) -> u32 {
        if self.capabilities & abi::XEN_SYSCTL_PHYSCAP_GNTTAB_V2 == 0 {
            1
        } else {
            2
        }
    }
}

/// Reads the properties of the machine.
///
/// # Errors
/// If the hypervisor refuses the call.
pub fn host<H: Hypercalls + ?Sized>(h: &mut H) -> Result<Host, CallError> {
    let info = sysctl_in(
        &mut Args::new(h),
        abi::XEN_SYSCTL_PHYSINFO,
        &abi::PhysInfo::default(),
    )
    .map_err(CallError::of("look at the machine"))?;
    Ok(Host {
        cpus: info.nr_cpus,
        threads_per_core: info.threads_per_core,
        cores_per_socket: info.cores_per_socket,
        nodes: info.nr_nodes,
        cpu_khz: info.cpu_khz,
        total_pages: info.total_pages,
        free_pages: info.free_pages,
        scrub_pages: info.scrub_pages,
        features: info.hw_cap,
        capabilities: info.capabilities,
    })
}

/// Finds out which scheduler is in use.
///
/// # Errors
/// If the hypervisor refuses the call.
pub fn scheduler<H: Hypercalls + ?Sized>(h: &mut H) -> Result<Scheduler, CallError> {
    use guest_pv_abi::domctl::{XEN_SCHEDULER_CREDIT, XEN_SCHEDULER_CREDIT2};
    let body = sysctl_in(
        &mut Args::new(h),
        abi::XEN_SYSCTL_SCHED_ID,
        &abi::SchedId::default(),
    )
    .map_err(CallError::of("ask for the scheduler"))?;
    Ok(match body.sched_id {
        XEN_SCHEDULER_CREDIT => Scheduler::Credit,
        XEN_SCHEDULER_CREDIT2 => Scheduler::Credit2,
        other => Scheduler::Other(other),
    })
}

/// Reads for how many nanoseconds each CPU was idle.
///
/// # Errors
/// If the hypervisor refuses the call.
pub fn idle_times<H: Hypercalls + ?Sized>(h: &mut H) -> Result<Vec<u64>, CallError> {
    const MAX_CPUS: usize = 1024;
    let what = CallError::of("look at the CPUs");
    let mut args = Args::new(h);
    let room = args.room(MAX_CPUS * 8).map_err(&what)?;
    let body = abi::GetCpuInfo {
        max_cpus: MAX_CPUS as u32,
        info: room.handle,
        ..Default::default()
    };
    let body = sysctl_in(&mut args, abi::XEN_SYSCTL_GETCPUINFO, &body).map_err(what)?;
    let times = args
        .bytes(room)
        .as_chunks::<8>()
        .0
        .iter()
        .map(|&bytes| u64::from_le_bytes(bytes));
    Ok(times.take(body.nr_cpus as usize).collect())
}

/// Reads the hypervisor's log.
///
/// # Errors
/// If the hypervisor refuses the call.
pub fn log<H: Hypercalls + ?Sized>(h: &mut H, clear: Clear) -> Result<Vec<u8>, CallError> {
    const CHUNK: usize = 16 << 10;
    let what = CallError::of("read the hypervisor's log");
    let (mut text, mut index) = (Vec::new(), 0);
    loop {
        let mut args = Args::new(h);
        let room = args.room(CHUNK).map_err(&what)?;
        let body = abi::ReadConsole {
            clear: u8::from(clear == Clear::Yes),
            incremental: 1,
            index,
            buffer: room.handle,
            count: CHUNK as u32,
            ..Default::default()
        };
        let body = sysctl_in(&mut args, abi::XEN_SYSCTL_READCONSOLE, &body).map_err(&what)?;
        let given = (body.count as usize).min(CHUNK);
        text.extend_from_slice(args.bytes(room).get(..given).unwrap_or_default());
        index = body.index;
        if given == 0 || given < CHUNK && clear == Clear::Yes || text.len() > 4 << 20 {
            return Ok(text);
        }
    }
}

/// Presses debug keys, as if they were typed on the hypervisor's console.
///
/// # Errors
/// If the hypervisor refuses the call.
pub fn debug_keys<H: Hypercalls + ?Sized>(h: &mut H, keys: &[u8]) -> Result<(), CallError> {
    let what = CallError::of("press keys of the hypervisor's console");
    let mut args = Args::new(h);
    let place = args.put(keys).map_err(&what)?;
    let body = abi::DebugKeys {
        keys: place.handle,
        nr_keys: keys.len() as u32,
        _gap0: [0; 4],
    };
    let call = sysctl_in(&mut args, abi::XEN_SYSCTL_DEBUG_KEYS, &body);
    call.map(drop).map_err(what)
}

/// Whether the log is cleared after reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clear {
    /// The log is cleared.
    Yes,
    /// The log is kept.
    No,
}

/// Reads the hypervisor's version: major, minor, and the extra version such as ".0-xenlike".
///
/// # Errors
/// If the hypervisor refuses the call.
pub fn version<H: Hypercalls + ?Sized>(h: &mut H) -> Result<(u32, u32, String), CallError> {
    let what = CallError::of("ask for the version");
    let number = h
        .call(
            hypercall::XEN_VERSION,
            [u64::from(version::XENVER_VERSION), 0, 0, 0, 0],
        )
        .map_err(&what)?;
    let extra = words(
        h,
        version::XENVER_EXTRAVERSION,
        version::XEN_EXTRAVERSION_LEN,
    )?;
    Ok((number as u32 >> 16, number as u32 & 0xffff, extra))
}

/// Reads a text of xen_version whose length the ABI fixes (`XENVER_EXTRAVERSION`, `XENVER_CHANGESET`, …).
///
/// # Errors
/// If the hypervisor refuses the call.
pub fn words<H: Hypercalls + ?Sized>(h: &mut H, cmd: u32, len: usize) -> Result<String, CallError> {
    let what = CallError::of("ask for the version");
    let mut args = Args::new(h);
    let room = args.put(vec![0_u8; len].as_slice()).map_err(&what)?;
    args.call(
        hypercall::XEN_VERSION,
        [u64::from(cmd), room.handle.0, 0, 0, 0],
    )
    .map_err(what)?;
    Ok(text(args.bytes(room)))
}

fn text(bytes: &[u8]) -> String {
    let bytes = bytes.split(|&byte| byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(bytes).to_string()
}

/// Reads the compiler of the hypervisor, by whom and where it was compiled, and when.
///
/// # Errors
/// If the hypervisor refuses the call.
pub fn compile_info<H: Hypercalls + ?Sized>(h: &mut H) -> Result<[String; 4], CallError> {
    let what = CallError::of("ask for the version");
    let mut args = Args::new(h);
    let room = args.put(&version::CompileInfo::default()).map_err(&what)?;
    args.call(
        hypercall::XEN_VERSION,
        [
            u64::from(version::XENVER_COMPILE_INFO),
            room.handle.0,
            0,
            0,
            0,
        ],
    )
    .map_err(what)?;
    let info: version::CompileInfo = args.get(room);
    Ok([
        text(&info.compiler),
        text(&info.compile_by),
        text(&info.compile_domain),
        text(&info.compile_date),
    ])
}

/// Reads the hypervisor's whole command line.
///
/// # Errors
/// If the hypervisor refuses the call.
pub fn command_line<H: Hypercalls + ?Sized>(h: &mut H) -> Result<String, CallError> {
    words(h, version::XENVER_COMMANDLINE, 1024)
}

/// Reads the CPUID leaves of the CPU itself (`XEN_SYSCTL_cpu_policy_raw`).
///
/// # Errors
/// If the hypervisor refuses the call.
pub fn leaves<H: Hypercalls + ?Sized>(h: &mut H) -> Result<Vec<CpuidLeaf>, CallError> {
    /// Larger than any policy.
    const MAX_LEAVES: usize = 512;
    let what = CallError::of("look at the CPU");
    let mut args = Args::new(h);
    let room = args
        .room(MAX_LEAVES * size_of::<CpuidLeaf>())
        .map_err(&what)?;
    let body = abi::CpuPolicy {
        index: abi::XEN_SYSCTL_CPU_POLICY_RAW,
        nr_leaves: MAX_LEAVES as u32,
        leaves: room.handle,
        ..Default::default()
    };
    let body = sysctl_in(&mut args, abi::XEN_SYSCTL_GET_CPU_POLICY, &body).map_err(&what)?;
    let count = (body.nr_leaves as usize).min(MAX_LEAVES);
    let (leaves, _) = <[CpuidLeaf]>::ref_from_prefix_with_elems(args.bytes(room), count)
        .map_err(|_| what(errno::EINVAL))?;
    Ok(leaves.to_vec())
}

/// Reads a model-specific register of the CPU (`XENPF_resource_op`).
///
/// # Errors
/// If the hypervisor refuses the call: it allows few registers.
pub fn register<H: Hypercalls + ?Sized>(h: &mut H, number: u32) -> Result<u64, CallError> {
    use guest_pv_abi::platform::{
        PlatformOp, ResourceEntry, ResourceOp, XEN_RESOURCE_OP_MSR_READ, XENPF_INTERFACE_VERSION,
        XENPF_RESOURCE_OP,
    };
    let what = CallError::of("read a register");
    let mut args = Args::new(h);
    let entry = ResourceEntry {
        cmd: XEN_RESOURCE_OP_MSR_READ,
        idx: number.into(),
        ..Default::default()
    };
    let entry = args.put(&entry).map_err(&what)?;
    let body = ResourceOp {
        nr_entries: 1,
        cpu: 0,
        entries: entry.handle,
    };
    let op = args
        .put(&PlatformOp {
            cmd: XENPF_RESOURCE_OP,
            interface_version: XENPF_INTERFACE_VERSION,
            u: Payload::of(&body),
        })
        .map_err(&what)?;
    let call = [op.handle.0, 0, 0, 0, 0];
    match args.call(hypercall::PLATFORM_OP, call).map_err(&what)? {
        0 => Err(what(errno::EPERM)),
        _ => Ok(args.get::<ResourceEntry>(entry).val),
    }
}

/// Turns `ENOSYS` and `EOPNOTSUPP` into `None`, for calls that only some hypervisors offer.
pub(crate) fn optional<T>(result: Result<T, CallError>) -> Result<Option<T>, CallError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if matches!(error.errno, errno::ENOSYS | errno::EOPNOTSUPP) => Ok(None),
        Err(error) => Err(error),
    }
}
