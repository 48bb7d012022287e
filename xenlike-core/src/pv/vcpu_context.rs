//! A vCPU's registers and tables as one structure (`struct vcpu_guest_context`): set by VCPUOP_initialise or by the
//! toolstack, and read by the toolstack.

use crate::kit::atomic::Ordering;
use alloc::boxed::Box;

use guest_pv_abi::Width;
use guest_pv_abi::arch_x86::{
    VGCF_FAILSAFE_DISABLES_EVENTS, VGCF_I387_VALID, VGCF_IN_KERNEL, VGCF_ONLINE,
    VGCF_SYSCALL_DISABLES_EVENTS, VcpuGuestContext,
};
use guest_pv_abi::xen::VMASST_TYPE_M2P_STRICT;
use zerocopy::FromZeros;

use super::state::gdt::{self, GDT_ENTRIES_PER_FRAME, GDT_GUEST_FRAMES};
use super::state::ldt::{GuestLdt, MAX_LDT_ENTRIES};
use super::state::monitor::Monitor;
use super::state::{ASSISTS, Callback, Callbacks, Entries, State, outside_ring0};
use crate::arch::frame::{Mode, TrapFrame};
use crate::arch::{cpu, cr, rflags};
use crate::domain::vcpu::pause;
use crate::domain::{Domain, Life, Vcpu, VcpuState, debug, notify, time};
use crate::kit::{Maddr, PAGE_SIZE, Vaddr};
use crate::mm::heap;
use crate::pagetype::{self, GuestRoot, Work, machine};

/// The vm_assist bits that a context may have. `m2p_strict` is accepted here, as Xen does, and has no effect.
const CONTEXT_ASSISTS: u64 = ASSISTS | 1 << VMASST_TYPE_M2P_STRICT;

/// The memory that a narrow vCPU needs beyond a wide one's: its entry points, and a frame for its L4.
const NARROW_BYTES: u64 = (size_of::<Entries>() + PAGE_SIZE) as u64;

/// Why a context was not set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It has a selector, an address, a frame or a count that the vCPU may not have.
    Invalid,
    /// There is no memory for the tables on which a narrow vCPU runs.
    NoMemory,
    /// Nothing is wrong, but checking its page tables takes long: the same call continues the check.
    Again,
}

impl From<pagetype::Refused> for Refused {
    fn from(refused: pagetype::Refused) -> Self {
        match refused {
            pagetype::Refused::Again => Self::Again,
            _ => Self::Invalid,
        }
    }
}

/// Sets the registers and tables of a vCPU that is off its CPU. Everything is checked before anything changes.
///
/// # Errors
/// See [`Refused`]; the vCPU is as it was.
pub fn set(
    dom: &Domain,
    vcpu: &Vcpu,
    st: &mut VcpuState,
    context: &VcpuGuestContext,
) -> Result<(), Refused> {
    let width = dom.pages.width();
    // Destruction marks the domain as dying before it visits this vCPU's state, which the caller holds. So
    // either the mark is seen here, or destruction releases the references that are taken below.
    if dom.life() != Life::Alive {
        return Err(Refused::Invalid);
    }
    check_plain(context, width)?;
    let frames = gdt_frames(context)?;
    let narrow = match width {
        Width::Wide => None,
        Width::Narrow if !heap::can_grow(NARROW_BYTES) => return Err(Refused::NoMemory),
        Width::Narrow => Some(Entries::new_box_zeroed().map_err(|_| Refused::NoMemory)?),
    };
    let mut roots = Roots::default();
    let taken = roots.take(dom, context, st.pv_mut());
    let set = taken.and_then(|()| {
        gdt::replace(&dom.pages, st.pv_mut(), frames, context.gdt_ents as u32)
            .map_err(|_| Refused::Invalid)
    });
    if set.is_ok() {
        roots.swap(st.pv_mut());
    }
    // These are the old roots, or those that were taken for nothing.
    roots.put();
    set?;
    let cr4 = dom
        .cpuid
        .lock()
        .guest_cr4(cr::base_cr4(&cpu::features()), context.ctrlreg[4]);
    set_width(st.pv_mut(), width, narrow);
    if width == Width::Narrow {
        vcpu.info.set_narrow();
    }
    set_registers(st, context, cr4);
    // No flush is needed: the vCPU is off its CPU, and loading CR3 will drop the translations.
    let _ = dom.pages.drop_ldt_pages_of(vcpu.id);
    set_tables(st.pv_mut(), context);
    let [a, b, c, d, _, _, six, seven] = context.debugreg;
    st.debug = debug::restored([a, b, c, d], six, seven, cr4);
    st.fpu.reset();
    if context.flags & VGCF_I387_VALID != 0 {
        st.fpu.set_legacy(&context.fpu_ctxt);
    }
    if vcpu.id.0 == 0 {
        dom.assist.store(context.vm_assist, Ordering::Relaxed);
        // The builder has cleared shared_info, and with it the wall clock.
        time::publish_wall_clock(dom);
    }
    st.initialised = true;
    if context.flags & VGCF_ONLINE != 0 {
        notify::release(vcpu, pause::DOWN);
    } else {
        notify::hold(vcpu, pause::DOWN);
    }
    Ok(())
}

