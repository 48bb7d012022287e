//! NMIs of a vCPU: delivered by entry 2 of the trap table, or as nmi_op and callback_op set it;
//! lost without a handler.

use core::sync::atomic::{AtomicU64, Ordering};

use xenlike_rt::abi::callback::{
    CALLBACKOP_REGISTER, CALLBACKOP_UNREGISTER, CALLBACKTYPE_NMI, CallbackRegister,
    CallbackUnregister,
};
use xenlike_rt::abi::nmi::{NmiCallback, XENNMI_REGISTER_CALLBACK, XENNMI_UNREGISTER_CALLBACK};
use xenlike_rt::abi::vcpu::VCPUOP_SEND_NMI;
use xenlike_rt::abi::xen::VIRQ_TIMER;
use xenlike_rt::abi::{Long, errno, hypercall as nr};
use xenlike_rt::{events, hyper, smp, time, traps};

use crate::width::nmi_handler;
use crate::{address_of, call, check};

const VECTOR: u8 = 2;
const PATIENCE_NS: u64 = 5 * time::SECOND_NS;

/// Number of entries into the handler, its present nesting, and its deepest nesting.
static TAKEN: AtomicU64 = AtomicU64::new(0);
static DEPTH: AtomicU64 = AtomicU64::new(0);
static DEEPEST: AtomicU64 = AtomicU64::new(0);

fn send(vcpu: u32) {
    let sent = call(nr::VCPU_OP, [VCPUOP_SEND_NMI.into(), vcpu.into(), 0, 0, 0]);
    assert!(sent.is_ok(), "send_nmi: {sent:?}");
}

/// The first NMI sends two more, which arrive as one, after its iret.
fn handler(_frame: &mut traps::TrapFrame) {
    let depth = DEPTH.fetch_add(1, Ordering::SeqCst) + 1;
    DEEPEST.fetch_max(depth, Ordering::SeqCst);
    if TAKEN.fetch_add(1, Ordering::SeqCst) == 0 {
        send(0);
        hyper::yield_now();
        send(0);
    }
    DEPTH.fetch_sub(1, Ordering::SeqCst);
}

fn taken() -> u64 {
    TAKEN.load(Ordering::SeqCst)
}

/// Without a handler an NMI is lost, and the vCPU can sleep.
fn lost_one_does_not_spin() -> bool {
    let port = events::bind_virq(VIRQ_TIMER, 0).expect("the timer");
    events::on(port, |_| {});
    send(0);
    let before = time::now_ns();
    for _ in 0..2 {
        let _ = hyper::set_timer(time::now_ns() + time::SECOND_NS / 10);
        hyper::block();
    }
    let _ = events::close(port);
    events::close_upcalls();
    time::now_ns() - before > time::SECOND_NS / 20
}

fn nmi_op(command: u32, address: Long) -> bool {
    let callback = NmiCallback {
        handler_address: address,
        ..NmiCallback::default()
    };
    let at = address_of(&callback);
    call(nr::NMI_OP, [command.into(), at, 0, 0, 0]) == Ok(0)
}

fn other_vcpu(_number: u32) {
    let handler = traps::table()[usize::from(VECTOR)].address;
    let callback = nmi_op(XENNMI_REGISTER_CALLBACK, handler);
    check("nmi_op answers other vCPUs, too", callback);
    let before = taken();
    send(1);
    check("they take theirs", taken() == before + 1);
}

pub fn run() {
    traps::on(VECTOR, handler);
    let argument = hyper::vcpu_op(VCPUOP_SEND_NMI, 0, &mut 0_u64);
    check("send_nmi takes no argument", argument == Err(errno::EINVAL));
    send(0);
    check("an NMI reaches the handler of set_trap_table", taken() > 0);
    check("another comes behind the iret", taken() == 2);
    check("not before", DEEPEST.load(Ordering::SeqCst) == 1);
    let unregistered = nmi_op(XENNMI_UNREGISTER_CALLBACK, 0);
    check("nmi_op takes the handler away", unregistered);
    check(
        "an NMI is lost then",
        lost_one_does_not_spin() && taken() == 2,
    );
    let mut request = CallbackRegister {
        type_: CALLBACKTYPE_NMI as u16,
        address: nmi_handler(traps::table()[usize::from(VECTOR)].address),
        ..CallbackRegister::default()
    };
    let registered = hyper::callback_op(CALLBACKOP_REGISTER, &mut request);
    check("callback_op brings it back", registered == Ok(0));
    send(0);
    check("an NMI reaches it", taken() == 3);
    if smp::vcpus() > 1 && smp::start(1, other_vcpu).is_ok() {
        let came = time::wait_for(PATIENCE_NS, || taken() == 4);
        check("the other vCPU is done", came);
    }
    let mut request = CallbackUnregister {
        type_: CALLBACKTYPE_NMI as u16,
        ..CallbackUnregister::default()
    };
    let unregistered = hyper::callback_op(CALLBACKOP_UNREGISTER, &mut request);
    check("callback_op takes it away", unregistered == Ok(0));
}
