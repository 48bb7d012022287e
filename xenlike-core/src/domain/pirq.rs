//! Physical interrupts of a domain: the events that they become, and the page in which the domain reads which of them need
//! an EOI.

use crate::kit::atomic::Ordering;

use super::notify::{self, SCHED};
use super::page::HeldPage;
use super::{Domain, registry};
use crate::arch::percpu;
use crate::event::StatusKind;
use crate::irq::hold::End;
use crate::irq::line::{Holder, Told};
use crate::irq::machine::{Hardware, book};
use crate::irq::{Book, IrqError};
use crate::kit::lock::LockGuard;
use crate::kit::{CpuId, Port, VcpuId};

/// The book of the machine's interrupts, for a call by `dom`. A domain that was never given an interrupt has no entry in it
/// and doesn't take its lock, which all domains share.
pub fn book_of(dom: &Domain) -> Option<LockGuard<'static, Book<Hardware>>> {
    let concerned = dom.is_control() || dom.has_interrupts.load(Ordering::Acquire);
    concerned.then(book)?
}

/// Handles an interrupt with `vector`. Returns the domains to notify once it is acknowledged; none if it has no handler.
pub fn arrived(vector: u8) -> Option<Told> {
    book()?.arrived(vector)
}

/// Notifies the domains that handle an interrupt. If it is only one, the next interrupt goes to the CPU of its vCPU.
pub fn tell(told: &Told) {
    for holder in told {
        if let Some(dom) = registry::lookup(holder.dom) {
            notify::act_in(&dom, dom.events.send_pirq(holder.port, holder.pirq));
            if told.len() == 1 {
                keep_near(&dom, holder);
            }
        }
    }
}

/// The CPU on which the scheduler has `vcpu`, asleep or not.
fn home(dom: &Domain, vcpu: VcpuId) -> Option<CpuId> {
    SCHED.home(dom.vcpu(vcpu)?.unit)
}

/// Moves an interrupt of `holder`, which arrived here, to the CPU of its vCPU if that is another one.
fn keep_near(dom: &Domain, holder: &Holder) {
    let Ok(status) = dom.events.status(holder.port) else {
        return;
    };
    let home = home(dom, status.vcpu).filter(|&home| home != percpu::this_cpu());
    if let Some(cpu) = home
        && let Some(mut book) = book()
    {
        book.move_to(dom.id(), holder.pirq, cpu);
    }
}

/// How a domain learns which of its interrupts it has to end (PHYSDEVOP_pirq_eoi_gmfn).
#[derive(Default)]
pub struct EoiPage {
    /// The page in which a bit says so for each interrupt, once the domain has named one.
    pub page: Option<HeldPage>,
    /// It was named by the call's first form: ending an interrupt also unmasks its port.
    pub end_unmasks: bool,
}

/// Sets or clears the bit of `pirq` in the domain's page, if there is one.
fn mark(eoi: &EoiPage, pirq: u32, end: End) {
    let word = usize::try_from(pirq / 64).unwrap_or(usize::MAX);
    let page = eoi.page.as_ref().map(|page| page.page());
    let Some(page) = page else { return };
    let Some(word) = page.u64(word.saturating_mul(8)) else {
        return;
    };
    let bit = 1_u64 << (pirq % 64);
    match end {
        End::Wanted => word.fetch_or(bit, Ordering::AcqRel),
        End::Free => word.fetch_and(!bit, Ordering::AcqRel),
    };
}

/// Marks all interrupts of `dom` that it has to end, in the page that it just gave.
pub fn mark_all(dom: &Domain, eoi: &EoiPage) {
    let Some(mut book) = book_of(dom) else { return };
    let numbers: alloc::vec::Vec<u32> = book
        .maps()
        .iter()
        .filter(|map| map.dom == dom.id())
        .map(|map| map.pirq)
        .collect();
    for pirq in numbers {
        if let Ok((end, _)) = book.duties(dom.id(), pirq) {
            mark(eoi, pirq, end);
        }
    }
}

/// Makes `dom` handle `pirq`, with events on `port`.
///
/// # Errors
/// See [`crate::irq::Book::hold`].
pub fn bind(dom: &Domain, pirq: u32, port: Port, shares: bool) -> Result<(), IrqError> {
    let holder = Holder {
        dom: dom.id(),
        pirq,
        port,
        shares,
        owes_end: false,
    };
    let cpu = home(dom, VcpuId(0)).unwrap_or(CpuId(0));
    let mut book = book_of(dom).ok_or(IrqError::BadNumber)?;
    let end = book.hold(holder, cpu)?;
    drop(book);
    mark(&dom.eoi.lock(), pirq, end);
    Ok(())
}

/// Handles that the port of `dom` for `pirq` is closed.
pub fn unbound(dom: &Domain, pirq: u32) {
    if let Some(mut book) = book() {
        // It may have lost the interrupt before.
        let _ = book.let_go(dom.id(), pirq);
    }
}

/// Handles the EOI of `dom` for `pirq`.
///
/// # Errors
/// The domain has no interrupt of that number.
pub fn end(dom: &Domain, pirq: u32) -> Result<(), IrqError> {
    book_of(dom).ok_or(IrqError::BadNumber)?.end(dom.id(), pirq)
}

/// Handles that `port` is bound to another vCPU now: if it is an interrupt's, the interrupt is moved to its CPU.
pub fn follow(dom: &Domain, port: Port, vcpu: VcpuId) {
    let Ok(status) = dom.events.status(port) else {
        return;
    };
    if let (StatusKind::Pirq(pirq), Some(cpu)) = (status.kind, home(dom, vcpu))
        && let Some(mut book) = book()
    {
        book.move_to(dom.id(), pirq, cpu);
    }
}
