//! Event channels with the 2-level ABI: ports, their handlers, waiting.

#![expect(unsafe_code, reason = "shares bitmaps with the hypervisor")]

use core::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

use guest_pv_abi::event_channel::{
    EVTCHNOP_ALLOC_UNBOUND, EVTCHNOP_BIND_INTERDOMAIN, EVTCHNOP_BIND_IPI, EVTCHNOP_BIND_VCPU,
    EVTCHNOP_BIND_VIRQ, EVTCHNOP_CLOSE, EVTCHNOP_SEND, EVTCHNOP_STATUS, EVTCHNOP_UNMASK,
    EvtchnAllocUnbound, EvtchnBindInterdomain, EvtchnBindIpi, EvtchnBindVcpu, EvtchnBindVirq,
    EvtchnClose, EvtchnSend, EvtchnStatus, EvtchnUnmask,
};
use guest_pv_abi::sched::{SCHEDOP_POLL, SchedPoll};
use guest_pv_abi::xen::DOMID_SELF;
use guest_pv_abi::{Errno, GuestHandle, Long};

use crate::hyper::event_channel_op;
use crate::{cpu, hyper, info};

/// The number of a port of this domain.
pub type Port = u32;

/// A port's handler. It runs on the vCPU that took the upcall, with upcalls masked.
pub type Handler = fn(Port);

/// Number of ports in the 2-level ABI.
const PORTS: usize = (WORD_BITS * WORD_BITS) as usize;

/// Bits of a word of the shared bitmaps, an `unsigned long`.
const WORD_BITS: u32 = usize::BITS;

static HANDLERS: [AtomicUsize; PORTS] = [const { AtomicUsize::new(0) }; PORTS];

/// The vCPU that each port signals. All vCPUs share the pending words, so each takes only its own ports.
static VCPUS: [AtomicU8; PORTS] = [const { AtomicU8::new(0) }; PORTS];

