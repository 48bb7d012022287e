//! Use and misuse of a local descriptor table and of breakpoints: loading code and data segments from the table right
//! after it was changed, when the hypervisor has none of its pages mapped; reads of the hypervisor's own window on
//! it; a breakpoint on a buffer that a hypercall writes.

#![no_std]
#![no_main]
#![expect(unsafe_code, reason = "loads segments and debug registers")]

use core::arch::asm;

use samples::{Attack, HYPERVISOR, NARROW};
#[cfg(target_pointer_width = "64")]
use xenlike_rt::abi::arch_x86::FLAT_KERNEL_SS;
use xenlike_rt::abi::hypercall::{GET_DEBUGREG, IRET, SET_DEBUGREG};
use xenlike_rt::abi::version::XENVER_EXTRAVERSION;
use xenlike_rt::abi::xen::{MMUEXT_SET_LDT, MmuextOp};
use xenlike_rt::abi::{Errno, Long};
use xenlike_rt::memory::allocate_page;
use xenlike_rt::{hyper, paging, time, traps};

xenlike_rt::entry!(main);

/// A flat code descriptor and a flat data descriptor, both of the kernel's ring.
const CODE: u64 = if NARROW {
    0x00cf_bb00_0000_ffff
} else {
    0x00af_fb00_0000_ffff
};
const DATA: u64 = if NARROW {
    0x00cf_b300_0000_ffff
} else {
    0x00cf_f300_0000_ffff
};
/// Selectors in the table. The code selector's RPL is that with which the iret hypercall stays in kernel mode.
const CODE_SELECTOR: Long = if NARROW { 5 } else { 4 };
const DATA_SELECTOR: Long = 1 << 3 | if NARROW { 5 } else { 7 };
/// Address of the hypervisor's window with this vCPU's table (vCPU 0 of the running domain); a 32-bit guest can only
/// name other addresses of the hypervisor's.
const WINDOW: u64 = if NARROW {
    HYPERVISOR
} else {
    0xffff_8200_0001_0000
};

fn set_table(address: u64, entries: u64) -> Result<u64, Errno> {
    let op = MmuextOp {
        cmd: MMUEXT_SET_LDT,
        arg1: address as Long,
        arg2: entries as Long,
        ..MmuextOp::default()
    };
    // SAFETY: the old table is not in use, or the new one is the same.
    unsafe { hyper::mmuext_op(&[op]) }
}

/// The target of the return into the table's code segment. It raises a distinctive exception.
extern "C" fn landing() {
    // SAFETY: `attempt` catches it.
    unsafe { asm!("int3") };
}

/// Returns into the code segment of the table.
fn into_the_table() -> Result<(), traps::Caught> {
    let here = 0u64;
    let stack = (core::ptr::from_ref(&here).addr() as u64 & !63) - 8192;
    let rip = landing as *const () as usize as Long;
    traps::attempt(|| {
        // The frame: eax, eip, cs, eflags.
        #[cfg(target_pointer_width = "32")]
        // SAFETY: leads to `landing`, which returns through `attempt`.
        unsafe {
            let frame = [0, rip, CODE_SELECTOR, 0x2];
            asm!("mov esp, {stack}", "push [{frame} + 12]", "push [{frame} + 8]", "push [{frame} + 4]", "push 0",
                "int 0x82", "ud2", stack = in(reg) stack as u32, frame = in(reg) frame.as_ptr(),
                in("eax") IRET as u32, options(noreturn));
        }
        // The frame: rax, r11, rcx, flags, rip, cs, rflags, rsp, ss.
        #[cfg(target_pointer_width = "64")]
        // SAFETY: leads to `landing`, which returns through `attempt`.
        unsafe {
            let ss = u64::from(FLAT_KERNEL_SS);
            let frame = [0, 0, 0, 0, rip, CODE_SELECTOR, 0x2, stack, ss];
            asm!("mov rsp, {frame}", "syscall", "ud2", frame = in(reg) frame.as_ptr(), in("rax") IRET,
                options(noreturn));
        }
    })
}

fn data_selector() -> Long {
    let selector: Long;
    // SAFETY: reads a register.
    unsafe { asm!("mov {0:e}, ds", out(reg) selector) };
    selector
}

