//! A switch of registers beyond the trap frame: what every kind of vCPU has here, the rest by kind.

use crate::arch::{cr, debugreg, fpu, guest_choice};
use crate::domain::{Ctx, Kind, shutdown, time};
use crate::pv;

/// Saves the vCPU that runs on this CPU.
pub fn save(ctx: &mut Ctx<'_>) {
    let st = &mut *ctx.st;
    st.regs = *ctx.regs;
    if !core::mem::take(&mut st.is_loaded) {
        // `load` gave up: the other registers are not this vCPU's.
        return;
    }
    match &mut st.kind {
        Kind::Pv(state) => pv::context::save(ctx.dom, ctx.vcpu.id, state),
    }
    debugreg::unload(&st.debug);
    cr::clts();
    st.fpu.save();
}

/// Loads the vCPU that is to run on this CPU, into the CPU's registers and its top frame.
pub fn load(ctx: &mut Ctx<'_>) {
    *ctx.regs = ctx.st.regs;
    ctx.st.is_loaded = match &ctx.st.kind {
        Kind::Pv(state) => pv::context::enter(ctx, state),
    };
    if !ctx.st.is_loaded {
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