/// A word of one of the shared bitmaps.
fn word(bitmap: &'static [Long], index: usize) -> &'static AtomicUsize {
    // SAFETY: an aligned word of the shared info page, which stays mapped; the hypervisor also changes
    // it with atomic instructions.
    unsafe { AtomicUsize::from_ptr(core::ptr::from_ref(&bitmap[index]).cast_mut().cast()) }
}

fn pending(port: Port) -> (&'static AtomicUsize, usize) {
    let word = word(
        &info::shared_info().evtchn_pending,
        (port / WORD_BITS) as usize,
    );
    (word, 1 << (port % WORD_BITS))
}

fn masked(port: Port) -> (&'static AtomicUsize, usize) {
    let word = word(
        &info::shared_info().evtchn_mask,
        (port / WORD_BITS) as usize,
    );
    (word, 1 << (port % WORD_BITS))
}

/// The upcall: calls the handler of each pending, unmasked port. A port without a handler is masked
/// and stays pending, for [`take`] or [`wait`].
pub(crate) fn upcall() {
    let info = cpu::vcpu_info();
    // SAFETY: the vCPU's own part of the shared info page.
    let (pending_flag, selector) = unsafe {
        let flag = &raw mut (*info).evtchn_upcall_pending;
        (
            flag,
            AtomicUsize::from_ptr((&raw mut (*info).evtchn_pending_sel).cast()),
        )
    };
    // The flag is cleared before the selector is taken: an event that arrives after that sets the flag again,
    // and so causes another upcall.
    loop {
        // SAFETY: as above.
        unsafe { pending_flag.write_volatile(0) };
        let mut words = selector.swap(0, Ordering::AcqRel);
        if words == 0 {
            return;
        }
        while words != 0 {
            handle_word(words.trailing_zeros());
            words &= words - 1;
        }
    }
}

fn handle_word(index: u32) {
    let first = index * WORD_BITS;
    let mask = masked(first).0;
    let word = pending(first).0;
    let mut seen = 0usize;
    loop {
        let ready = word.load(Ordering::Acquire) & !mask.load(Ordering::Acquire) & !seen;
        if ready == 0 {
            return;
        }
        let bit = ready.trailing_zeros();
        let port = first + bit;
        if VCPUS[port as usize].load(Ordering::Relaxed) != cpu::number() as u8 {
            // The bit stays set for the vCPU that the port signals.
            seen |= 1 << bit;
            continue;
        }
        match HANDLERS[port as usize].load(Ordering::Acquire) {
            0 => mask_port(port),
            address => {
                // Cleared before the handler runs, so that a signal during the handler isn't lost.
                take(port);
                // SAFETY: `on` stores only handlers.
                let handler = unsafe { core::mem::transmute::<usize, Handler>(address) };
                handler(port);
            }
        }
    }
}

/// Sets a port's handler and unmasks it.
///
/// # Panics
/// If `port` is above the ABI's last one (4095, or 1023 for a 32-bit guest).
pub fn on(port: Port, handler: Handler) {
    HANDLERS[port as usize].store(handler as usize, Ordering::Release);
    unmask_port(port);
}

/// Forgets all handlers and vCPUs of ports: a restored domain has none of its old ports.
pub(crate) fn forget_ports() {
    for (handler, vcpu) in HANDLERS.iter().zip(&VCPUS) {
        handler.store(0, Ordering::Relaxed);
        vcpu.store(0, Ordering::Relaxed);
    }
}

/// Unmasks upcalls on this vCPU. They are masked when it starts.
pub fn open() {
    cpu::unmask_events();
}

/// Masks upcalls on this vCPU; returns whether they were unmasked.
pub fn close_upcalls() -> bool {
    cpu::mask_events()
}

/// Masks a port, so that it causes no upcalls.
pub fn mask_port(port: Port) {
    let (word, bit) = masked(port);
    word.fetch_or(bit, Ordering::AcqRel);
}

/// Unmasks a port. If it is already pending, this causes an upcall.
pub fn unmask_port(port: Port) {
    let _ = event_channel_op(EVTCHNOP_UNMASK, &mut EvtchnUnmask { port });
}

/// Whether a port is pending.
#[must_use]
pub fn is_pending(port: Port) -> bool {
    let (word, bit) = pending(port);
    word.load(Ordering::Acquire) & bit != 0
}

/// Clears a port's pending bit; returns whether it was set.
pub fn take(port: Port) -> bool {
    let (word, bit) = pending(port);
    word.fetch_and(!bit, Ordering::AcqRel) & bit != 0
}

/// Sleeps until one of at most 128 ports is pending, masked or not, or until system time
/// `until_ns` (0: no timeout).
///
/// # Errors
/// The errno that the hypervisor returned.
pub fn wait(ports: &[Port], until_ns: u64) -> Result<(), Errno> {
    let mut poll = SchedPoll {
        ports: GuestHandle::of(ports),
        nr_ports: ports.len() as u32,
        timeout: until_ns,
        ..SchedPoll::default()
    };
    hyper::sched_op(SCHEDOP_POLL, &mut poll)?;
    Ok(())
}

/// Signals the other end of a channel (`EVTCHNOP_send`).
///
/// # Errors
/// The errno that the hypervisor returned.
pub fn send(port: Port) -> Result<(), Errno> {
    event_channel_op(EVTCHNOP_SEND, &mut EvtchnSend { port })?;
    Ok(())
}

/// Closes a port and removes its handler.
///
/// # Errors
/// The errno that the hypervisor returned.
pub fn close(port: Port) -> Result<(), Errno> {
    event_channel_op(EVTCHNOP_CLOSE, &mut EvtchnClose { port })?;
    if let Some(slot) = HANDLERS.get(port as usize) {
        slot.store(0, Ordering::Release);
    }
    note_vcpu(port, 0);
    Ok(())
}

/// Allocates a port to which domain `remote` may bind.
///
/// # Errors
/// The errno that the hypervisor returned.
pub fn alloc_unbound(remote: u16) -> Result<Port, Errno> {
    let mut argument = EvtchnAllocUnbound {
        dom: DOMID_SELF,
        remote_dom: remote,
        ..EvtchnAllocUnbound::default()
    };
    event_channel_op(EVTCHNOP_ALLOC_UNBOUND, &mut argument)?;
    Ok(argument.port)
}

/// Allocates a port connected to an unbound port of another domain.
///
/// # Errors
/// The errno that the hypervisor returned.
pub fn bind_interdomain(remote: u16, remote_port: Port) -> Result<Port, Errno> {
    let mut argument = EvtchnBindInterdomain {
        remote_dom: remote,
        remote_port,
        ..EvtchnBindInterdomain::default()
    };
    event_channel_op(EVTCHNOP_BIND_INTERDOMAIN, &mut argument)?;
    Ok(argument.local_port)
}

/// Allocates a port for a virtual interrupt (`VIRQ_*`) of a vCPU.
///
/// # Errors
/// The errno that the hypervisor returned.
pub fn bind_virq(virq: u32, vcpu: u32) -> Result<Port, Errno> {
    let mut argument = EvtchnBindVirq {
        virq,
        vcpu,
        port: 0,
    };
    event_channel_op(EVTCHNOP_BIND_VIRQ, &mut argument)?;
    note_vcpu(argument.port, vcpu);
    Ok(argument.port)
}

/// Allocates a port by which any vCPU of this domain can signal `vcpu`.
///
/// # Errors
/// The errno that the hypervisor returned.
pub fn bind_ipi(vcpu: u32) -> Result<Port, Errno> {
    let mut argument = EvtchnBindIpi { vcpu, port: 0 };
    event_channel_op(EVTCHNOP_BIND_IPI, &mut argument)?;
    note_vcpu(argument.port, vcpu);
    Ok(argument.port)
}

/// Makes a port signal `vcpu` instead of the vCPU that it signalled before.
///
/// # Errors
/// The errno that the hypervisor returned.
pub fn bind_vcpu(port: Port, vcpu: u32) -> Result<(), Errno> {
    event_channel_op(EVTCHNOP_BIND_VCPU, &mut EvtchnBindVcpu { port, vcpu })?;
    note_vcpu(port, vcpu);
    Ok(())
}

fn note_vcpu(port: Port, vcpu: u32) {
    if let Some(slot) = VCPUS.get(port as usize) {
        slot.store(vcpu as u8, Ordering::Relaxed);
    }
}

/// This domain's id. A PV guest isn't told its id, but the hypervisor reports it as the remote end of
/// a port that the domain opens to itself.
///
/// # Errors
/// The errno that the hypervisor returned.
pub fn own_domain() -> Result<u16, Errno> {
    let port = alloc_unbound(DOMID_SELF)?;
    let mut status = EvtchnStatus {
        dom: DOMID_SELF,
        port,
        ..EvtchnStatus::default()
    };
    let answer = event_channel_op(EVTCHNOP_STATUS, &mut status);
    close(port)?;
    answer?;
    Ok(status.u[0] as u16)
}
