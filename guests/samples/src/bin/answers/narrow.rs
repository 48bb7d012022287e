//! What only a 32-bit guest can check, and the common checks' instructions in their 32-bit form. Debian's Xen doesn't run
//! 32-bit PV guests, so the expectations are those of Xen's public headers and of its handlers for such guests.

use core::arch::{asm, global_asm};
use core::sync::atomic::Ordering;

use xenlike_rt::abi::arch_x86::{
    Callback, FLAT_KERNEL_CS, FLAT_KERNEL_SS, FLAT_USER_CS, MACH2PHYS_VIRT_START, TrapInfo,
};
use xenlike_rt::abi::callback::{
    CALLBACKOP_REGISTER, CALLBACKOP_UNREGISTER, CALLBACKTYPE_EVENT, CALLBACKTYPE_FAILSAFE,
    CALLBACKTYPE_SYSCALL, CALLBACKTYPE_SYSCALL32, CALLBACKTYPE_SYSENTER, CallbackRegister,
    CallbackUnregister,
};
use xenlike_rt::abi::elfnote::XEN_ELFNOTE_HYPERCALL_PAGE;
use xenlike_rt::abi::errno::{self, Errno};
use xenlike_rt::abi::hypercall as nr;
use xenlike_rt::abi::memory::{MachphysMapping, XENMEM_MACHPHYS_MAPPING};
use xenlike_rt::abi::version::{PlatformParameters, XENVER_PLATFORM_PARAMETERS};
use xenlike_rt::abi::xen::{MMUEXT_NEW_USER_BASEPTR, MmuextOp, START_INFO_MAGIC_NARROW};
use xenlike_rt::memory::allocate_page;
use xenlike_rt::paging::{PRESENT, USER, WRITABLE, entry_of};
use xenlike_rt::traps::{self, Caught};
use xenlike_rt::{hyper, start_info, user};

use crate::process::{CODE, Process, WHERE};
use crate::{ENTRY_BYTES, address_of, answers, call, check, hypercall_page, landing};

const KERNEL_CS: u32 = FLAT_KERNEL_CS as u32;
const KERNEL_SS: u32 = FLAT_KERNEL_SS as u32;
const USER_CS: u32 = FLAT_USER_CS as u32;
/// EFLAGS.VM.
const VM86: u32 = 1 << 17;
/// End of the machine-to-physical table, `MACH2PHYS_COMPAT_VIRT_END` in Xen.
const MACH2PHYS_VIRT_END: u64 = 0xffe0_0000;
/// Bits of CPUID leaf 0x80000001's EDX: long mode, and `syscall`.
const LONG_MODE: u32 = 1 << 29;
const HAS_SYSCALL: u32 = 1 << 11;

/// Offsets of the process's instructions for system calls.
const BY_SYSCALL: u64 = 0;
const BY_SYSENTER: u64 = 16;
const BY_GATE: u64 = 32;

global_asm!(
    r#"
    .pushsection .note.Xen, "a", @note
    .balign 4
    .long 4, 4, {page_note}
    .asciz "Xen"
    .long hypercall_page
    .popsection

    .pushsection .text.pages, "ax", @progbits
    .balign 4096
    .global process_start
    process_start:
        syscall
        ud2
    .balign 16
        sysenter
        ud2
    .balign 16
        int 0x80
        ud2
    .balign 4096
    .popsection
    "#,
    page_note = const XEN_ELFNOTE_HYPERCALL_PAGE,
);

/// Asks for the version through the hypercall page.
pub fn through_the_page() -> u64 {
    let page = core::ptr::from_ref(&hypercall_page).addr();
    let entry = page + (nr::XEN_VERSION * ENTRY_BYTES) as usize;
    let answer: u32;
    // SAFETY: xen_version without a buffer, through the entry that the builder made for it.
    unsafe { asm!("call eax", inlateout("eax") entry => answer, in("ebx") 0, in("ecx") 0) };
    answer.into()
}

/// CPUID by the forced-emulation prefix: EAX, EBX, ECX, EDX.
pub fn cpuid(leaf: u32, subleaf: u32) -> [u32; 4] {
    let (a, b, c, d);
    // SAFETY: CPUID changes only these four registers.
    unsafe {
        asm!("ud2", ".ascii \"xen\"", "cpuid", inout("eax") leaf => a, out("ebx") b,
            inout("ecx") subleaf => c, out("edx") d);
    }
    [a, b, c, d]
}

