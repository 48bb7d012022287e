//! Holders of frame references other than page tables, page lists and the frames' own flags.

use alloc::format;
use alloc::string::String;

use super::stopped::Stopped;
use crate::domain::page::HeldPage;
use crate::domain::{Domain, Life, Vcpu, VcpuState};
use crate::grant::Access;
use crate::grant::audit::Use;
use crate::kit::atomic::Ordering;
use crate::mm::SharedPage;
use crate::pagetype::audit::Tally;
use crate::pagetype::window::{GDT_OWN_PAGE, LDT_FIRST_PAGE, LDT_PAGES};
use crate::pagetype::{GuestRoot, PageType, Pte, machine};
use crate::pv::state::monitor::Monitor;

/// Counts the references that grant handles hold.
pub(super) fn count_uses(tally: &mut Tally, uses: &[Use<HeldPage>]) -> Result<(), String> {
    for u in uses {
        match u.access {
            Access::Read => tally.count_ref(u.mfn),
            Access::Write => {
                let holder = format_args!("a grant handle of domain {}", u.mapper.0);
                machine().count_held(tally, u.mfn, PageType::Writable, holder)?;
            }
        }
    }
    Ok(())
}

/// Counts the references that a domain's other parts hold.
pub(super) fn count(tally: &mut Tally, dom: &Domain, stopped: &Stopped) -> Result<(), String> {
    let id = dom.id().0;
    if dom.life() != Life::Dead {
        let holder = format_args!("the shared_info of domain {id}");
        machine().count_held(tally, dom.shared.mfn(), PageType::Writable, holder)?;
    }
    let mut page = |page: &HeldPage| {
        if !page.is_counted() {
            return Ok(());
        }
        let holder = format_args!("a page that domain {id} shares with the hypervisor");
        machine().count_held(tally, page.page().mfn(), PageType::Writable, holder)
    };
    dom.grants.for_each_page(&mut page)?;
    dom.events.for_each_page(&mut page)?;
    dom.eoi.lock().page.as_ref().map_or(Ok(()), page)?;
    for vcpu in dom.vcpus() {
        count_vcpu(tally, dom, vcpu, stopped.state(vcpu))?;
    }
    Ok(())
}

/// Counts the references of a vCPU: its roots and its descriptor tables.
fn count_vcpu(tally: &mut Tally, dom: &Domain, vcpu: &Vcpu, st: &VcpuState) -> Result<(), String> {
    let who = format!("vCPU {} of domain {}", vcpu.id.0, dom.id().0);
    let pv = st.pv();
    for root in [&pv.kernel_root, &pv.user_root].into_iter().flatten() {
        machine().count_held(
            tally,
            root.mfn(),
            root.ty(),
            format_args!("{who}, as its root"),
        )?;
    }
    let shown = pv.monitor.as_ref().and_then(Monitor::shown);
    let root = pv.kernel_root.as_ref().map(GuestRoot::mfn);
    if vcpu.cpu().is_some() && shown.is_some() && shown != root {
        return Err(format!(
            "{who}: its root is {root:?}, its monitor has {shown:?}"
        ));
    }
    let window = SharedPage::new(pv.window.l1).ok_or("a window without a table")?;
    let entry = |page: usize| {
        let at = pv.window.first.saturating_add(page).saturating_mul(8);
        let word = window
            .u64(at)
            .map_or(0, |word| word.load(Ordering::Relaxed));
        Some(Pte(word)).filter(|pte| pte.is_present()).map(Pte::mfn)
    };
    for (page, frame) in pv.gdt.frames.iter().enumerate() {
        if entry(page) != *frame {
            return Err(format!(
                "{who}: page {page} of its GDT is {frame:?}, mapped is {:?}",
                entry(page)
            ));
        }
    }
    let gdt = (0..GDT_OWN_PAGE).filter_map(entry);
    let ldt = (LDT_FIRST_PAGE..LDT_FIRST_PAGE.saturating_add(LDT_PAGES)).filter_map(entry);
    for mfn in gdt.chain(ldt) {
        let holder = format_args!("{who}, for its descriptors");
        machine().count_held(tally, mfn, PageType::SegDesc, holder)?;
    }
    Ok(())
}
