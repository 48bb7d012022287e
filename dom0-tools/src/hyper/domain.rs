//! domctl: creating, controlling, querying and destroying domains (domctl.h).

use alloc::vec::Vec;
use core::fmt;

use guest_pv_abi::domctl::{self as abi, Domctl};
use guest_pv_abi::errno;
use guest_pv_abi::sysctl::XEN_SYSCTL_GETDOMAININFOLIST;
use guest_pv_abi::xen::CtlBitmap;
use guest_pv_abi::xenlike::{XENLIKE_BECOME_DOM0, XENLIKE_CREATE_DOM0, XENLIKE_OP};
use guest_pv_abi::{Errno, Payload, hypercall, sched, sysctl};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::{Args, CallError, DomId, Hypercalls, Mfn, Scheduler, VcpuId, machine};

/// The properties of a new domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewDomain {
    /// UUID of the domain.
    pub handle: [u8; 16],
    /// Number of vCPUs that it gets.
    pub max_vcpus: u32,
    /// Highest event channel port that it may use.
    pub max_event_channels: u32,
    /// Maximum frames of its grant table; `None` for the hypervisor's default.
    pub max_grant_frames: Option<u32>,
    /// Maximum frames for its grant handles; `None` for the hypervisor's default.
    pub max_maptrack_frames: Option<u32>,
    /// The highest grant table version that it may use; `None` for the highest that the hypervisor has.
    pub max_grant_version: Option<u32>,
}

/// How a domain ended (sched.h, `SHUTDOWN_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The domain powered itself off.
    PowerOff,
    /// The domain asked to be started again.
    Reboot,
    /// The domain suspended itself.
    Suspend,
    /// The domain's kernel crashed.
    Crash,
    /// The domain didn't reset its watchdog in time.
    Watchdog,
    /// The domain ended with another code.
    Other(u32),
}

/// Prints what the domain did, to follow its name in a sentence.
impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Ending::PowerOff => "has powered off",
            Ending::Reboot => "reboots",
            Ending::Suspend => "has suspended itself",
            Ending::Crash => "has crashed (`dmesg` may tell why)",
            Ending::Watchdog => "was ended by its watchdog",
            Ending::Other(code) => return write!(f, "has ended with the unknown code {code}"),
        })
    }
}

impl Ending {
    /// Converts from the hypervisor's code (`SHUTDOWN_*`).
    #[must_use]
    pub fn of_code(code: u32) -> Ending {
        match code {
            sched::SHUTDOWN_POWEROFF => Ending::PowerOff,
            sched::SHUTDOWN_REBOOT => Ending::Reboot,
            sched::SHUTDOWN_SUSPEND => Ending::Suspend,
            sched::SHUTDOWN_CRASH => Ending::Crash,
            sched::SHUTDOWN_WATCHDOG => Ending::Watchdog,
            code => Ending::Other(code),
        }
    }

    /// The hypervisor's code for it (`SHUTDOWN_*`).
    #[must_use]
    pub fn code(self) -> u32 {
        match self {
            Ending::PowerOff => sched::SHUTDOWN_POWEROFF,
            Ending::Reboot => sched::SHUTDOWN_REBOOT,
            Ending::Suspend => sched::SHUTDOWN_SUSPEND,
            Ending::Crash => sched::SHUTDOWN_CRASH,
            Ending::Watchdog => sched::SHUTDOWN_WATCHDOG,
            Ending::Other(code) => code,
        }
    }
}

/// The hypervisor's information about a domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DomainInfo {
    /// The domain's id.
    pub id: DomId,
    /// Whether it is being destroyed.
    pub dying: bool,
    /// How it ended, if it has ended.
    pub ended: Option<Ending>,
    /// Whether the toolstack has paused it.
    pub paused: bool,
    /// Whether all its vCPUs are blocked.
    pub blocked: bool,
    /// Whether at least one of its vCPUs runs on a CPU.
    pub running: bool,
    /// Number of pages that it has.
    pub pages: u64,
    /// Maximum number of pages that it may have.
    pub max_pages: u64,
    /// Nanoseconds that its vCPUs have run together.
    pub cpu_time_ns: u64,
    /// Number of its vCPUs that are up.
    pub online_vcpus: u32,
    /// Number of vCPUs that it has.
    pub vcpus: u32,
    /// The shared info frame.
    pub shared_info: Mfn,
    /// UUID of the domain.
    pub handle: [u8; 16],
}

