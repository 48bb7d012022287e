//! #PF from a guest: a page table that it writes as it pleases, an LDT page not mapped yet, or its
//! own affair.

use super::emulate;
use super::traps::{inject, vector};
use crate::domain::{ldt, window};
use crate::hypercall::Ctx;
use crate::kit::Vaddr;
use crate::mm::layout;

/// Bits of the error code (APM vol. 2 §8.2.15).
mod error {
    /// The page is there: a protection, not a hole.
    pub const PRESENT: u32 = 1;
    /// A write.
    pub const WRITE: u32 = 2;
    /// From user mode, as the guest knows it.
    pub const USER: u32 = 4;
}

/// A guest's page fault at `address`.
pub fn handle(ctx: &mut Ctx<'_>, address: u64) {
    let code = ctx.regs.error;
    if let Some(offset) = ldt_offset(ctx, address) {
        return ldt_fault(ctx, offset);
    }
    let writes_ro_page = code & (error::PRESENT | error::WRITE) == error::PRESENT | error::WRITE;
    if ctx.st.in_kernel && writes_ro_page && emulate::page_table_write(ctx, address) {
        return;
    }
    give(ctx, address, code);
}

/// Gives the fault to the guest: CR2 in its vcpu_info, and in the error code the user bit as the
/// guest sees its own modes.
pub fn give(ctx: &mut Ctx<'_>, address: u64, code: u32) {
    let user = if ctx.st.in_kernel { 0 } else { error::USER };
    ctx.regs.error = code & !error::USER | user;
    ctx.st.cr2 = address;
    ctx.vcpu.info.set_cr2(address);
    inject(ctx, vector::PF);
}

/// The offset into the vCPU's LDT, if `address` is in its LDT window.
fn ldt_offset(ctx: &Ctx<'_>, address: u64) -> Option<u64> {
    let start = layout::ldt_window(ctx.vcpu.id.0).0;
    let bytes = (window::LDT_PAGES as u64) << 12;
    address.checked_sub(start).filter(|&offset| offset < bytes)
}

/// The machine wanted a descriptor of the LDT. If the guest's page can't be taken for one, that is
/// the guest's page fault at its own address.
fn ldt_fault(ctx: &mut Ctx<'_>, offset: u64) {
    if ctx.st.ldt.entries != 0 && ldt::fill(ctx.dom, ctx.st, offset) {
        return;
    }
    let address = Vaddr(ctx.st.ldt.base.wrapping_add(offset));
    give(ctx, address.0, ctx.regs.error);
}