/// Makes the vCPU one of this width, with its tables empty but for the entry points that no context has
/// (XEN_DOMCTL_set_ext_vcpucontext sets them).
fn set_width(st: &mut State, width: Width, mut narrow: Option<Box<Entries>>) {
    let kept = *st.entries().1;
    if let Some(entries) = &mut narrow {
        entries.callbacks = kept;
        // The path into a wide guest's kernel must find no handler.
        st.traps.zero();
        st.callbacks = Callbacks::default();
    } else {
        st.callbacks = kept;
    }
    (st.width, st.narrow) = (width, narrow);
}

/// Checks what needs no lookup.
fn check_plain(context: &VcpuGuestContext, width: Width) -> Result<(), Refused> {
    let addresses = [
        context.user_regs.rip,
        context.user_regs.rsp,
        context.kernel_sp,
        context.event_callback_eip,
        context.failsafe_callback_eip,
        context.syscall_callback_eip,
        context.fs_base,
        context.gs_base_kernel,
        context.gs_base_user,
    ];
    let ldt_ok = context.ldt_ents <= u64::from(MAX_LDT_ENTRIES)
        && context.ldt_base.is_multiple_of(PAGE_SIZE as u64)
        && Vaddr(context.ldt_base).is_canonical();
    // IRET to a handler in the non-canonical hole would raise #GP, whose handler may be there as well, without end.
    let handlers = context.trap_ctxt.iter().map(|trap| trap.address);
    let mut all = addresses.into_iter().chain(handlers);
    let ok = (width == Width::Narrow || all.all(|at| Vaddr(at).is_canonical()))
        && ldt_ok
        && context.vm_assist & !CONTEXT_ASSISTS == 0;
    if ok { Ok(()) } else { Err(Refused::Invalid) }
}

/// The frames that the entries of the GDT need.
fn gdt_frames(context: &VcpuGuestContext) -> Result<&[u64], Refused> {
    let count = context.gdt_ents.div_ceil(u64::from(GDT_ENTRIES_PER_FRAME));
    if count > GDT_GUEST_FRAMES as u64 {
        return Err(Refused::Invalid);
    }
    context
        .gdt_frames
        .get(..count as usize)
        .ok_or(Refused::Invalid)
}

/// The roots of a vCPU's address spaces, with their references.
#[derive(Default)]
struct Roots {
    kernel: Option<GuestRoot>,
    user: Option<GuestRoot>,
}

impl Roots {
    /// Takes the roots of `context`, and makes the vCPU's monitor if they need one.
    fn take(
        &mut self,
        dom: &Domain,
        context: &VcpuGuestContext,
        st: &mut State,
    ) -> Result<(), Refused> {
        let [_, user, _, kernel, ..] = context.ctrlreg;
        let mut work = Work::new();
        let mut take = |root| machine().get_root(Maddr(root).mfn(), dom.id(), &mut work);
        let root = take(kernel)?;
        let width = root.width();
        self.kernel = Some(root);
        if width == Width::Narrow {
            // Ring 1 and ring 3 use the same tables.
            if st.monitor.is_none() {
                st.monitor = Some(Monitor::new(dom.id()).ok_or(Refused::NoMemory)?);
            }
            return Ok(());
        }
        st.monitor = None;
        if user != 0 {
            self.user = Some(take(user)?);
        } else if context.flags & VGCF_IN_KERNEL == 0 {
            return Err(Refused::Invalid);
        }
        Ok(())
    }