impl From<abi::GetDomainInfo> for DomainInfo {
    fn from(info: abi::GetDomainInfo) -> DomainInfo {
        let flag = |bit| info.flags & bit != 0;
        let code = info.flags >> abi::XEN_DOMINF_SHUTDOWNSHIFT & abi::XEN_DOMINF_SHUTDOWNMASK;
        DomainInfo {
            id: DomId(info.domain),
            dying: flag(abi::XEN_DOMINF_DYING),
            ended: flag(abi::XEN_DOMINF_SHUTDOWN).then(|| Ending::of_code(code)),
            paused: flag(abi::XEN_DOMINF_PAUSED),
            blocked: flag(abi::XEN_DOMINF_BLOCKED),
            running: flag(abi::XEN_DOMINF_RUNNING),
            pages: info.tot_pages,
            max_pages: info.max_pages,
            cpu_time_ns: info.cpu_time,
            online_vcpus: info.nr_online_vcpus,
            vcpus: info.max_vcpu_id.wrapping_add(1),
            shared_info: Mfn(info.shared_info_frame),
            handle: info.handle,
        }
    }
}

/// The hypervisor's information about a vCPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VcpuInfo {
    /// Whether it is up.
    pub online: bool,
    /// Whether it waits for an event.
    pub blocked: bool,
    /// Whether it is on a CPU now.
    pub running: bool,
    /// Nanoseconds that it has run.
    pub cpu_time_ns: u64,
    /// The CPU on which it runs or last ran.
    pub cpu: u32,
}

/// Makes a domctl without buffers: sends `body`, returns the domain and the body of the answer.
fn domctl<H, T>(h: &mut H, cmd: u32, dom: DomId, body: &T) -> Result<(DomId, T), Errno>
where
    H: Hypercalls + ?Sized,
    T: FromBytes + IntoBytes + Immutable,
{
    domctl_in(&mut Args::new(h), cmd, dom, body)
}

fn domctl_in<H, T>(
    args: &mut Args<'_, H>,
    cmd: u32,
    dom: DomId,
    body: &T,
) -> Result<(DomId, T), Errno>
where
    H: Hypercalls + ?Sized,
    T: FromBytes + IntoBytes + Immutable,
{
    let call = args.put(&Domctl {
        cmd,
        interface_version: abi::XEN_DOMCTL_INTERFACE_VERSION,
        domain: dom.0,
        u: Payload::of(body),
        ..Default::default()
    })?;
    args.call(hypercall::DOMCTL, [call.handle.0, 0, 0, 0, 0])?;
    let answer: Domctl = args.get(call);
    Ok((DomId(answer.domain), answer.u.get()))
}

/// Repeats a call that the hypervisor performs in parts, until it is complete.
fn until_done(mut call: impl FnMut() -> Result<(), Errno>) -> Result<(), Errno> {
    loop {
        match call() {
            Err(errno::ERESTART | errno::EAGAIN) => {}
            result => return result,
        }
    }
}

impl NewDomain {
    /// The body of createdomain. Asks the hypervisor for limits that it chooses itself.
    fn body<H: Hypercalls + ?Sized>(&self, h: &mut H) -> Result<abi::CreateDomain, CallError> {
        let limit = |frames: Option<u32>| {
            frames
                .and_then(|frames| i32::try_from(frames).ok())
                .unwrap_or(-1)
        };
        let grant_opts = match self.max_grant_version {
            Some(version) => version,
            None => machine::host(h)?.newest_grant_version(),
        };
        Ok(abi::CreateDomain {
            handle: self.handle,
            max_vcpus: self.max_vcpus,
            max_evtchn_port: self.max_event_channels,
            max_grant_frames: limit(self.max_grant_frames),
            max_maptrack_frames: limit(self.max_maptrack_frames),
            grant_opts,
            ..Default::default()
        })
    }
}

/// Creates a paused domain without memory and vCPUs; the hypervisor chooses its id.
///
/// # Errors
/// If the hypervisor refuses the call.
pub fn create<H: Hypercalls + ?Sized>(h: &mut H, new: &NewDomain) -> Result<DomId, CallError> {
    // For an id that is too large for a domain, Xen takes the first free id.
    let any = DomId(u16::MAX);
    let body = new.body(h)?;
    let (dom, _) = domctl(h, abi::XEN_DOMCTL_CREATEDOMAIN, any, &body)
        .map_err(CallError::of("create a domain"))?;
    Ok(dom)
}

