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

/// Handles the arrival of an interrupt by `vector`. Returns the holders to notify once the interrupt is
/// acknowledged, or `None` if the vector is not in use.
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

/// Returns the CPU to which the scheduler assigns `vcpu`, whether it is asleep or not.
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

/// How a domain learns which of its interrupts need an EOI (PHYSDEVOP_pirq_eoi_gmfn).
#[derive(Default)]
pub struct EoiPage {
    /// The page with a bit for each interrupt, which is set if the interrupt needs an EOI. `None` until the
    /// domain registers it.
    pub page: Option<HeldPage>,
    /// PHYSDEVOP_pirq_eoi_gmfn_v1 was used: PHYSDEVOP_eoi also unmasks the interrupt's event channel.
    pub end_unmasks: bool,
}

/// Sets or clears the bit of `pirq` in the EOI page, if the domain has one.
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

/// Marks each interrupt of `dom` that needs an EOI in the EOI page, which the domain has just registered.
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
        // Fails if the domain's number was unmapped before; there is nothing left to release then.
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
