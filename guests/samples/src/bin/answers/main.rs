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
mod nmi;
mod tracing;

use core::arch::{asm, global_asm};
use core::sync::atomic::{AtomicU64, Ordering};

use xenlike_rt::abi::GuestHandle;
use xenlike_rt::abi::arch_x86::{FLAT_KERNEL_CS64, FLAT_KERNEL_SS64, TrapInfo};
use xenlike_rt::abi::callback::{CALLBACKOP_REGISTER, CALLBACKTYPE_SYSCALL, CallbackRegister};
use xenlike_rt::abi::elfnote::XEN_ELFNOTE_HYPERCALL_PAGE;
use xenlike_rt::abi::errno::{self, Errno};
use xenlike_rt::abi::hvm_params::{HVMOP_GET_TIME, HVMOP_SET_PARAM};
use xenlike_rt::abi::hypercall as nr;
use xenlike_rt::abi::memory::{
    MachphysMapping, XENMEM_MACHPHYS_MAPPING, XENMEM_MAXIMUM_RESERVATION,
};
use xenlike_rt::abi::sched::{SCHEDOP_POLL, SCHEDOP_WATCHDOG, SchedPoll, SchedWatchdog};
use xenlike_rt::abi::xen::DOMID_SELF;
use xenlike_rt::paging::Access;
use xenlike_rt::traps::{self, Caught, TrapFrame};
use xenlike_rt::user::{self, AddressSpace, Use};
use xenlike_rt::{hyper, memory, println};

xenlike_rt::entry!(main);

const PAGE: u64 = 4096;
const CODE: u64 = 0x40_0000;
const STACK_TOP: u64 = 0x80_0000;
const FSGSBASE: u64 = 1 << 16;
const HOLE: u64 = 0x0000_8000_0000_0000;
/// Size of an entry of the hypercall page, in bytes.
const ENTRY_BYTES: u64 = 32;

global_asm!(
    r#"
    .pushsection .note.Xen, "a", @note
    .balign 4
    .long 4, 8, {page_note}
    .asciz "Xen"
    .quad hypercall_page
    .popsection

    .pushsection .text.pages, "ax", @progbits
    .balign 4096
    .global hypercall_page
    hypercall_page:
        .fill 4096, 1, 0xcc
    .global process_start
    process_start:
        syscall
        ud2
    .balign 4096
    .popsection
    "#,
    page_note = const XEN_ELFNOTE_HYPERCALL_PAGE,
);