/// Creates domain 0. Only the boot domain may do this.
///
/// # Errors
/// If the hypervisor refuses the call.
pub fn create_dom0<H: Hypercalls + ?Sized>(h: &mut H, new: &NewDomain) -> Result<DomId, CallError> {
    let what = CallError::of("create Domain-0");
    let body = new.body(h)?;
    let mut args = Args::new(h);
    let body = args.put(&body).map_err(&what)?;
    args.call(
        XENLIKE_OP,
        [u64::from(XENLIKE_CREATE_DOM0), body.handle.0, 0, 0, 0],
    )
    .map_err(what)?;
    Ok(DomId::ZERO)
}

/// Makes the boot domain domain 0.
///
/// # Errors
/// If the hypervisor refuses the call.
pub fn become_dom0<H: Hypercalls + ?Sized>(h: &mut H) -> Result<(), CallError> {
    let call = h.call(XENLIKE_OP, [u64::from(XENLIKE_BECOME_DOM0), 0, 0, 0, 0]);
    call.map(drop).map_err(CallError::of("become Domain-0"))
}

/// Stops a domain for good and frees its resources.
///
/// # Errors
/// If the hypervisor refuses the call.
pub fn destroy<H: Hypercalls + ?Sized>(h: &mut H, dom: DomId) -> Result<(), CallError> {
    until_done(|| domctl(h, abi::XEN_DOMCTL_DESTROYDOMAIN, dom, &0_u64).map(drop))
        .map_err(CallError::of("destroy the domain"))
}

/// Pauses a domain: its vCPUs don't run.
///
/// # Errors
/// If the hypervisor refuses the call.
pub fn pause<H: Hypercalls + ?Sized>(h: &mut H, dom: DomId) -> Result<(), CallError> {
    until_done(|| domctl(h, abi::XEN_DOMCTL_PAUSEDOMAIN, dom, &0_u64).map(drop))
        .map_err(CallError::of("pause the domain"))
}

/// Unpauses a domain.
///
/// # Errors
/// If the hypervisor refuses the call.
pub fn unpause<H: Hypercalls + ?Sized>(h: &mut H, dom: DomId) -> Result<(), CallError> {
    domctl(h, abi::XEN_DOMCTL_UNPAUSEDOMAIN, dom, &0_u64)
        .map(drop)
        .map_err(CallError::of("unpause the domain"))
}

/// Reads information about one domain.
///
/// # Errors
/// `ESRCH` if no domain has this id.
pub fn info<H: Hypercalls + ?Sized>(h: &mut H, dom: DomId) -> Result<DomainInfo, CallError> {
    let body = abi::GetDomainInfo::default();
    let (_, answer) = domctl(h, abi::XEN_DOMCTL_GETDOMAININFO, dom, &body)
        .map_err(CallError::of("look at the domain"))?;
    // If no domain has this id, Xen returns the next one.
    if answer.domain != dom.0 {
        return Err(CallError {
            what: "look at the domain",
            errno: errno::ESRCH,
        });
    }
    Ok(answer.into())
}

/// Reads information about all domains, in ascending order of ids.
///
/// # Errors
/// If the hypervisor refuses the call.
pub fn list<H: Hypercalls + ?Sized>(h: &mut H) -> Result<Vec<DomainInfo>, CallError> {
    const BATCH: usize = 128;
    let what = CallError::of("list the domains");
    let mut found: Vec<DomainInfo> = Vec::new();
    let mut first = 0;
    loop {
        let mut args = Args::new(h);
        let room = args
            .room(BATCH * size_of::<abi::GetDomainInfo>())
            .map_err(&what)?;
        let body = sysctl::GetDomainInfoList {
            first_domain: first,
            max_domains: BATCH as u32,
            buffer: room.handle,
            ..Default::default()
        };
        let body = super::machine::sysctl_in(&mut args, XEN_SYSCTL_GETDOMAININFOLIST, &body)
            .map_err(&what)?;
        let given = (body.num_domains as usize).min(BATCH);
        let (infos, _) =
            <[abi::GetDomainInfo]>::ref_from_prefix_with_elems(args.bytes(room), given)
                .map_err(|_| what(errno::EINVAL))?;
        found.extend(infos.iter().map(|&info| DomainInfo::from(info)));
        match found.last() {
            Some(last) if given == BATCH => first = last.id.0 + 1,
            _ => return Ok(found),
        }
    }
}

