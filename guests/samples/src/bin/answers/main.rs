//! Claim: small kernels of other projects, which test a hypervisor as domain 0, get the same answers as from real
//! Xen. This guest resembles such a kernel: its note asks for a hypercall page, and not for a place of its P2M list.

#![no_std]
#![no_main]
#![expect(unsafe_code, reason = "does what a kernel's test does")]

mod breakpoints;
mod control;
mod cpu;
mod grants;
mod grants2;
#[cfg(target_pointer_width = "32")]
mod narrow;
#[cfg(target_pointer_width = "32")]
use narrow as width;
mod nmi;
mod process;
mod tracing;
#[cfg(target_pointer_width = "64")]
mod wide;
#[cfg(target_pointer_width = "64")]
use wide as width;

use core::arch::{asm, global_asm};
use core::sync::atomic::{AtomicU64, Ordering};

use xenlike_rt::abi::GuestHandle;
use xenlike_rt::abi::errno::{self, Errno};
use xenlike_rt::abi::hvm_params::{HVMOP_GET_TIME, HVMOP_SET_PARAM};
use xenlike_rt::abi::hypercall as nr;
use xenlike_rt::abi::sched::{SCHEDOP_POLL, SCHEDOP_WATCHDOG, SchedPoll, SchedWatchdog};
use xenlike_rt::traps::Caught;
use xenlike_rt::{from_long, hyper, println};

xenlike_rt::entry!(main);

/// Size of an entry of the hypercall page, in bytes.
const ENTRY_BYTES: u64 = 32;

// The page that the builder fills. Its note, whose value is an address, is in `width`.
global_asm!(
    r#"
    .pushsection .text.pages, "ax", @progbits
    .balign 4096
    .global hypercall_page
    hypercall_page:
        .fill 4096, 1, 0xcc
    .popsection
    "#
);

unsafe extern "C" {
    safe static hypercall_page: u8;
}

static FAILED: AtomicU64 = AtomicU64::new(0);

fn check(what: &str, so: bool) {
    if !so {
        FAILED.fetch_add(1, Ordering::Relaxed);
    }
    println!("{} {what}", if so { "ok" } else { "NOT" });
}

fn call(number: u64, arguments: [u64; 5]) -> Result<u64, Errno> {
    // SAFETY: each caller passes addresses of its own variables, or addresses that lead nowhere.
    Errno::check(unsafe { hyper::raw(number, arguments) })
}

/// The address of a hypercall's argument.
fn address_of<T: ?Sized>(value: &T) -> u64 {
    from_long(GuestHandle::of(value).0)
}

fn answers(what: &str, number: u64, arguments: [u64; 3], wanted: Result<u64, Errno>) {
    let [a, b, c] = arguments;
    let got = call(number, [a, b, c, 0, 0]);
    if got != wanted {
        println!("{what}: {got:?}");
    }
    check(what, got == wanted);
}

/// The vector of the exception that was raised; 0 if there was none.
fn raised(outcome: Result<(), Caught>) -> u64 {
    outcome.map_or_else(|caught| caught.vector, |()| 0)
}

fn set_cr4(change: impl Fn(usize) -> usize) -> usize {
    let value: usize;
    // SAFETY: emulated; callers change only bits on which no code here relies.
    unsafe {
        asm!("mov {}, cr4", out(reg) value);
        asm!("mov cr4, {}", in(reg) change(value));
    }
    value
}

fn poll(port: u32, count: u32) -> Result<u64, Errno> {
    let mut op = SchedPoll {
        ports: GuestHandle::of(&port),
        nr_ports: count,
        timeout: 1,
        ..SchedPoll::default()
    };
    hyper::sched_op(SCHEDOP_POLL, &mut op)
}

