//! A vCPU's registers beyond the trap frame: loaded when it gets a CPU, saved when it loses it.
#![expect(
    unsafe_code,
    reason = "loads descriptor tables that the vCPU's window holds"
)]

use crate::arch::desc::{self, LDT_SELECTOR, RESERVED_GDT_BYTES};
use crate::arch::paging::DATA;
use crate::arch::seg::Bases;
use crate::arch::tlb::Reach;
use crate::arch::{cpuid_fault, cr, debugreg, fpu, guest_choice, percpu, seg};
use crate::domain::{Ctx, VcpuState, ldt, time, window};
use crate::kit::Vaddr;
use crate::mm::space::Root;
use crate::mm::{layout, space};
use crate::pv::failsafe;

/// The page table that a vCPU runs on in its present mode.
fn root(st: &VcpuState) -> Option<Root> {
    if st.in_kernel {
        st.kernel_root
    } else {
        st.user_root
    }
}

/// Saves all of the vCPU that runs here.
pub fn save(ctx: &mut Ctx<'_>) {
    let st = &mut *ctx.st;
    st.regs = *ctx.regs;
    if root(st).is_none() {
        // `load` stopped there: the other registers are still another vCPU's.
        return;
    }
    save_segments(st);
    debugreg::unload(&st.debug);
    cr::clts();
    st.fpu.save();
    if st.ldt.entries != 0 {
        // SAFETY: the null selector: no LDT.
        unsafe { desc::load_ldt(0) };
    }
    load_own_gdt();
}

fn save_segments(st: &mut VcpuState) {
    let [ds, es, fs, gs] = seg::selectors();
    let bases = seg::bases();
    let (kernel, user) = if st.in_kernel {
        (bases.gs, bases.shadow_gs)
    } else {
        (bases.shadow_gs, bases.gs)
    };
    let s = &mut st.segments;
    (s.ds, s.es, s.fs, s.gs) = (ds, es, fs, gs);
    (s.fs_base, s.gs_base_kernel, s.gs_base_user) = (bases.fs, kernel, user);
}

/// Loads all of the vCPU that is to run here into this CPU and the top frame.
pub fn load(ctx: &mut Ctx<'_>) {
    let st = &mut *ctx.st;
    *ctx.regs = st.regs;
    move_window(st);
    let Some(root) = root(st) else {
        crate::domain::shutdown::crash(ctx.dom, "a vCPU has no page table to run on");
        return;
    };
    let reach = if ctx.dom.is_control() {
        Reach::All
    } else {
        Reach::Own
    };
    space::enter(root, ctx.dom.pages.past(), reach);
    load_tables(ctx);
    load_fpu(ctx.st);
    debugreg::load(&ctx.st.debug);
    cpuid_fault::before(ctx.dom.is_control());
    guest_choice::set_cr4(ctx.st.cr4);
    guest_choice::set_tsc_aux(ctx.st.msrs.tsc_aux);
    time::publish(ctx.vcpu, ctx.st);
    time::publish_runstate(ctx.dom, ctx.vcpu, ctx.st);
    let s = &ctx.st.segments;
    for selector in [s.ds, s.es, s.fs, s.gs] {
        ldt::bring_in(ctx.dom, ctx.vcpu, ctx.st, selector);
    }
    if !load_segments(ctx.st) {
        failsafe::enter(ctx);
    }
}

/// Puts this CPU's own page, with its TSS and its LDT entry, into the vCPU's GDT window. The
/// vCPU's address space is loaded afterwards, so nothing stale of an earlier stay is left.
fn move_window(st: &VcpuState) {
    let own_page = desc::gdt_frame(percpu::this_cpu()).maddr().0 | DATA;
    window::set(st.window, window::GDT_OWN_PAGE, own_page);
}

/// The GDT and LDT of the vCPU whose address space has been loaded.
fn load_tables(ctx: &mut Ctx<'_>) {
    let Some(gdt) = desc::gdt(percpu::this_cpu()) else {
        return;
    };
    let vcpu = ctx.vcpu.id.0;
    // SAFETY: the window of a vCPU in the address space just loaded has the core's page where every
    // GDT has it; the LDT descriptor covers the vCPU's own LDT window.
    unsafe {
        desc::load_gdt(layout::gdt_window(vcpu));
        if ctx.st.ldt.entries != 0 {
            desc::set_ldt(gdt, layout::ldt_window(vcpu), ctx.st.ldt.entries);
            desc::load_ldt(LDT_SELECTOR);
        }
    }
}

/// This CPU's GDT where the core itself has it mapped: a vCPU's window goes with its address space.
fn load_own_gdt() {
    if let Some(gdt) = desc::gdt(percpu::this_cpu()) {
        let base = Vaddr((gdt.as_ptr() as u64).wrapping_sub(RESERVED_GDT_BYTES));
        // SAFETY: the page is the CPU's own, mapped for ever; the core's selectors count from `base`.
        unsafe { desc::load_gdt(base) };
    }
}

fn load_fpu(st: &mut VcpuState) {
    fpu::set_xcr0(st.xcr0);
    st.fpu.restore();
    if st.cr0 & cr::cr0::TS != 0 {
        cr::set_ts();
    }
}

fn load_segments(st: &VcpuState) -> bool {
    let s = &st.segments;
    let (gs, shadow_gs) = if st.in_kernel {
        (s.gs_base_kernel, s.gs_base_user)
    } else {
        (s.gs_base_user, s.gs_base_kernel)
    };
    seg::load(
        [s.ds, s.es, s.fs, s.gs],
        &Bases {
            fs: s.fs_base,
            gs,
            shadow_gs,
        },
    )
}
