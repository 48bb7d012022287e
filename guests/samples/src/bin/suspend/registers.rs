//! What a vCPU has besides its general registers: descriptor tables with segments of its own, the FPU's control word, a
//! debug register.

use core::arch::asm;

use xenlike_rt::abi::hypercall::{GET_DEBUGREG, SET_DEBUGREG, SET_GDT};
use xenlike_rt::abi::xen::{MMUEXT_SET_LDT, MmuextOp};
use xenlike_rt::abi::{GuestHandle, Long};
use xenlike_rt::memory::{allocate_page, mfn_of, pfn_of};
use xenlike_rt::{from_long, hyper, paging};

/// A data segment of ring 3, but for its limit.
const DATA: u64 = 0x0040_f300_0000_0000;
/// Selector of the second descriptor of the GDT, ring 3.
const IN_GDT: u16 = 1 << 3 | 3;
/// Selector of the second descriptor of the LDT, ring 3.
const IN_LDT: u16 = 1 << 3 | 7;
/// Double precision, where a vCPU starts with extended precision.
const FPU_CONTROL: u16 = 0x27f;

/// The limits of a vCPU's segments in GDT and LDT, and its address in DR0.
fn own(number: u32) -> [u64; 3] {
    [0x1000, 0x2000, 0x3000].map(|base| base + u64::from(number))
}

/// Gives the running vCPU values of its own.
pub fn set(number: u32) -> Result<(), &'static str> {
    let [gdt_limit, ldt_limit, address] = own(number);
    let gdt = [table(gdt_limit)?].map(|page| mfn_of(pfn_of(page)).unwrap_or_default() as Long);
    let ldt = MmuextOp {
        cmd: MMUEXT_SET_LDT,
        arg1: table(ldt_limit)? as Long,
        arg2: 2,
        ..MmuextOp::default()
    };
    let frames = from_long(GuestHandle::of(&gdt).0);
    // SAFETY: the runtime uses none of these: its selectors are the hypervisor's, and it has no breakpoints.
    unsafe {
        if hyper::raw(SET_GDT, [frames, 512, 0, 0, 0]) != 0 {
            return Err("the GDT is refused");
        }
        hyper::mmuext_op(&[ldt]).map_err(|_| "the LDT is refused")?;
        if hyper::raw(SET_DEBUGREG, [0, address, 0, 0, 0]) != 0 {
            return Err("the debug register is refused");
        }
        asm!("mov fs, {0:x}", "mov gs, {1:x}", in(reg) IN_GDT, in(reg) IN_LDT, options(nostack));
        asm!("fldcw [{}]", in(reg) &FPU_CONTROL, options(nostack));
    }
    Ok(())
}

/// A page with one segment, ready to be a descriptor table.
fn table(limit: u64) -> Result<u64, &'static str> {
    let page = allocate_page().ok_or("no page is left")?;
    let address = page.expose_provenance() as u64;
    // SAFETY: the page belongs to this function, and is not written afterwards.
    unsafe {
        page.cast::<[u64; 2]>().write([0, DATA | limit]);
        paging::make_read_only(address).map_err(|_| "a page can't be made read-only")?;
    }
    Ok(address)
}

/// Checks that the running vCPU has its own values.
pub fn are_kept(number: u32) -> Result<(), &'static str> {
    let [gdt_limit, ldt_limit, address] = own(number);
    let (mut fs, mut gs, mut control): (u16, u16, u16) = (0, 0, 0);
    // SAFETY: reads registers.
    let dr0 = unsafe {
        asm!("mov {0:x}, fs", "mov {1:x}, gs", out(reg) fs, out(reg) gs, options(nomem, nostack));
        asm!("fnstcw [{}]", in(reg) &raw mut control, options(nostack));
        hyper::raw(GET_DEBUGREG, [0, 0, 0, 0, 0])
    };
    let checks = [
        (fs == IN_GDT && gs == IN_LDT, "a selector is lost"),
        (limit(IN_GDT) == Some(gdt_limit), "the GDT is lost"),
        (limit(IN_LDT) == Some(ldt_limit), "the LDT is lost"),
        (control == FPU_CONTROL, "the FPU's control word is lost"),
        (dr0 == address as i64, "the debug register is lost"),
    ];
    match checks.iter().find(|(holds, _)| !holds) {
        None => Ok(()),
        Some((_, what)) => Err(what),
    }
}

/// The limit of a segment.
fn limit(selector: u16) -> Option<u64> {
    let (limit, found): (usize, u8);
    // SAFETY: only looks a descriptor up.
    unsafe {
        asm!("lsl {limit}, {selector}", "setz {found}",
            limit = inout(reg) 0usize => limit, selector = in(reg) usize::from(selector), found = out(reg_byte) found);
    }
    (found != 0).then_some(limit as u64)
}