/// Xen 4.20 zero-extends this 32-bit answer.
fn no_third_watchdog() -> bool {
    let request = SchedWatchdog {
        id: 0,
        timeout: 1000,
    };
    let at = address_of(&request);
    // SAFETY: the structure is only read.
    let answer = unsafe { hyper::raw(nr::SCHED_OP, [u64::from(SCHEDOP_WATCHDOG), at, 0, 0, 0]) };
    answer as i32 == errno::ENOSPC.to_ret() as i32
}

fn scheduling() {
    for (what, port) in [
        ("poll of port 0", 0),
        ("poll of a port never given", 60),
        ("poll of a port beyond the table", 4000),
        ("poll of a port beyond all tables", u32::MAX),
    ] {
        check(what, poll(port, 1) == Err(errno::EINVAL));
    }
    check("poll of no port", poll(0, 0) == Ok(0));
    check("poll of too many", poll(0, 129) == Err(errno::EINVAL));
    let dog = |id, timeout| hyper::sched_op(SCHEDOP_WATCHDOG, &mut SchedWatchdog { id, timeout });
    check("a watchdog", dog(0, 1000) == Ok(1));
    check("another", dog(0, 1000) == Ok(2));
    check("no third", no_third_watchdog());
    check("they stop", (dog(1, 0), dog(2, 0)) == (Ok(0), Ok(0)));
    check("once", dog(1, 0) == Err(errno::EINVAL));
    check("there is no number 3", dog(3, 1) == Err(errno::EINVAL));
}

fn refusals() {
    let zeros = [0_u64; 16];
    let at = address_of(&zeros);
    answers("no paging", nr::MEMORY_OP, [20, at, 0], Err(errno::ENOSYS));
    answers(
        "no access list of its own",
        nr::MEMORY_OP,
        [21, at, 0],
        Err(errno::EPERM),
    );
    answers("no argo", nr::ARGO_OP, [1, at, at], Err(errno::ENOSYS));
    answers(
        "no virtual PMU",
        nr::XENPMU_OP,
        [99, at, 0],
        Err(errno::EOPNOTSUPP),
    );
    answers(
        "a dm_op of nothing",
        nr::DM_OP,
        [0, 0, at],
        Err(errno::ENODATA),
    );
    answers(
        "a dm_op of too much",
        nr::DM_OP,
        [0, 3, at],
        Err(errno::E2BIG),
    );
    let set_param = u64::from(HVMOP_SET_PARAM);
    answers(
        "hvm_op of nothing",
        nr::HVM_OP,
        [set_param, 0, 0],
        Err(errno::EFAULT),
    );
    answers(
        "hvm_op on no HVM domain",
        nr::HVM_OP,
        [set_param, at, 0],
        Err(errno::EINVAL),
    );
    let mut now = 0_u64;
    let told = hyper::hvm_op(HVMOP_GET_TIME, &mut now);
    check("hvm_op tells the time", told == Ok(0) && now != 0);
    answers("an unmask of old", nr::PHYSDEV_OP, [4, 0, 0], Ok(0));
    answers(
        "line 0 is taken",
        nr::PHYSDEV_OP,
        [21, at, 0],
        Err(errno::EEXIST),
    );
    answers(
        "a reset goes on",
        nr::EVENT_CHANNEL_OP,
        [14, at, 0],
        Err(errno::EBUSY),
    );
}

/// The target of a return that succeeds.
extern "C" fn landing() {
    // SAFETY: traps, and `attempt` catches it.
    unsafe { asm!("ud2") };
}

fn main() {
    let version = call(nr::XEN_VERSION, [0; 5]);
    check(
        "the hypercall page",
        version == Ok(width::through_the_page()),
    );
    grants::run();
    grants2::run();
    cpu::run();
    control::run();
    scheduling();
    refusals();
    width::run();
    nmi::run();
    tracing::run();
    breakpoints::run();
    match FAILED.load(Ordering::Relaxed) {
        0 => println!("PASS answers"),
        failed => println!("FAIL answers: {failed}"),
    }
}
