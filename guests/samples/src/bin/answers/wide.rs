//! What only a 64-bit guest can check, and the common checks' instructions in their 64-bit form.

use core::arch::{asm, global_asm};
use core::sync::atomic::Ordering;

use xenlike_rt::abi::arch_x86::{FLAT_KERNEL_CS64, FLAT_KERNEL_SS64, TrapInfo};
use xenlike_rt::abi::callback::{CALLBACKOP_REGISTER, CALLBACKTYPE_SYSCALL, CallbackRegister};
use xenlike_rt::abi::elfnote::XEN_ELFNOTE_HYPERCALL_PAGE;
use xenlike_rt::abi::errno;
use xenlike_rt::abi::hypercall as nr;
use xenlike_rt::abi::memory::{
    MachphysMapping, XENMEM_MACHPHYS_MAPPING, XENMEM_MAXIMUM_RESERVATION,
};
use xenlike_rt::abi::xen::DOMID_SELF;
use xenlike_rt::traps::{self, Caught};
use xenlike_rt::{hyper, user};

use crate::process::{CODE, Process, WHERE};
use crate::{
    ENTRY_BYTES, address_of, answers, call, check, hypercall_page, landing, raised, set_cr4,
};

const FSGSBASE: usize = 1 << 16;
const HOLE: u64 = 0x0000_8000_0000_0000;
/// Bit of CPUID leaf 0x80000001's EDX: long mode.
const LONG_MODE: u32 = 1 << 29;

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
    .global process_start
    process_start:
        syscall
        ud2
    .balign 4096
    .popsection
    "#,
    page_note = const XEN_ELFNOTE_HYPERCALL_PAGE,
);

/// Asks for the version through the hypercall page.
pub fn through_the_page() -> u64 {
    let page = core::ptr::from_ref(&hypercall_page).addr() as u64;
    let answer: u64;
    // SAFETY: xen_version without a buffer, through the entry that the builder made for it.
    unsafe {
        asm!("call {entry}", entry = in(reg) page + nr::XEN_VERSION * ENTRY_BYTES,
            in("rdi") 0, in("rsi") 0, lateout("rax") answer, out("rcx") _, out("r11") _);
    }
    answer
}

/// CPUID by the forced-emulation prefix: EAX, EBX, ECX, EDX.
pub fn cpuid(leaf: u32, subleaf: u32) -> [u32; 4] {
    let (a, b, c, d);
    // SAFETY: CPUID changes only these four registers.
    unsafe {
        asm!("push rbx", "ud2", ".ascii \"xen\"", "cpuid", "mov {b:e}, ebx", "pop rbx", b = out(reg) b,
            inout("eax") leaf => a, inout("ecx") subleaf => c, out("edx") d);
    }
    [a, b, c, d]
}

/// Reads a port. Returns the address behind the instruction.
pub fn read_port(port: u16) -> u64 {
    let behind: u64;
    // SAFETY: callers pass ports that have no effect.
    unsafe {
        asm!("in al, dx", "2: lea {}, [rip + 2b]", out(reg) behind, in("dx") port, out("al") _);
    }
    behind
}

/// The argument of callback_op that registers an NMI handler.
pub fn nmi_handler(address: u64) -> u64 {
    address
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

fn memory_facts() {
    let itself = DOMID_SELF;
    answers(
        "no limit of memory",
        nr::MEMORY_OP,
        [XENMEM_MAXIMUM_RESERVATION.into(), address_of(&itself), 0],
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
    let table = [
        TrapInfo {
            vector: 200,
            address: HOLE,
            ..TrapInfo::default()
        },
        TrapInfo::default(),
    ];
    answers(
        "a handler in the hole",
        nr::SET_TRAP_TABLE,
        [address_of(&table), 0, 0],
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

fn system_calls() {
    traps::on_syscall(|_| user::leave(0));
    let process = Process::new();
    let run = || process.run(0);
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

pub fn run() {
    let long = cpuid(0x8000_0001, 0)[3] & LONG_MODE;
    check("long mode is there", long != 0);
    segment_bases();
    memory_facts();
    refusals();
    bad_returns();
    system_calls();
}