unsafe extern "C" {
    safe static hypercall_page: u8;
    safe static process_start: u8;
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

fn answers(what: &str, number: u64, arguments: [u64; 3], wanted: Result<u64, Errno>) {
    let [a, b, c] = arguments;
    let got = call(number, [a, b, c, 0, 0]);
    if got != wanted {
        println!("{what}: {got:?}");
    }
    check(what, got == wanted);
}

fn through_the_page() -> u64 {
    let page = core::ptr::from_ref(&hypercall_page).addr() as u64;
    let answer: u64;
    // SAFETY: xen_version without a buffer, through the entry that the builder made for it.
    unsafe {
        asm!("call {entry}", entry = in(reg) page + nr::XEN_VERSION * ENTRY_BYTES,
            in("rdi") 0, in("rsi") 0, lateout("rax") answer, out("rcx") _, out("r11") _);
    }
    answer
}

/// The vector of the exception that was raised; 0 if there was none.
fn raised(outcome: Result<(), Caught>) -> u64 {
    outcome.map_or_else(|caught| caught.vector, |()| 0)
}

fn set_cr4(change: impl Fn(u64) -> u64) -> u64 {
    let value: u64;
    // SAFETY: emulated; the changed bits concern only segment bases.
    unsafe {
        asm!("mov {}, cr4", out(reg) value);
        asm!("mov cr4, {}", in(reg) change(value));
    }
    value
}

fn read_fs() -> u64 {
    raised(traps::attempt(|| {
        // SAFETY: reads a register, or traps.
        unsafe { asm!("rdfsbase {}", out(reg) _) };
    }))
}

fn write_fs(base: u64) -> u64 {
    raised(traps::attempt(|| {
        // SAFETY: fs is not used here, or the instruction traps.
        unsafe { asm!("wrfsbase {}", in(reg) base) };
    }))
}

fn segment_bases() {
    let before = set_cr4(|cr4| cr4);
    check("CR4.FSGSBASE is clear at the start", before & FSGSBASE == 0);
    check("rdfsbase is #UD then", read_fs() == 6);
    check("wrfsbase too", write_fs(0) == 6);
    set_cr4(|cr4| cr4 | FSGSBASE);
    check(
        "CR4.FSGSBASE can be set",
        set_cr4(|cr4| cr4) & FSGSBASE != 0,
    );
    check("rdfsbase works then", read_fs() == 0);
    hyper::yield_now();
    check("after a reschedule too", read_fs() == 0);
    check(
        "wrfsbase of the highest address works",
        write_fs(u64::MAX) == 0,
    );
    write_fs(0);
    set_cr4(|cr4| cr4 & !FSGSBASE);
    check("rdfsbase is #UD again", read_fs() == 6);
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
    let at = GuestHandle::of(&request).0;
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

fn memory_facts() {
    let itself = DOMID_SELF;
    let at = GuestHandle::of(&itself).0;
    let own = [u64::from(XENMEM_MAXIMUM_RESERVATION), at, 0];
    answers(
        "no limit of memory",
        nr::MEMORY_OP,
        own,
        Ok(u64::from(u32::MAX)),
    );
    let mut mapping = MachphysMapping::default();
    let told = hyper::memory_op(XENMEM_MACHPHYS_MAPPING, &mut mapping);
    let last = call(nr::MEMORY_OP, [2, 0, 0, 0, 0]).map(|end| end - 1);
    check(
        "domain 0 learns where RAM ends",
        told == Ok(0) && last == Ok(mapping.max_mfn),
    );
}

fn refusals() {
    let zeros = [0_u64; 16];
    let at = GuestHandle::of(&zeros).0;
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
    let table = [
        TrapInfo {
            vector: 200,
            address: HOLE,
            ..TrapInfo::default()
        },
        TrapInfo::default(),
    ];
    let at = GuestHandle::of(&table).0;
    answers(
        "a handler in the hole",
        nr::SET_TRAP_TABLE,
        [at, 0, 0],
        Err(errno::EINVAL),
    );
}

/// The iret hypercall with a frame: rax, r11, rcx, flags, rip, cs, rflags, rsp, ss.
fn returns(rip: u64, cs: u64, ss: u64) -> Result<(), Caught> {
    let here = 0_u64;
    let stack = (core::ptr::from_ref(&here).addr() as u64 & !63) - 8192;
    let frame = [0, 0, 0, 0, rip, cs, 2, stack, ss];
    traps::attempt(|| {
        // SAFETY: leads to an exception, which returns through `attempt`.
        unsafe {
            asm!("mov rsp, {frame}", "syscall", "ud2", frame = in(reg) frame.as_ptr(),
                in("rax") nr::IRET, options(noreturn));
        }
    })
}

extern "C" fn landing() {
    // SAFETY: traps, and `attempt` catches it.
    unsafe { asm!("ud2") };
}

fn bad_returns() {
    let (rip, kernel) = (
        landing as *const () as u64,
        u64::from(FLAT_KERNEL_CS64) & !3,
    );
    let ss = u64::from(FLAT_KERNEL_SS64);
    let caught = |vector, error| Err(Caught { vector, error });
    check("a return", returns(rip, kernel, ss) == caught(6, 0));
    let beyond = returns(rip, 0xfff8, ss);
    check(
        "a return by a selector beyond the GDT",
        beyond == caught(13, 0xfff8),
    );
    let data = returns(rip, ss & !3, ss);
    check("a return by a data segment", data == caught(13, ss & !3));
    let hole = returns(HOLE, kernel, ss);
    check("a return into the hole", hole == caught(13, 0));
}

static WHERE: AtomicU64 = AtomicU64::new(0);

fn undefined(frame: &mut TrapFrame) {
    assert!(frame.from_user(), "#UD in the kernel at {:#x}", frame.rip);
    WHERE.store(frame.rip, Ordering::Relaxed);
    user::leave(6);
}

fn system_call(_frame: &mut TrapFrame) {
    user::leave(0);
}

fn system_calls() {
    traps::on_syscall(system_call);
    traps::on(traps::INVALID_OPCODE, undefined);
    let space = AddressSpace::new().expect("an address space");
    let stack = memory::allocate_page().expect("a page");
    let code = &raw const process_start;
    space.map(CODE, code, Use::Code).expect("code");
    let data = Use::Data(Access::ReadWrite);
    space.map(STACK_TOP - PAGE, stack, data).expect("a stack");
    let run = || space.run(CODE, STACK_TOP).expect("user mode");
    check("a system call", run() == 0);
    let mut nowhere = CallbackRegister {
        type_: CALLBACKTYPE_SYSCALL as u16,
        ..CallbackRegister::default()
    };
    let unset = hyper::callback_op(CALLBACKOP_REGISTER, &mut nowhere);
    check("its entry is taken away", unset == Ok(0));
    check("a system call is #UD then", run() == 6);
    check("at its own address", WHERE.load(Ordering::Relaxed) == CODE);
}

fn main() {
    let version = call(nr::XEN_VERSION, [0; 5]);
    check("the hypercall page", version == Ok(through_the_page()));
    grants::run();
    grants2::run();
    cpu::run();
    control::run();
    segment_bases();
    scheduling();
    memory_facts();
    refusals();
    bad_returns();
    system_calls();
    nmi::run();
    tracing::run();
    breakpoints::run();
    match FAILED.load(Ordering::Relaxed) {
        0 => println!("PASS answers"),
        failed => println!("FAIL answers: {failed}"),
    }
}
