//! Exceptions in ring 0. The exception table lists the instructions that may raise one, such as the IRET to the
//! guest. Any other exception is a bug of the hypervisor.

use crate::kit::atomic::{AtomicU64, Ordering};

use super::current::with_current;
use super::dump;
use super::stubs::iret_to_guest;
use crate::arch::frame::TrapFrame;
use crate::arch::{cr, cr3, exception, extable, percpu};
use crate::kit::cell::PerCpu;
use crate::kit::{MAX_CPUS, Vaddr};
use crate::pagetype::machine;
use crate::pv::bounce::{Stuck, end, inject};
use crate::pv::narrow;
use crate::pv::page_fault::{self, error};

/// What a CPU records about its last exceptions in ring 0.
struct Notes {
    /// The address of the last fault that was retried.
    retried: AtomicU64,
    /// What the IRET to the guest raised: the vector in the upper half, the error code in the lower half.
    raised: AtomicU64,
    /// CR2 of that exception.
    address: AtomicU64,
}

static NOTES: PerCpu<Notes> = PerCpu::new(
    [const {
        Notes {
            retried: AtomicU64::new(0),
            raised: AtomicU64::new(0),
            address: AtomicU64::new(0),
        }
    }; MAX_CPUS],
);

/// Handles an exception in ring 0. At an instruction of the exception table, execution continues at
/// the landing address.
#[cold]
pub fn trapped(frame: &mut TrapFrame) {
    let number = frame.vector as u8;
    if let Some(landing) = extable::lookup(frame.rip) {
        let again = number == exception::PF && {
            let address = cr::cr2();
            is_stale(frame.error, address) || ldt_is_mapped_for_return(frame, address)
        };
        if !again {
            keep(frame, cr::cr2());
            frame.rip = landing;
        }
        return;
    }
    dump::fatal(frame, "exception in the hypervisor");
}

/// Whether a fault of a guest copy came from a stale translation: the guest has made the entry more permissive since, for
/// which it need not flush. Then the copy is tried again; the fault has dropped the translation (SDM vol. 3, "Invalidation of
/// TLBs and Paging-Structure Caches"). It is tried only once in a row at an address, as the access may be forbidden by an
/// upper table, which trying again doesn't change.
fn is_stale(code: u32, address: u64) -> bool {
    let last = &NOTES.of(percpu::this_cpu()).retried;
    if last.swap(0, Ordering::Relaxed) == address {
        return false;
    }
    let entry = machine().lookup(cr3::current(), Vaddr(address));
    let permits = entry.is_some_and(|entry| {
        entry.is_present() && (code & error::WRITE == 0 || entry.is_writable())
    });
    if permits {
        last.store(address, Ordering::Relaxed);
    }
    permits
}

/// Whether the IRET to the guest faulted because it needed a page of the guest's LDT that was not mapped, and
/// that is mapped now. The IRET is then retried.
#[cold]
#[inline(never)] // needs much stack, of which other faults of ring 0 have little left
fn ldt_is_mapped_for_return(frame: &mut TrapFrame, address: u64) -> bool {
    // Elsewhere in ring 0 the vCPU's state may be in use.
    if !is_at_return(frame) {
        return false;
    }
    let code = frame.error;
    with_current(frame, |ctx| page_fault::fill_ldt(ctx, address, code)).unwrap_or(false)
}

fn is_at_return(frame: &TrapFrame) -> bool {
    frame.rip == &raw const iret_to_guest as u64
}

/// Records what the IRET to the guest raised, because it could not load the frame that the guest asked
/// for. As on Xen, the guest gets this exception at the address in that frame, once its registers are in
/// a trap frame again.
fn keep(frame: &TrapFrame, address: u64) {
    if !is_at_return(frame) {
        return;
    }
    let notes = NOTES.of(percpu::this_cpu());
    let raised = u64::from(frame.vector) << 32 | u64::from(frame.error);
    notes.raised.store(raised, Ordering::Relaxed);
    notes.address.store(address, Ordering::Relaxed);
}

/// Injects the exception that the IRET to the guest raised, or ends a domain whose handler it could not enter. `frame`
/// holds the guest's registers again. Called by the stub.
pub extern "C" fn handle_iret_fault(frame: &mut TrapFrame) {
    let notes = NOTES.of(percpu::this_cpu());
    let raised = notes.raised.load(Ordering::Relaxed);
    let address = notes.address.load(Ordering::Relaxed);
    let (number, error) = ((raised >> 32) as u8, raised as u32);
    (frame.vector, frame.error) = (u32::from(number), error);
    with_current(frame, |ctx| match number {
        _ if narrow::frame::is_unreached(ctx) => end(ctx, Stuck::BadHandler.why()),
        exception::PF => page_fault::handle(ctx, address),
        _ => inject(ctx, number),
    });
}