/// Reads a port. Returns the address behind the instruction.
pub fn read_port(port: u16) -> u64 {
    let behind: u32;
    // SAFETY: callers pass ports that have no effect.
    unsafe {
        asm!("in al, dx", "2: lea {}, [2b]", out(reg) behind, in("dx") port, out("al") _);
    }
    behind.into()
}

/// The argument of callback_op that registers an NMI handler. Its selector doesn't count.
pub fn nmi_handler(eip: u32) -> Callback {
    Callback { cs: 0, eip }
}

fn own_pages() {
    check(
        "the start info's magic",
        start_info().magic.starts_with(START_INFO_MAGIC_NARROW),
    );
    let mut parameters = PlatformParameters::default();
    let told = hyper::xen_version(XENVER_PLATFORM_PARAMETERS, &mut parameters);
    check(
        "where the hypervisor begins",
        told.is_ok() && u64::from(parameters.virt_start) == MACH2PHYS_VIRT_START,
    );
    let mut mapping = MachphysMapping::default();
    let told = hyper::memory_op(XENMEM_MACHPHYS_MAPPING, &mut mapping);
    let (from, to) = (u64::from(mapping.v_start), u64::from(mapping.v_end));
    check(
        "the machine-to-physical table",
        told == Ok(0) && (from, to) == (MACH2PHYS_VIRT_START, MACH2PHYS_VIRT_END),
    );
    check(
        "domain 0, too, learns how many entries it has room for",
        u64::from(mapping.max_mfn) == (to - from) / 4 - 1,
    );
    let page = allocate_page().expect("a page").addr() as u64;
    let entry = entry_of(page).expect("an entry");
    check("the kernel's pages are its own", entry & USER == 0);
    let root = core::ptr::with_exposed_provenance::<u64>(start_info().pt_base as usize);
    // SAFETY: the root table, which the builder mapped read-only.
    let entries = [0, 1, 2, 3].map(|slot| unsafe { root.add(slot).read_volatile() });
    check(
        "present entries of the root are writable and the user's",
        entries[3] & PRESENT != 0
            && entries
                .iter()
                .filter(|entry| **entry & PRESENT != 0)
                .all(|entry| entry & (WRITABLE | USER) == WRITABLE | USER),
    );
}

fn callback_op(cmd: u32, kind: u32) -> Result<u64, Errno> {
    let kind = kind as u16;
    if cmd == CALLBACKOP_REGISTER {
        let mut request = CallbackRegister {
            type_: kind,
            ..CallbackRegister::default()
        };
        return hyper::callback_op(cmd, &mut request);
    }
    let mut request = CallbackUnregister {
        type_: kind,
        ..CallbackUnregister::default()
    };
    hyper::callback_op(cmd, &mut request)
}

fn refusals() {
    for cmd in [CALLBACKOP_REGISTER, CALLBACKOP_UNREGISTER] {
        check(
            "64-bit code's system calls have no callback",
            callback_op(cmd, CALLBACKTYPE_SYSCALL) == Err(errno::ENOSYS),
        );
        check("nor has type 8", callback_op(cmd, 8) == Err(errno::ENOSYS));
    }
    for kind in [
        CALLBACKTYPE_EVENT,
        CALLBACKTYPE_FAILSAFE,
        CALLBACKTYPE_SYSCALL32,
        CALLBACKTYPE_SYSENTER,
    ] {
        check(
            "a callback stays",
            callback_op(CALLBACKOP_UNREGISTER, kind) == Err(errno::EINVAL),
        );
    }
    check(
        "callback_op has two commands",
        callback_op(2, CALLBACKTYPE_EVENT) == Err(errno::EINVAL),
    );
    answers(
        "no segment bases",
        nr::SET_SEGMENT_BASE,
        [0, 0, 0],
        Err(errno::ENOSYS),
    );
    let user_root = MmuextOp {
        cmd: MMUEXT_NEW_USER_BASEPTR,
        ..MmuextOp::default()
    };
    // SAFETY: refused.
    let set = unsafe { hyper::mmuext_op(&[user_root]) };
    check(
        "user mode has no root of its own",
        set == Err(errno::EINVAL),
    );
}

