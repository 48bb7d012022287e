//! Making a domain's vCPUs.

use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::arch::time::now_ns;
use crate::arch::{halt, work};
use crate::domain::info::{Place, VCPU_INFO_BYTES, VcpuInfo};
use crate::domain::notify::SCHED;
use crate::domain::{Domain, Vcpu, VcpuState};
use crate::kit::{CpuSet, VcpuId};
use crate::mm::{SharedPage, heap};
use crate::sched::Spec;

/// Heap bytes that making a vCPU may take.
const HEAP_BYTES: u64 = 24 * 1024;
/// vCPUs whose first vcpu_info is in shared_info (XEN_LEGACY_MAX_VCPUS).
const IN_SHARED_INFO: u32 = 32;

/// No memory for a vCPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoMemory;

/// Makes all vCPUs of `dom`, down, without registers, and held as often as the domain is. A second
/// call finds them made.
///
/// # Errors
/// If there is no memory; then the domain has none.
pub fn make_all(dom: &Arc<Domain>) -> Result<(), NoMemory> {
    if dom.vcpus.get().is_some() {
        return Ok(());
    }
    let mut made = Vec::new();
    made.try_reserve_exact(dom.max_vcpus as usize)
        .map_err(|_| NoMemory)?;
    for id in 0..dom.max_vcpus {
        // They are found once all are made: the call can't continue later. No lock is held here.
        if id != 0 && work::preempts() {
            halt::let_interrupts_in();
        }
        match make(dom, VcpuId(id)) {
            Ok(vcpu) => made.push(vcpu),
            Err(error) => {
                // None has run: nothing keeps them.
                for vcpu in &made {
                    let _ = SCHED.remove(vcpu.unit, now_ns());
                }
                return Err(error);
            }
        }
    }
    dom.vcpus.call_once(|| made.into_boxed_slice());
    Ok(())
}

fn make(dom: &Arc<Domain>, id: VcpuId) -> Result<Arc<Vcpu>, NoMemory> {
    if !heap::can_grow(HEAP_BYTES) {
        return Err(NoMemory);
    }
    let window = dom.area.window(id).ok_or(NoMemory)?;
    let state = VcpuState::new(window).map_err(|_| NoMemory)?;
    let place = first_place(dom, id).ok_or(NoMemory)?;
    let spec = Spec {
        share: Arc::clone(&dom.share),
        hard: CpuSet::ALL,
        soft: CpuSet::ALL,
    };
    let mut made = None;
    SCHED
        .add(spec, |unit| {
            let vcpu = Arc::new(Vcpu::new(id, dom, unit, VcpuInfo::new(place), state));
            made = Some(Arc::clone(&vcpu));
            vcpu
        })
        .map_err(|_| NoMemory)?;
    made.ok_or(NoMemory)
}

/// Where its vcpu_info is until the guest registers a place: in shared_info, if it is one of the
/// first 32, else where the guest sees it nowhere.
fn first_place(dom: &Domain, id: VcpuId) -> Option<Place> {
    if id.0 < IN_SHARED_INFO {
        return Place::new(dom.shared, (id.0 as usize).wrapping_mul(VCPU_INFO_BYTES));
    }
    Place::unseen(SharedPage::new(dom.area.spare())?)
}
