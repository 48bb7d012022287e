//! The failsafe callback: how a guest's kernel learns that one of its segment registers can't be loaded.

use guest_pv_abi::Width;

use super::bounce::{Bounce, Cause, Stuck, begin, interrupt, stop};
use super::narrow;
use crate::arch::seg;
use crate::domain::Ctx;
use crate::kit::Vaddr;

/// Enters the failsafe callback, or ends a domain that can't be entered.
pub fn enter(ctx: &mut Ctx<'_>) {
    let entered = match ctx.st.pv().width {
        Width::Wide => deliver(ctx),
        Width::Narrow => narrow::frame::failsafe(ctx),
    };
    if let Err(stuck) = entered {
        stop(ctx.reborrow(), stuck);
    }
}

/// Enters the failsafe callback. Its frame also has the selectors, between r11 and rip, as the registers have them now:
/// null where one could not be loaded.
#[cold]
fn deliver(ctx: &mut Ctx<'_>) -> Result<(), Stuck> {
    let bounce = Bounce::callback(ctx.st.pv().callbacks.failsafe, Cause::Failsafe);
    if bounce.entry == 0 {
        return Err(Stuck::NoFailsafe);
    }
    let [ds, es, fs, gs] = seg::selectors();
    let pv = ctx.st.pv_mut();
    let (top, told) = interrupt(pv.mode, ctx.dom, ctx.vcpu, pv, ctx.regs)?;
    let regs = &*ctx.regs;
    let words = [
        regs.rcx,
        regs.r11,
        ds.into(),
        es.into(),
        fs.into(),
        gs.into(),
        regs.rip,
        told.cs,
        told.rflags,
        regs.rsp,
        regs.ss & 0xffff,
    ];
    let sp = top.wrapping_sub(size_of_val(&words) as u64);
    let pushed = ctx.guest().write(Vaddr(sp), &words);
    pushed.map_err(|_| Stuck::BadStack)?;
    begin(ctx.vcpu, ctx.regs, bounce, sp);
    Ok(())
}