    /// Exchanges them for the roots of the vCPU.
    const fn swap(&mut self, st: &mut State) {
        core::mem::swap(&mut self.kernel, &mut st.kernel_root);
        core::mem::swap(&mut self.user, &mut st.user_root);
    }

    /// Drops them. A table that is left half taken apart is finished when the domain is destroyed.
    fn put(self) {
        let mut work = Work::new();
        for root in [self.kernel, self.user].into_iter().flatten() {
            let _ = machine().put_root(root, &mut work);
        }
    }
}

fn set_registers(st: &mut VcpuState, context: &VcpuGuestContext, cr4: u64) {
    let (r, width) = (&context.user_regs, st.pv().width);
    st.regs = TrapFrame {
        r15: r.r15,
        r14: r.r14,
        r13: r.r13,
        r12: r.r12,
        rbp: r.rbp,
        rbx: r.rbx,
        r11: r.r11,
        r10: r.r10,
        r9: r.r9,
        r8: r.r8,
        rax: r.rax,
        rcx: r.rcx,
        rdx: r.rdx,
        rsi: r.rsi,
        rdi: r.rdi,
        error: 0,
        // Not the value for frames of SYSCALL: the vCPU must be entered by IRET, which restores all registers.
        vector: 0,
        rip: r.rip,
        cs: u64::from(outside_ring0(width, r.cs)),
        rflags: r.rflags & rflags::GUEST_SETTABLE | rflags::ALWAYS_ON | rflags::IF,
        rsp: r.rsp,
        ss: u64::from(outside_ring0(width, r.ss)),
    };
    let pv = st.pv_mut();
    pv.task_switched = context.ctrlreg[0] & cr::cr0::TS != 0;
    pv.cr4 = cr4;
    pv.iopl = (r.rflags >> 12 & 3) as u8;
    let in_kernel = match width {
        Width::Wide => context.flags & VGCF_IN_KERNEL != 0,
        Width::Narrow => st.regs.cs & 3 == 1,
    };
    let pv = st.pv_mut();
    pv.mode = if in_kernel { Mode::Kernel } else { Mode::User };
    let s = &mut pv.segments;
    (s.ds, s.es, s.fs, s.gs) = (r.ds, r.es, r.fs, r.gs);
    s.fs_base = context.fs_base;
    s.gs_base_kernel = context.gs_base_kernel;
    s.gs_base_user = context.gs_base_user;
}

/// Sets the trap table, the callbacks, the kernel's stack and the LDT.
fn set_tables(st: &mut State, context: &VcpuGuestContext) {
    let width = st.width;
    st.kernel_ss = context.kernel_ss as u16;
    st.kernel_sp = context.kernel_sp;
    let (traps, callbacks) = st.entries_mut();
    for (slot, trap) in traps.iter_mut().zip(&context.trap_ctxt) {
        *slot = *trap;
        slot.cs = outside_ring0(width, trap.cs);
    }
    let masks = |flag: u64| u8::from(context.flags & flag != 0);
    let callback = |word: u64, masks_events| Callback::of_word(width, word, masks_events);
    callbacks.event = callback(context.event_callback_eip, 1);
    callbacks.failsafe = callback(
        context.failsafe_callback_eip,
        masks(VGCF_FAILSAFE_DISABLES_EVENTS),
    );
    callbacks.syscall = callback(
        context.syscall_callback_eip,
        masks(VGCF_SYSCALL_DISABLES_EVENTS),
    );
    st.ldt = GuestLdt {
        base: context.ldt_base,
        entries: context.ldt_ents as u32,
    };
}

/// Takes the vCPU down and drops its registers and tables, so that it is as new.
pub fn reset(dom: &Domain, vcpu: &Vcpu, st: &mut VcpuState) {
    notify::hold(vcpu, pause::DOWN);
    let mut work = dom.teardown.lock();
    vcpu.let_go(&dom.pages, st, &mut work);
    st.initialised = false;
    *st.pv_mut().entries_mut().1 = Callbacks::default();
    st.kind.unmask_nmi();
    st.fpu.reset();
}

/// Why a context could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotShown {
    /// The vCPU has never been given registers.
    NoRegisters,
    /// The structure could not be allocated.
    NoMemory,
}

