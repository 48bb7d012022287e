//! The PV part of a switch: a vCPU's address space, descriptor tables and segment registers are loaded and saved.
#![expect(
    unsafe_code,
    reason = "loads descriptor tables that the vCPU's window holds"
)]

use guest_pv_abi::Width;

use super::failsafe;
use super::state::mode::run_root;
use super::state::{State, ldt};
use crate::arch::desc::{self, RESERVED_GDT_BYTES};
use crate::arch::frame::Mode;
use crate::arch::paging::DATA;
use crate::arch::seg::Bases;
use crate::arch::tlb::Reach;
use crate::arch::{cpuid_fault, cr, guest_choice, percpu, seg};
use crate::domain::{Ctx, Domain};
use crate::kit::{Vaddr, VcpuId};
use crate::mm::{layout, space};
use crate::pagetype::{GuestRoot, window};

/// Returns the root of the vCPU's present mode.
const fn root(st: &State) -> Option<&GuestRoot> {
    match (st.width, st.mode) {
        // A narrow guest's user code runs in the same address space as its kernel.
        (Width::Narrow, _) | (Width::Wide, Mode::Kernel) => st.kernel_root.as_ref(),
        (Width::Wide, Mode::User) => st.user_root.as_ref(),
    }
}

/// Saves what this CPU has loaded of the vCPU by [`enter`] and [`load`].
pub fn save(dom: &Domain, vcpu: VcpuId, st: &mut State) {
    save_segments(st);
    if st.ldt.entries != 0 {
        ldt::load_register(vcpu, st.width, 0);
        if let Some(shown) = dom.pages.ldt_pages(vcpu) {
            shown.ends();
        }
    }
    load_own_gdt();
    if st.width == Width::Narrow {
        guest_choice::set_cr4(st.cr4, Width::Wide);
    }
}

fn save_segments(st: &mut State) {
    let [ds, es, fs, gs] = seg::selectors();
    let s = &mut st.segments;
    (s.ds, s.es, s.fs, s.gs) = (ds, es, fs, gs);
    if st.width == Width::Narrow {
        return;
    }
    let bases = seg::bases();
    let (kernel, user) = match st.mode {
        Mode::Kernel => (bases.gs, bases.shadow_gs),
        Mode::User => (bases.shadow_gs, bases.gs),
    };
    (s.fs_base, s.gs_base_kernel, s.gs_base_user) = (bases.fs, kernel, user);
}

/// Loads the vCPU's address space and descriptor tables. Returns false if it has no root for its mode.
pub fn enter(ctx: &Ctx<'_>, st: &State) -> bool {
    move_window(st);
    let Ok(root) = run_root(root(st), st.monitor.as_ref()) else {
        return false;
    };
    if st.ldt.entries != 0 {
        ldt::note_cpu(&ctx.dom.pages, ctx.vcpu.id);
    }
    let reach = if ctx.dom.is_control() {
        Reach::All
    } else {
        Reach::Own
    };
    space::enter(root, ctx.dom.pages.past(), reach);
    load_tables(ctx.vcpu.id, st);
    true
}

/// Maps this CPU's own page, which has the descriptors of its TSS and LDT, in the vCPU's GDT window. The load of CR3 that
/// follows drops a translation from another CPU on which the vCPU ran.
fn move_window(st: &State) {
    let own_page = desc::gdt_frame(percpu::this_cpu(), st.width).maddr().0 | DATA;
    window::set(st.window, window::GDT_OWN_PAGE, own_page);
}

/// Loads the GDT and the LDT of the vCPU, whose address space has been loaded.
fn load_tables(vcpu: VcpuId, st: &State) {
    // SAFETY: the window of a vCPU in the address space just loaded has the hypervisor's page where every GDT has it.
    unsafe { desc::load_gdt(layout::gdt_window(vcpu.0)) };
    if st.ldt.entries != 0 {
        ldt::load_register(vcpu, st.width, st.ldt.entries);
    }
}

/// Loads this CPU's GDT at the address where the hypervisor itself maps it, because a vCPU's window is mapped
/// only in that vCPU's address space.
fn load_own_gdt() {
    if let Some(gdt) = desc::gdt(percpu::this_cpu(), Width::Wide) {
        let base = Vaddr((gdt.as_ptr() as u64).wrapping_sub(RESERVED_GDT_BYTES));
        // SAFETY: the page is the CPU's own, mapped for ever; the hypervisor's selectors count from `base`.
        unsafe { desc::load_gdt(base) };
    }
}

/// Loads the registers that ring 0 doesn't use. The segment registers come last: if one can't be loaded, the vCPU enters
/// its failsafe callback.
pub fn load(ctx: &mut Ctx<'_>) {
    let st = ctx.st.pv();
    cpuid_fault::before(ctx.dom.is_control());
    guest_choice::set_cr4(st.cr4, st.width);
    if st.task_switched {
        cr::set_ts();
    }
    let s = &st.segments;
    for selector in [s.ds, s.es, s.fs, s.gs] {
        ldt::bring_in(&ctx.dom.pages, ctx.vcpu.id, st, selector);
    }
    if !load_segments(st) {
        failsafe::enter(ctx);
    }
}

fn load_segments(st: &State) -> bool {
    let s = &st.segments;
    if st.width == Width::Narrow {
        // Each base is the one in the segment's descriptor.
        return seg::load_selectors([s.ds, s.es, s.fs, s.gs]);
    }
    let (gs, shadow_gs) = match st.mode {
        Mode::Kernel => (s.gs_base_kernel, s.gs_base_user),
        Mode::User => (s.gs_base_user, s.gs_base_kernel),
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
