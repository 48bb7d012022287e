//! physinfo, availheap, numainfo and pcitopoinfo: totals of memory and CPUs. There is one NUMA node.

use guest_pv_abi::errno::{self, Errno};
use guest_pv_abi::physdev::PhysdevPciDevice;
use guest_pv_abi::sysctl::{
    self as abi, AvailHeap, MemInfo, NumaInfo, PciTopoInfo, PhysInfo, Sysctl, XEN_INVALID_DEV,
};

use super::{Answer, Back};
use crate::arch::time;
use crate::domain::notify::SCHED;
use crate::grant::{self, Version};
use crate::irq::{Function, machine::book};
use crate::kit::{PAGE_SIZE, Vaddr};
use crate::mm::alloc;
use crate::mm::guest::Guest;

/// The number of the only NUMA node.
const NODE: u32 = 0;
/// The distance of a node to itself, as in ACPI's SLIT.
const LOCAL_DISTANCE: u32 = 10;

/// Maximum number of PCI functions of one pcitopoinfo call.
const MAX_AT_ONCE: u32 = 1024;

/// Number of CPUs, online or not.
pub(super) fn cpu_count() -> u32 {
    SCHED.present().count()
}

/// XEN_SYSCTL_physinfo: returns the machine's CPUs, memory in pages, and capabilities.
pub fn physinfo(op: &mut Sysctl) -> Answer {
    let cpus = cpu_count();
    let mut hw_cap = [0; 8];
    for (to, from) in hw_cap.iter_mut().zip(super::policy::host_features()) {
        *to = from;
    }
    op.u.set(&PhysInfo {
        threads_per_core: 1,
        cores_per_socket: cpus,
        nr_cpus: SCHED.online().count(),
        max_cpu_id: cpus.saturating_sub(1),
        nr_nodes: 1,
        max_node_id: NODE,
        cpu_khz: time::tsc_scale().khz as u32,
        capabilities: abi::XEN_SYSCTL_PHYSCAP_PV | grant_versions(),
        arch_capabilities: 0,
        pad: 0,
        total_pages: alloc::total_frames(),
        free_pages: alloc::free_frames(),
        scrub_pages: alloc::dirty_frames(),
        outstanding_pages: crate::pagetype::claims::claimed(),
        max_mfn: alloc::end_of_ram().0.saturating_sub(1),
        hw_cap,
    });
    Ok(Back::Write)
}

/// The grant table versions that domains may use, as capability bits.
fn grant_versions() -> u32 {
    let newer = match grant::offer().version {
        Version::V1 => 0,
        Version::V2 => abi::XEN_SYSCTL_PHYSCAP_GNTTAB_V2,
    };
    abi::XEN_SYSCTL_PHYSCAP_GNTTAB_V1 | newer
}

/// XEN_SYSCTL_availheap: returns the number of free bytes on a node.
pub fn availheap(op: &mut Sysctl) -> Answer {
    let mut body = op.u.get::<AvailHeap>();
    let here = body.node < 0 || body.node == NODE as i32;
    let frames = if here { alloc::free_frames() } else { 0 };
    body.avail_bytes = frames.saturating_mul(PAGE_SIZE as u64);
    op.u.set(&body);
    Ok(Back::Write)
}

/// XEN_SYSCTL_numainfo: returns the memory and the distance of the only node.
pub fn numainfo(guest: Guest<'_>, op: &mut Sysctl) -> Answer {
    let mut body = op.u.get::<NumaInfo>();
    let asks_for_count = body.meminfo.is_null() && body.distance.is_null();
    if !asks_for_count && body.num_nodes > 0 {
        fill_node(guest, &body)?;
    }
    body.num_nodes = 1;
    op.u.set(&body);
    Ok(Back::Write)
}

fn fill_node(guest: Guest<'_>, body: &NumaInfo) -> Result<(), Errno> {
    let bytes = |frames: u64| frames.saturating_mul(PAGE_SIZE as u64);
    if !body.meminfo.is_null() {
        let info = MemInfo {
            memsize: bytes(alloc::total_frames()),
            memfree: bytes(alloc::free_frames()),
        };
        guest.write(Vaddr(body.meminfo.0), &info)?;
    }
    if !body.distance.is_null() {
        guest.write(Vaddr(body.distance.0), &LOCAL_DISTANCE)?;
    }
    Ok(())
}

/// XEN_SYSCTL_pcitopoinfo: returns the node of each PCI function that domain 0 has registered.
pub fn pcitopoinfo(guest: Guest<'_>, op: &mut Sysctl) -> Answer {
    let mut body = op.u.get::<PciTopoInfo>();
    if body.devs.is_null() || body.nodes.is_null() {
        return Err(errno::EINVAL);
    }
    // The caller asks for further functions with another call.
    body.num_devs = body.num_devs.min(MAX_AT_ONCE);
    for n in 0..u64::from(body.num_devs) {
        let asked: PhysdevPciDevice = guest.read_at(Vaddr(body.devs.0), n)?;
        let node = if is_known(&asked) {
            NODE
        } else {
            XEN_INVALID_DEV
        };
        guest.write_at(Vaddr(body.nodes.0), n, &node)?;
    }
    op.u.set(&body);
    Ok(Back::Write)
}

fn is_known(asked: &PhysdevPciDevice) -> bool {
    let function = Function {
        bus: asked.bus,
        devfn: asked.devfn,
    };
    asked.seg == 0 && book().is_some_and(|book| book.has(function))
}