/// Reads the vCPU's registers and tables.
///
/// # Errors
/// See [`NotShown`].
pub fn get(dom: &Domain, vcpu: &Vcpu, st: &VcpuState) -> Result<Box<VcpuGuestContext>, NotShown> {
    if !st.initialised {
        return Err(NotShown::NoRegisters);
    }
    let pv = st.pv();
    let (traps, callbacks) = pv.entries();
    let mut context = VcpuGuestContext::new_box_zeroed().map_err(|_| NotShown::NoMemory)?;
    let flag = |condition: bool, flag: u64| if condition { flag } else { 0 };
    context.flags = VGCF_I387_VALID
        | flag(in_kernel(st), VGCF_IN_KERNEL)
        | flag(vcpu.is_up(), VGCF_ONLINE)
        | flag(
            callbacks.failsafe.masks_events != 0,
            VGCF_FAILSAFE_DISABLES_EVENTS,
        )
        | flag(
            callbacks.syscall.masks_events != 0,
            VGCF_SYSCALL_DISABLES_EVENTS,
        );
    context.fpu_ctxt = st.fpu.legacy();
    get_registers(vcpu, st, &mut context);
    context.trap_ctxt = *traps;
    (context.ldt_base, context.ldt_ents) = (pv.ldt.base, pv.ldt.entries.into());
    for (to, from) in context.gdt_frames.iter_mut().zip(&pv.gdt.frames) {
        *to = from.map_or(0, |mfn| mfn.0);
    }
    context.gdt_ents = pv.gdt.entries.into();
    context.kernel_ss = outside_ring0(pv.width, pv.kernel_ss).into();
    context.kernel_sp = pv.kernel_sp;
    let root = |root: &Option<GuestRoot>| root.as_ref().map_or(0, |root| root.mfn().maddr().0);
    let (kernel, user) = (root(&pv.kernel_root), root(&pv.user_root));
    context.ctrlreg = [pv.cr0(), user, 0, kernel, pv.cr4, 0, 0, 0];
    let [a, b, c, d, six, seven] = st.debug;
    context.debugreg = [a, b, c, d, 0, 0, six, seven];
    context.event_callback_eip = callbacks.event.word(pv.width);
    context.failsafe_callback_eip = callbacks.failsafe.word(pv.width);
    context.syscall_callback_eip = callbacks.syscall.word(pv.width);
    if vcpu.id.0 == 0 {
        context.vm_assist = dom.assist.load(Ordering::Relaxed);
    }
    Ok(context)
}

/// Whether the vCPU, which doesn't run, will continue in its kernel.
fn in_kernel(st: &VcpuState) -> bool {
    match st.pv().width {
        Width::Wide => st.pv().mode == Mode::Kernel,
        Width::Narrow => st.regs.cs & 3 == 1,
    }
}

fn get_registers(vcpu: &Vcpu, st: &VcpuState, context: &mut VcpuGuestContext) {
    let pv = st.pv();
    let (f, r) = (&st.regs, &mut context.user_regs);
    (r.r15, r.r14, r.r13, r.r12) = (f.r15, f.r14, f.r13, f.r12);
    (r.rbp, r.rbx, r.r11, r.r10, r.r9, r.r8) = (f.rbp, f.rbx, f.r11, f.r10, f.r9, f.r8);
    (r.rax, r.rcx, r.rdx, r.rsi, r.rdi) = (f.rax, f.rcx, f.rdx, f.rsi, f.rdi);
    (r.rip, r.rsp) = (f.rip, f.rsp);
    (r.cs, r.ss) = (f.cs as u16, f.ss as u16);
    let masked = !vcpu.has_info() || vcpu.info.upcall_mask().load(Ordering::Relaxed) != 0;
    r.saved_upcall_mask = u8::from(masked);
    r.rflags = f.rflags & !(rflags::IF | rflags::IOPL) | u64::from(pv.iopl) << 12;
    if !masked {
        r.rflags |= rflags::IF;
    }
    let s = &pv.segments;
    (r.ds, r.es, r.fs, r.gs) = (s.ds, s.es, s.fs, s.gs);
    context.fs_base = s.fs_base;
    context.gs_base_kernel = s.gs_base_kernel;
    context.gs_base_user = s.gs_base_user;
}
