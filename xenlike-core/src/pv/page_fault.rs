//! Page faults of a guest. The hypervisor handles four kinds itself: a store into a page table, which becomes a checked
//! update; a store into a device's page that the guest may only read; a descriptor in a page of the LDT that isn't
//! mapped in the vCPU's window yet; a descriptor beyond the guest's GDT. All others are injected into the guest.

use super::bounce::{Bounce, bounce, inject};
use super::emulate;
use super::state::ldt;
use crate::arch::exception;
use crate::arch::frame::Mode;
use crate::domain::Ctx;
use crate::kit::Vaddr;
use crate::mm::layout;
use crate::pagetype::window;

/// Bits of the error code (APM vol. 2 §8.2.15).
pub mod error {
    /// The page is present: its protection forbids the access.
    pub const PRESENT: u32 = 1;
    /// The access is a write.
    pub const WRITE: u32 = 2;
    /// The access comes from ring 3; in a guest's error code, from its user mode.
    pub const USER: u32 = 4;
}

/// Whether a fault with this error code may be one that the hypervisor handles: the CPU itself looked for a descriptor,
/// or the guest wrote to a page that is present.
#[inline]
pub const fn may_be_handled(code: u32) -> bool {
    code & (error::PRESENT | error::USER) == 0
        || code & (error::PRESENT | error::WRITE) == error::PRESENT | error::WRITE
}

/// Handles a page fault at `address` that [may be one of the hypervisor's](may_be_handled).
pub fn handle(ctx: &mut Ctx<'_>, address: u64) {
    let code = ctx.regs.error;
    if let Some(offset) = ldt_offset(ctx, address, code) {
        return ldt_fault(ctx, offset);
    }
    if let Some(offset) = gdt_offset(ctx, address, code) {
        return beyond_gdt(ctx, offset);
    }
    let writes_ro_page = code & (error::PRESENT | error::WRITE) == error::PRESENT | error::WRITE;
    if ctx.mode() == Mode::Kernel
        && writes_ro_page
        && (emulate::page_table_write(ctx, address)
            || emulate::store_to_only_read_device(ctx, address))
    {
        return;
    }
    inject_fault(ctx, address, code);
}

/// Injects a page fault into the guest.
#[inline(always)] // with `deliver`
pub fn inject_fault(ctx: &mut Ctx<'_>, address: u64, code: u32) {
    let to = prepare_fault(ctx, address, code);
    bounce(ctx, to);
}

/// Prepares a page fault for the guest, whose kernel the caller then enters: CR2 goes to its vcpu_info, and the user bit
/// of the error code says which of the guest's modes faulted, as both run in ring 3.
#[inline]
pub fn prepare_fault(ctx: &mut Ctx<'_>, address: u64, code: u32) -> Bounce {
    let user = match ctx.mode() {
        Mode::Kernel => 0,
        Mode::User => error::USER,
    };
    ctx.regs.error = code & !error::USER | user;
    ctx.st.pv_mut().cr2 = address;
    ctx.vcpu.info.set_cr2(address);
    Bounce::exception(ctx.st, exception::PF, Some(ctx.regs.error))
}

/// The offset into the vCPU's LDT, if the CPU looked for a descriptor in a page of the LDT window that isn't mapped.
fn ldt_offset(ctx: &Ctx<'_>, address: u64, code: u32) -> Option<u64> {
    let start = layout::ldt_window(ctx.vcpu.id.0).0;
    window_offset(start, window::LDT_PAGES, address, code)
}

/// The offset into the vCPU's GDT, if the CPU looked for a descriptor in a page of the GDT window that isn't mapped.
fn gdt_offset(ctx: &Ctx<'_>, address: u64, code: u32) -> Option<u64> {
    let start = layout::gdt_window(ctx.vcpu.id.0).0;
    window_offset(start, window::LDT_FIRST_PAGE, address, code)
}

/// The offset of `address` in the window of `pages` pages at `start`, if the CPU looked there for a descriptor. Such an
/// access has supervisor privilege; a guest's own access to the window comes from ring 3 and stays a fault.
fn window_offset(start: u64, pages: usize, address: u64, code: u32) -> Option<u64> {
    if code & (error::PRESENT | error::USER) != 0 {
        return None;
    }
    let bytes = (pages as u64) << 12;
    address.checked_sub(start).filter(|&offset| offset < bytes)
}

/// Injects what the CPU would raise for a selector beyond the guest's GDT: #GP with the selector (SDM vol. 3,
/// "General Protection Exception"). It raised #PF because the GDT is loaded with the limit of the largest one.
fn beyond_gdt(ctx: &mut Ctx<'_>, offset: u64) {
    ctx.regs.error = offset as u32 & !7;
    inject(ctx, exception::GP);
}

/// Maps the page of the LDT in which the CPU looked for a descriptor when it faulted at `address` in ring 0. Returns false
/// if that was not the reason of the fault, or if the guest has no such page.
pub fn fill_ldt(ctx: &Ctx<'_>, address: u64, code: u32) -> bool {
    ldt_offset(ctx, address, code).is_some_and(|offset| fill(ctx, offset))
}

fn fill(ctx: &Ctx<'_>, offset: u64) -> bool {
    let pv = ctx.st.pv();
    pv.ldt.entries != 0 && ldt::fill(&ctx.dom.pages, ctx.vcpu.id, pv, offset)
}

/// Maps the page of the LDT at `offset`. If the guest's page can't be used for descriptors, the guest gets a page fault
/// at the address at which it has its LDT.
fn ldt_fault(ctx: &mut Ctx<'_>, offset: u64) {
    if fill(ctx, offset) {
        return;
    }
    let address = Vaddr(ctx.st.pv().ldt.base.wrapping_add(offset));
    inject_fault(ctx, address.0, ctx.regs.error);
}
