//! A vCPU's registers beyond the trap frame: loaded when it gets a CPU, saved when it loses it.

use crate::arch::{cr, debugreg, fpu, guest_choice};
use crate::domain::{Ctx, Kind, shutdown, time};
use crate::pv;

/// Saves all of the vCPU that runs here.
pub fn save(ctx: &mut Ctx<'_>) {
    let st = &mut *ctx.st;
    st.regs = *ctx.regs;
    let was_loaded = match &mut st.kind {
        Kind::Pv(state) => pv::context::save(state, ctx.vcpu.id),
    };
    if !was_loaded {
        // `load` stopped there: the other registers are still another vCPU's.
        return;
    }
    debugreg::unload(&st.debug);
    cr::clts();
    st.fpu.save();
}

/// Loads all of the vCPU that is to run here into this CPU and the top frame.
pub fn load(ctx: &mut Ctx<'_>) {
    *ctx.regs = ctx.st.regs;
    let has_root = match &ctx.st.kind {
        Kind::Pv(state) => pv::context::enter(ctx, state),
    };
    if !has_root {
        return shutdown::crash(ctx.dom, "a vCPU has no page table to run on");
    }
    fpu::set_xcr0(ctx.st.xcr0);
    ctx.st.fpu.restore();
    debugreg::load(&ctx.st.debug);
    guest_choice::set_tsc_aux(ctx.st.msrs.tsc_aux);
    time::publish(ctx.vcpu, ctx.st);
    time::publish_runstate(ctx.dom, ctx.vcpu, ctx.st);
    match &ctx.st.kind {
        Kind::Pv(_) => pv::context::load(ctx),
    }
}
