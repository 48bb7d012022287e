//! Creates a domain's vCPUs.

use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::arch::time::now_ns;
use crate::arch::{halt, work};
use crate::domain::info::{Place, VcpuInfo};
use crate::domain::notify::SCHED;
use crate::domain::{Domain, Kind, Life, Vcpu, VcpuState};
use crate::event;
use crate::kit::atomic::Ordering;
use crate::kit::{CpuSet, VcpuId};
use crate::mm::{SharedPage, heap};
use crate::pagetype::ldt_pages::LdtPages;
use crate::pv::state::State as Pv;
use crate::sched::Spec;

/// Heap bytes that the creation of a vCPU may take.
const HEAP_BYTES: u64 = 24 * 1024;

/// Why no vCPUs were created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotMade {
    /// There is no memory for a vCPU.
    NoMemory,
    /// Another CPU is creating them: ask again.
    InMaking,
    /// The domain is being destroyed.
    Dying,
}

/// Creates all vCPUs of `dom`. They are down, have no registers, and are paused as often as the domain is. A
/// second call has no effect.
///
/// # Errors
/// See [`NotMade`]. This call has created none then.
pub fn make_all(dom: &Arc<Domain>) -> Result<(), NotMade> {
    if dom.are_vcpus_in_making.swap(true, Ordering::SeqCst) {
        return Err(NotMade::InMaking);
    }
    let made = if dom.life() == Life::Alive {
        make_if_none(dom)
    } else {
        Err(NotMade::Dying)
    };
    dom.are_vcpus_in_making.store(false, Ordering::SeqCst);
    made
}

/// Creates the vCPUs unless they exist. No other CPU does so at the same time.
fn make_if_none(dom: &Arc<Domain>) -> Result<(), NotMade> {
    if dom.vcpus.get().is_some() {
        return Ok(());
    }
    let mut made: Vec<Arc<Vcpu>> = Vec::new();
    made.try_reserve_exact(dom.max_vcpus as usize)
        .map_err(|_| NotMade::NoMemory)?;
    make_ldt_windows(dom)?;
    for id in 0..dom.max_vcpus {
        // The vCPUs become visible only when all are created, so the call can't be continued later. Pending
        // interrupts are taken here instead; no lock is held.
        if id != 0 && work::preempts() {
            halt::let_interrupts_in();
        }
        let Some(vcpu) = make(dom, VcpuId(id)) else {
            // None of them has run, so nothing else refers to them.
            for vcpu in &made {
                let _ = SCHED.remove(vcpu.unit, now_ns());
            }
            return Err(NotMade::NoMemory);
        };
        made.push(vcpu);
    }
    dom.vcpus.call_once(|| made.into_boxed_slice());
    Ok(())
}

/// Makes the sets of LDT pages for all vCPUs.
fn make_ldt_windows(dom: &Domain) -> Result<(), NotMade> {
    let mut windows = Vec::new();
    windows
        .try_reserve_exact(dom.max_vcpus as usize)
        .map_err(|_| NotMade::NoMemory)?;
    let of_vcpus = (0..dom.max_vcpus).map_while(|id| dom.area.window(VcpuId(id)));
    windows.extend(of_vcpus.map(LdtPages::new));
    dom.pages.set_ldt_pages(windows.into_boxed_slice());
    Ok(())
}

fn make(dom: &Arc<Domain>, id: VcpuId) -> Option<Arc<Vcpu>> {
    if !heap::can_grow(HEAP_BYTES) {
        return None;
    }
    let state = VcpuState::new(Kind::Pv(Pv::new(dom.area.window(id)?)?))?;
    let place = first_place(dom, id)?;
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
        .ok()?;
    made
}

/// Returns the place of a vCPU's vcpu_info until the guest registers another: in shared_info for the first 32
/// vCPUs, and otherwise on a page that the guest doesn't see.
fn first_place(dom: &Domain, id: VcpuId) -> Option<Place> {
    if let Some(at) = event::in_shared_info(id) {
        return Place::new(dom.shared, at, dom.pages.width());
    }
    Place::unseen(SharedPage::new(dom.area.spare())?)
}