/// Creates a domain's vCPUs.
///
/// # Errors
/// If the hypervisor refuses the call.
pub fn set_max_vcpus<H: Hypercalls + ?Sized>(
    h: &mut H,
    dom: DomId,
    max: u32,
) -> Result<(), CallError> {
    domctl(h, abi::XEN_DOMCTL_MAX_VCPUS, dom, &abi::MaxVcpus { max })
        .map(drop)
        .map_err(CallError::of("give the domain its vCPUs"))
}

/// Sets the maximum memory of a domain.
///
/// # Errors
/// If the hypervisor refuses the call.
pub fn set_max_memory<H: Hypercalls + ?Sized>(
    h: &mut H,
    dom: DomId,
    kib: u64,
) -> Result<(), CallError> {
    domctl(
        h,
        abi::XEN_DOMCTL_MAX_MEM,
        dom,
        &abi::MaxMem { max_memkb: kib },
    )
    .map(drop)
    .map_err(CallError::of("limit the domain's memory"))
}

/// Fills a frame of a domain with hypercall stubs.
///
/// # Errors
/// If the hypervisor refuses the call.
pub fn init_hypercall_page<H: Hypercalls + ?Sized>(
    h: &mut H,
    dom: DomId,
    frame: Mfn,
) -> Result<(), CallError> {
    domctl(
        h,
        abi::XEN_DOMCTL_HYPERCALL_INIT,
        dom,
        &abi::HypercallInit { gmfn: frame.0 },
    )
    .map(drop)
    .map_err(CallError::of("fill the hypercall page"))
}

/// Makes a domain narrow: its kernels are 32-bit. It must not have memory yet.
///
/// # Errors
/// If the hypervisor refuses the call.
pub fn make_narrow<H: Hypercalls + ?Sized>(h: &mut H, dom: DomId) -> Result<(), CallError> {
    let body = abi::AddressSize { size: 32 };
    domctl(h, abi::XEN_DOMCTL_SET_ADDRESS_SIZE, dom, &body)
        .map(drop)
        .map_err(CallError::of("make the domain 32-bit"))
}

/// Sets the registers of a vCPU. `context` is a `VcpuGuestContext` of the domain's width.
///
/// # Errors
/// If the hypervisor refuses the call.
pub fn set_context<H: Hypercalls + ?Sized>(
    h: &mut H,
    dom: DomId,
    vcpu: VcpuId,
    context: &(impl IntoBytes + Immutable),
) -> Result<(), CallError> {
    let what = CallError::of("set the vCPU's registers");
    let mut args = Args::new(h);
    let ctxt = args.put(context).map_err(&what)?.handle;
    let body = abi::VcpuContext {
        vcpu: vcpu.0,
        ctxt,
        ..Default::default()
    };
    domctl_in(&mut args, abi::XEN_DOMCTL_SETVCPUCONTEXT, dom, &body)
        .map(drop)
        .map_err(what)
}

/// Reads information about a vCPU.
///
/// # Errors
/// `ESRCH` if the domain or the vCPU doesn't exist.
pub fn vcpu_info<H: Hypercalls + ?Sized>(
    h: &mut H,
    dom: DomId,
    vcpu: VcpuId,
) -> Result<VcpuInfo, CallError> {
    let body = abi::GetVcpuInfo {
        vcpu: vcpu.0,
        ..Default::default()
    };
    let (_, info) = domctl(h, abi::XEN_DOMCTL_GETVCPUINFO, dom, &body)
        .map_err(CallError::of("look at the vCPU"))?;
    Ok(VcpuInfo {
        online: info.online != 0,
        blocked: info.blocked != 0,
        running: info.running != 0,
        cpu_time_ns: info.cpu_time,
        cpu: info.cpu,
    })
}

