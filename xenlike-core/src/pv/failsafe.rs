//! The failsafe callback: the guest's segment registers can't be loaded.

use super::bounce::{deliver_failsafe, stop};
use crate::arch::seg;
use crate::domain::Ctx;

/// Enters the failsafe callback with the selectors as they are: null where one could not be loaded.
pub fn enter(ctx: &mut Ctx<'_>) {
    let selectors = seg::selectors();
    if let Err(stuck) = deliver_failsafe(ctx.dom, ctx.vcpu, ctx.st, ctx.regs, selectors) {
        stop(ctx.reborrow(), stuck);
    }
}