/// Handlers whose selectors name ring 0: they are entered in ring 1.
fn handlers() {
    let vector = usize::from(traps::INVALID_OPCODE);
    let handler = |number, level| TrapInfo {
        vector: number,
        flags: level,
        cs: FLAT_KERNEL_CS & !3,
        address: traps::table()[vector].address,
        ..TrapInfo::default()
    };
    let table = [handler(200, 1), handler(201, 0), TrapInfo::default()];
    answers(
        "handlers",
        nr::SET_TRAP_TABLE,
        [address_of(&table), 0, 0],
        Ok(0),
    );
    let caught = |vector, error| Err(Caught { vector, error });
    // SAFETY: enters the runtime's handler of #UD, which ends the attempt.
    let entered = traps::attempt(|| unsafe { asm!("int 200") });
    check("int enters one in ring 1", entered == caught(6, 0));
    // SAFETY: raises #GP.
    let above = traps::attempt(|| unsafe { asm!("int 201") });
    check("but not one of level 0", above == caught(13, 201 << 3 | 2));
}

/// The iret hypercall with a frame: eax, eip, cs, eflags, esp, ss.
fn returns(cs: u32, eflags: u32, ss: u32) -> Result<(), Caught> {
    let eip = landing as *const () as usize as u32;
    let here = 0_u32;
    let stack = (core::ptr::from_ref(&here).addr() as u32 & !63) - 8192;
    let frame = [0, eip, cs, eflags, stack, ss];
    traps::attempt(|| {
        // SAFETY: leads to an exception, which returns through `attempt`.
        unsafe {
            asm!("mov esp, {frame}", "int 0x82", "ud2", frame = in(reg) frame.as_ptr(),
                in("eax") nr::IRET as u32, options(noreturn));
        }
    })
}

fn bad_returns() {
    let here = 0_u32;
    let below = (core::ptr::from_ref(&here).addr() as u64 & !63) - 16384;
    // Faults of outer rings push their frames there.
    let set = call(nr::STACK_SWITCH, [KERNEL_SS.into(), below, 0, 0, 0]);
    check("a kernel stack", set == Ok(0));
    let caught = |vector, error| Err(Caught { vector, error });
    let bad = |selector: u32| caught(13, u64::from(selector & !3));
    check("a return", returns(KERNEL_CS, 2, 0) == caught(6, 0));
    check(
        "a return by a selector beyond the GDT",
        returns(0xfff9, 2, 0) == bad(0xfff9),
    );
    check(
        "a return by a data segment",
        returns(KERNEL_SS, 2, 0) == bad(KERNEL_SS),
    );
    check("a return by a null selector", returns(1, 2, 0) == bad(0));
    check(
        "a return to user mode on the kernel's stack",
        returns(USER_CS, 0x202, KERNEL_SS) == bad(KERNEL_SS),
    );
    check(
        "a return to user mode on no stack",
        returns(USER_CS, 0x202, 0) == bad(0),
    );
    check(
        "a return to virtual-8086 mode",
        returns(KERNEL_CS, 2 | VM86, 0) == bad(0),
    );
}

fn system_calls(amd: bool) {
    traps::on_syscall(|frame| user::leave(frame.vector_number()));
    let process = Process::new();
    let at = |offset| WHERE.load(Ordering::Relaxed) == CODE + offset;
    check(
        "a system call by int",
        process.run(BY_GATE) == traps::SYSTEM_CALL_GATE,
    );
    // Each vendor's CPUs have one of the two instructions for 32-bit code in long mode.
    let (here, kind, vector) = if amd {
        (BY_SYSCALL, CALLBACKTYPE_SYSCALL32, traps::SYSCALL32)
    } else {
        (BY_SYSENTER, CALLBACKTYPE_SYSENTER, traps::SYSENTER)
    };
    check("without a callback, a system call", process.run(here) == 13);
    // `sysenter` saves no address.
    check("is #GP at its own address", !amd || at(here));
    let set = traps::take_system_calls_of_32_bits();
    check("callbacks for it", set.is_ok());
    check("a system call", process.run(here) == vector);
    let unset = callback_op(CALLBACKOP_REGISTER, kind);
    check("its callback is taken away", unset == Ok(0));
    check("a system call is #GP again", process.run(here) == 13);
}

pub fn run() {
    let amd = cpuid(0, 0)[1] == u32::from_le_bytes(*b"Auth");
    let features = cpuid(0x8000_0001, 0)[3];
    check("no long mode", features & LONG_MODE == 0);
    check(
        "syscall on AMD's CPUs alone",
        (features & HAS_SYSCALL != 0) == amd,
    );
    own_pages();
    refusals();
    handlers();
    bad_returns();
    system_calls(amd);
}
