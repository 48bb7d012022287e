//! Information on a domain and its vCPUs.

use guest_pv_abi::arch_x86::{ArchDomainConfig, XEN_X86_EMU_PIT};
use guest_pv_abi::domctl::{self as abi, Domctl, GetDomainInfo, GetVcpuInfo};
use guest_pv_abi::errno;

use super::{Answer, Answered};
use crate::cpuid;
use crate::domain::notify::SCHED;
use crate::domain::runstate::Activity;
use crate::domain::vcpu::pause;
use crate::domain::{Domain, Life, Rights, registry};
use crate::kit::DomId;
use crate::kit::VcpuId;
use crate::kit::atomic::Ordering;
use crate::life::pausing;

/// The lowest domain id that is `id` or above; `id` itself if there is none.
pub fn next_from(id: u16) -> u16 {
    let ids = registry::from(DomId(id)).into_iter().map(|dom| dom.id().0);
    ids.min().unwrap_or(id)
}

/// XEN_DOMCTL_getdomaininfo: returns one domain's state, memory and CPU time.
pub fn getdomaininfo(dom: &Domain, op: &mut Domctl) -> Answered {
    let info = info_of(dom);
    op.u.set(&info);
    op.domain = info.domain;
    Ok(Answer::Write)
}

/// The structure of a domain that getdomaininfo and getdomaininfolist return.
pub fn info_of(dom: &Domain) -> GetDomainInfo {
    let mut cpu_time = 0_u64;
    let (mut online, mut running, mut blocked) = (0_u32, 0_u32, 0_u32);
    for vcpu in dom.vcpus() {
        let state = vcpu.runstate.lock().settled(crate::arch::time::now_ns());
        cpu_time = cpu_time.saturating_add(state.ran_ns());
        if !vcpu.is_up() {
            continue;
        }
        online = online.saturating_add(1);
        if vcpu.gate.holds() & pause::SLEEPS != 0 {
            blocked = blocked.saturating_add(1);
        }
        if state.activity == Activity::Running {
            running = running.saturating_add(1);
        }
    }
    GetDomainInfo {
        domain: dom.id().0,
        pad1: 0,
        flags: lifecycle_flags(dom)
            | when(blocked == online, abi::XEN_DOMINF_BLOCKED)
            | when(running > 0, abi::XEN_DOMINF_RUNNING)
            | when(
                dom.is_debugged.load(Ordering::Relaxed),
                abi::XEN_DOMINF_DEBUGGED,
            )
            | when(dom.is_xenstore, abi::XEN_DOMINF_XS_DOMAIN),
        tot_pages: dom.pages.total(),
        max_pages: dom.pages.max(),
        outstanding_pages: dom.pages.claim_left(),
        shr_pages: 0,
        paged_pages: 0,
        shared_info_frame: dom.shared.mfn().0,
        cpu_time,
        nr_online_vcpus: online,
        max_vcpu_id: match dom.vcpus().len().checked_sub(1) {
            Some(last) => last as u32,
            None => abi::XEN_INVALID_MAX_VCPU_ID,
        },
        ssidref: 0,
        handle: *dom.handle.lock(),
        cpupool: dom.share.pool(),
        gpaddr_bits: cpuid::machine().host.physical_bits() as u8,
        pad2: [0; 7],
        arch_config: ArchDomainConfig {
            emulation_flags: when(dom.rights() == Rights::Control, XEN_X86_EMU_PIT),
            misc_flags: dom.misc_flags,
        },
    }
}

fn when(condition: bool, flag: u32) -> u32 {
    if condition { flag } else { 0 }
}

/// The flags for dying, shut down and paused, and the shutdown reason. Without a reason, the reason's field and all
/// bits above it are ones, as in Xen.
fn lifecycle_flags(dom: &Domain) -> u32 {
    let shutdown = *dom.shutdown.lock();
    let why = shutdown.code.map(u32::from).or(shutdown.reason);
    when(dom.life() == Life::Dead, abi::XEN_DOMINF_DYING)
        | when(shutdown.reason.is_some(), abi::XEN_DOMINF_SHUTDOWN)
        | when(pausing::is_toolstack_paused(dom), abi::XEN_DOMINF_PAUSED)
        | why.unwrap_or(u32::MAX) << abi::XEN_DOMINF_SHUTDOWNSHIFT
}

/// XEN_DOMCTL_getvcpuinfo: returns a vCPU's state, CPU and CPU time.
pub fn getvcpuinfo(dom: &Domain, op: &mut Domctl) -> Answered {
    let mut body = op.u.get::<GetVcpuInfo>();
    if body.vcpu >= dom.max_vcpus {
        return Err(errno::EINVAL);
    }
    let vcpu = dom.vcpu(VcpuId(body.vcpu)).ok_or(errno::ESRCH)?;
    let state = vcpu.runstate.lock().settled(crate::arch::time::now_ns());
    let flags = vcpu.gate.holds();
    body.online = u8::from(vcpu.is_up());
    body.blocked = u8::from(flags & pause::SLEEPS != 0);
    body.running = u8::from(state.activity == Activity::Running);
    body.cpu_time = state.ran_ns();
    body.cpu = SCHED.home(vcpu.unit).map_or(0, |cpu| cpu.0);
    op.u.set(&body);
    Ok(Answer::Write)
}
