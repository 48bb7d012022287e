//! #PF from a guest: a page table that it writes as it pleases, an MSI-X table, an LDT page not mapped yet, a GDT page
//! that it has not, or its own affair.

use crate::kit::atomic::Ordering;

use super::current::with_current;
use super::emulate;
use super::stubs::iret_to_guest;
use super::syscall;
use super::traps::{inject, vector};
use crate::arch::frame::TrapFrame;
use crate::arch::{cr3, percpu};
use crate::domain::trap::Bounce;
use crate::domain::{ldt, window};
use crate::hypercall::Ctx;
use crate::kit::Vaddr;
use crate::mm::layout;
use crate::pagetype::machine;

/// Bits of the error code (APM vol. 2 §8.2.15).
mod error {
    /// The page is there: a protection, not a hole.
    pub const PRESENT: u32 = 1;
    /// A write.
    pub const WRITE: u32 = 2;
    /// From user mode, as the guest knows it.
    pub const USER: u32 = 4;
}

/// The word of [`percpu::CpuInfo::words`] that holds the address of the last fault tried again.
const LAST_RETRIED: usize = 0;

/// Whether a fault with this error code may be the core's own affair: a descriptor of the LDT that ring 0
/// wanted, or a write to a page that is there.
#[inline]
pub const fn may_be_ours(code: u32) -> bool {
    code & (error::PRESENT | error::USER) == 0
        || code & (error::PRESENT | error::WRITE) == error::PRESENT | error::WRITE
}

/// A guest's page fault at `address` that [may be ours](may_be_ours).
pub fn mend(ctx: &mut Ctx<'_>, address: u64) {
    let code = ctx.regs.error;
    if let Some(offset) = ldt_offset(ctx, address, code) {
        return ldt_fault(ctx, offset);
    }
    if let Some(offset) = gdt_offset(ctx, address, code) {
        return beyond_gdt(ctx, offset);
    }
    let writes_ro_page = code & (error::PRESENT | error::WRITE) == error::PRESENT | error::WRITE;
    if ctx.st.in_kernel
        && writes_ro_page
        && (emulate::page_table_write(ctx, address)
            || emulate::store_to_only_read_device(ctx, address))
    {
        return;
    }
    give(ctx, address, code);
}

/// Gives the fault to the guest: CR2 in its vcpu_info, and in the error code the user bit as the
/// guest sees its own modes.
#[inline(always)] // with `deliver`
pub fn give(ctx: &mut Ctx<'_>, address: u64, code: u32) {
    let bounce = tell(ctx, address, code);
    syscall::bounce(ctx, bounce);
}

/// The same, with the entry into the kernel left to do.
#[inline]
pub fn tell(ctx: &mut Ctx<'_>, address: u64, code: u32) -> Bounce {
    let user = if ctx.st.in_kernel { 0 } else { error::USER };
    ctx.regs.error = code & !error::USER | user;
    ctx.st.cr2 = address;
    ctx.vcpu.info.set_cr2(address);
    Bounce::exception(ctx.st, vector::PF, Some(ctx.regs.error))
}

/// The offset into the vCPU's LDT, if the machine wanted a descriptor in a page of its LDT window that is not there.
fn ldt_offset(ctx: &Ctx<'_>, address: u64, code: u32) -> Option<u64> {
    let start = layout::ldt_window(ctx.vcpu.id.0).0;
    window_offset(start, window::LDT_PAGES, address, code)
}

/// The offset into the vCPU's GDT, if the machine wanted a descriptor in a page that the guest gave none for.
fn gdt_offset(ctx: &Ctx<'_>, address: u64, code: u32) -> Option<u64> {
    let start = layout::gdt_window(ctx.vcpu.id.0).0;
    window_offset(start, window::LDT_FIRST_PAGE, address, code)
}

/// The offset of `address` in the window of so many pages at `start`, if the machine looked there. That is not a
/// user's access, which a guest's own is: it may not touch the window.
fn window_offset(start: u64, pages: usize, address: u64, code: u32) -> Option<u64> {
    if code & (error::PRESENT | error::USER) != 0 {
        return None;
    }
    let bytes = (pages as u64) << 12;
    address.checked_sub(start).filter(|&offset| offset < bytes)
}

/// The window has the largest GDT's limit; a selector beyond the guest's own pages is beyond its table:
/// #GP with the selector (SDM vol. 3 §6.15), as on Xen.
fn beyond_gdt(ctx: &mut Ctx<'_>, offset: u64) {
    ctx.regs.error = offset as u32 & !7;
    inject(ctx, vector::GP);
}

/// The machine wanted a descriptor of the LDT. If the guest's page can't be taken for one, that is
/// the guest's page fault at its own address.
fn ldt_fault(ctx: &mut Ctx<'_>, offset: u64) {
    if ctx.st.ldt.entries != 0 && ldt::fill(ctx.dom, ctx.vcpu, ctx.st, offset) {
        return;
    }
    let address = Vaddr(ctx.st.ldt.base.wrapping_add(offset));
    give(ctx, address.0, ctx.regs.error);
}

/// The IRET to the guest wanted a descriptor of its LDT (`frame` is the fault's, in ring 0): true if it is
/// at hand now, so that the IRET is to be tried again.
#[cold]
#[inline(never)] // it needs much of the stack, and other faults of ring 0 hit with little left
pub fn mended_for_return(frame: &mut TrapFrame, address: u64) -> bool {
    // Anywhere else the vCPU's state may be in use.
    if frame.rip != &raw const iret_to_guest as u64 {
        return false;
    }
    let code = frame.error;
    let fill = |ctx: &mut Ctx<'_>| match ldt_offset(ctx, address, code) {
        Some(offset) if ctx.st.ldt.entries != 0 => ldt::fill(ctx.dom, ctx.vcpu, ctx.st, offset),
        _ => false,
    };
    with_current(frame, fill).unwrap_or(false)
}

/// Whether a fault of a guest copy came from a translation that the guest has since made more
/// permissive: it need not flush for that, so the copy is tried once more. The fault itself has
/// dropped the translation (SDM vol. 3 §5.10.2). Only once in a row at an address: what else forbids
/// the access (a table above the entry) does not change by trying.
pub fn is_stale(code: u32, address: u64) -> bool {
    let last = &percpu::info().words[LAST_RETRIED];
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