fn segments(attack: &mut Attack, table: u64) {
    let breakpoint = Err(u64::from(traps::BREAKPOINT));
    for round in ["", " again", " and again"] {
        attack.holds("the table is taken", set_table(table, 2).is_ok());
        let landed = into_the_table().map_err(|caught| caught.vector);
        attack.holds(
            if round.is_empty() {
                "its code segment is returned into"
            } else {
                round
            },
            landed == breakpoint,
        );
    }
    // SAFETY: 64-bit code doesn't use ds.
    let loaded = traps::attempt(|| unsafe { asm!("mov ds, {0:e}", in(reg) DATA_SELECTOR) });
    attack.holds("its data segment is loaded", loaded.is_ok());
    // The hypervisor has none of the table's pages mapped now, and must load ds itself when this vCPU runs again.
    attack.holds("the table is set anew", set_table(table, 2).is_ok());
    let kept = traps::attempt(|| time::sleep(20_000_000));
    attack.holds("no callback says that a segment was lost", kept.is_ok());
    attack.holds("and it was not", data_selector() == DATA_SELECTOR);
    attack.refused("too long a table", set_table(table, 8193));
    attack.refused("a table at an odd place", set_table(table + 8, 2));
    if !NARROW {
        attack.refused("a table in the hypervisor", set_table(WINDOW, 2));
    }
}

fn window(attack: &mut Attack) {
    for address in [WINDOW, WINDOW + 0x1000, WINDOW - 0x1_0000] {
        let slot = core::ptr::with_exposed_provenance_mut::<u64>(address as usize);
        // SAFETY: must fault.
        let read = traps::attempt(|| unsafe {
            slot.read_volatile();
        });
        attack.holds("a read of the hypervisor's window faults", read.is_err());
        // SAFETY: must fault.
        let written = traps::attempt(|| unsafe { slot.write_volatile(CODE) });
        attack.holds("a store to it faults", written.is_err());
    }
}

fn set_debug(register: u64, value: u64) -> Result<u64, Errno> {
    // SAFETY: a breakpoint that only `breakpoints` triggers.
    Errno::check(unsafe { hyper::raw(SET_DEBUGREG, [register, value, 0, 0, 0]) })
}

/// A data breakpoint on a buffer doesn't keep the hypervisor from writing to it.
fn breakpoints(attack: &mut Attack) {
    let mut buffer = [0u64; 2];
    let at = buffer.as_ptr().expose_provenance() as u64;
    attack.holds("an address for a breakpoint", set_debug(0, at).is_ok());
    // Local breakpoint 0, on writes of eight bytes.
    attack.holds("a breakpoint", set_debug(7, 1 | 0b1001 << 16).is_ok());
    let told = hyper::xen_version(XENVER_EXTRAVERSION, &mut buffer);
    attack.holds("a hypercall writes through it", told.is_ok());
    attack.holds("it is off", set_debug(7, 0).is_ok());
    attack.holds("and was written", buffer[0] != 0);
    if !NARROW {
        attack.refused("a breakpoint in the hypervisor", set_debug(1, WINDOW));
    }
    attack.refused("general detection", set_debug(7, 1 << 13));
    // SAFETY: reads a register.
    let seven = unsafe { hyper::raw(GET_DEBUGREG, [7, 0, 0, 0, 0]) };
    attack.holds("nothing is on", seven & 0xff == 0);
}

/// Selectors of tables that this guest doesn't have are refused, and never looked up in its memory.
fn no_tables(attack: &mut Attack) {
    for (what, selector) in [
        ("a local selector without a table", 7),
        ("another", 0x1007),
        ("a global selector without a table", 0x1b),
    ] {
        // SAFETY: 64-bit code doesn't use ds.
        let loaded = traps::attempt(|| unsafe { asm!("mov ds, {0:e}", in(reg) selector) });
        let vector = loaded.err().map(|caught| caught.vector);
        attack.holds(what, vector == Some(u64::from(traps::GENERAL_PROTECTION)));
    }
}

fn main() {
    let mut attack = Attack::new("hostile-ldt", "misuse a descriptor table and breakpoints");
    no_tables(&mut attack);
    let page = allocate_page().expect("a page");
    let table = page.expose_provenance() as u64;
    // SAFETY: the page belongs to this guest, and is not written afterwards.
    unsafe {
        page.cast::<[u64; 2]>().write([CODE, DATA]);
        paging::make_read_only(table).expect("read-only");
    }
    segments(&mut attack, table);
    window(&mut attack);
    breakpoints(&mut attack);
    attack.finish();
}