/// The CPUs on which a vCPU may run, as a bitmap of `cpus` bits.
///
/// # Errors
/// If the hypervisor refuses the call.
pub fn affinity<H: Hypercalls + ?Sized>(
    h: &mut H,
    dom: DomId,
    vcpu: VcpuId,
    cpus: u32,
) -> Result<Vec<u8>, CallError> {
    let what = CallError::of("read the vCPU's affinity");
    let mut args = Args::new(h);
    let room = args.room(cpus.div_ceil(8) as usize).map_err(&what)?;
    let map = CtlBitmap {
        bitmap: room.handle,
        nr_bits: cpus,
        ..Default::default()
    };
    let body = abi::VcpuAffinity {
        vcpu: vcpu.0,
        flags: abi::XEN_VCPUAFFINITY_HARD,
        cpumap_hard: map,
        ..Default::default()
    };
    domctl_in(&mut args, abi::XEN_DOMCTL_GETVCPUAFFINITY, dom, &body).map_err(what)?;
    Ok(args.bytes(room).to_vec())
}

/// Sets the CPUs on which a vCPU may run; bit 0 of byte 0 is CPU 0.
///
/// # Errors
/// If the hypervisor refuses the call.
pub fn set_affinity<H: Hypercalls + ?Sized>(
    h: &mut H,
    dom: DomId,
    vcpu: VcpuId,
    bitmap: &[u8],
) -> Result<(), CallError> {
    let what = CallError::of("set the vCPU's affinity");
    let mut args = Args::new(h);
    let room = args.put(bitmap).map_err(&what)?;
    let map = CtlBitmap {
        bitmap: room.handle,
        nr_bits: bitmap.len() as u32 * 8,
        ..Default::default()
    };
    let body = abi::VcpuAffinity {
        vcpu: vcpu.0,
        flags: abi::XEN_VCPUAFFINITY_HARD,
        cpumap_hard: map,
        ..Default::default()
    };
    domctl_in(&mut args, abi::XEN_DOMCTL_SETVCPUAFFINITY, dom, &body)
        .map(drop)
        .map_err(what)
}

/// Reads the scheduler weight and cap of a domain.
///
/// # Errors
/// If the hypervisor refuses the call; `EOPNOTSUPP` if the scheduler has no weights.
pub fn weight_and_cap<H: Hypercalls + ?Sized>(
    h: &mut H,
    dom: DomId,
    sched: Scheduler,
) -> Result<(u16, u16), CallError> {
    let answer = scheduler(
        h,
        dom,
        sched,
        abi::XEN_DOMCTL_SCHEDOP_GETINFO,
        abi::SchedCredit::default(),
    )?;
    Ok((answer.weight, answer.cap))
}

/// Sets the scheduler weight and cap of a domain; a value of `None` is kept.
///
/// # Errors
/// If the hypervisor refuses the call; `EOPNOTSUPP` if the scheduler has no weights.
pub fn set_weight_and_cap<H: Hypercalls + ?Sized>(
    h: &mut H,
    dom: DomId,
    sched: Scheduler,
    weight: Option<u16>,
    cap: Option<u16>,
) -> Result<(), CallError> {
    let (old_weight, old_cap) = weight_and_cap(h, dom, sched)?;
    let new = abi::SchedCredit {
        weight: weight.unwrap_or(old_weight),
        cap: cap.unwrap_or(old_cap),
    };
    scheduler(h, dom, sched, abi::XEN_DOMCTL_SCHEDOP_PUTINFO, new).map(drop)
}

fn scheduler<H: Hypercalls + ?Sized>(
    h: &mut H,
    dom: DomId,
    sched: Scheduler,
    cmd: u32,
    credit: abi::SchedCredit,
) -> Result<abi::SchedCredit, CallError> {
    let what = CallError::of("ask the scheduler");
    let sched_id = match sched {
        Scheduler::Credit => abi::XEN_SCHEDULER_CREDIT,
        Scheduler::Credit2 => abi::XEN_SCHEDULER_CREDIT2,
        Scheduler::Other(_) => return Err(what(errno::EOPNOTSUPP)),
    };
    // The structures of credit and credit2 have the same layout.
    let body = abi::SchedulerOp {
        sched_id,
        cmd,
        u: Payload::of(&credit),
    };
    let (_, answer) = domctl(h, abi::XEN_DOMCTL_SCHEDULER_OP, dom, &body).map_err(what)?;
    Ok(answer.u.get())
}
