//! #PF from a guest: a page table that it writes as it pleases, an MSI-X table, an LDT page not mapped yet, a GDT page
//! that it has not, or its own affair.

use super::bounce::{Bounce, bounce, inject};
use super::emulate;
use super::state::{ldt, window};
use crate::arch::exception;
use crate::arch::frame::Mode;
use crate::domain::Ctx;
use crate::kit::Vaddr;
use crate::mm::layout;

/// Bits of the error code (APM vol. 2 §8.2.15).
pub mod error {
    /// The page is there: a protection, not a hole.
    pub const PRESENT: u32 = 1;
    /// A write.
    pub const WRITE: u32 = 2;
    /// From user mode, as the guest knows it.
    pub const USER: u32 = 4;
}

/// Whether a fault with this error code may be the core's own affair: a descriptor of the LDT that ring 0
/// wanted, or a write to a page that is there.
#[inline]
pub const fn may_be_ours(code: u32) -> bool {
    code & (error::PRESENT | error::USER) == 0
        || code & (error::PRESENT | error::WRITE) == error::PRESENT | error::WRITE
}

/// A guest's page fault at `address` that [may be ours](may_be_ours).
pub fn handle(ctx: &mut Ctx<'_>, address: u64) {
    let code = ctx.regs.error;
    if let Some(offset) = ldt_offset(ctx, address, code) {
        return ldt_fault(ctx, offset);
    }
    if let Some(offset) = gdt_offset(ctx, address, code) {
        return beyond_gdt(ctx, offset);
    }
    let writes_ro_page = code & (error::PRESENT | error::WRITE) == error::PRESENT | error::WRITE;
    if ctx.st.pv().mode == Mode::Kernel
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
    let to = tell(ctx, address, code);
    bounce(ctx, to);
}

/// The same, with the entry into the kernel left to do.
#[inline]
pub fn tell(ctx: &mut Ctx<'_>, address: u64, code: u32) -> Bounce {
    let user = match ctx.st.pv().mode {
        Mode::Kernel => 0,
        Mode::User => error::USER,
    };
    ctx.regs.error = code & !error::USER | user;
    ctx.st.pv_mut().cr2 = address;
    ctx.vcpu.info.set_cr2(address);
    Bounce::exception(ctx.st, exception::PF, Some(ctx.regs.error))
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
    inject(ctx, exception::GP);
}

/// Maps the page of the LDT in which the CPU wanted a descriptor when it faulted at `address` in ring 0; false if that
/// was no such fault, or the guest has no such page.
pub fn fill_ldt(ctx: &Ctx<'_>, address: u64, code: u32) -> bool {
    ldt_offset(ctx, address, code).is_some_and(|offset| fill(ctx, offset))
}

fn fill(ctx: &Ctx<'_>, offset: u64) -> bool {
    let pv = ctx.st.pv();
    pv.ldt.entries != 0 && ldt::fill(ctx.dom.id(), &ctx.vcpu.ldt_pages, pv, offset)
}

/// The machine wanted a descriptor of the LDT. If the guest's page can't be taken for one, that is
/// the guest's page fault at its own address.
fn ldt_fault(ctx: &mut Ctx<'_>, offset: u64) {
    if fill(ctx, offset) {
        return;
    }
    let address = Vaddr(ctx.st.pv().ldt.base.wrapping_add(offset));
    give(ctx, address.0, ctx.regs.error);
}
