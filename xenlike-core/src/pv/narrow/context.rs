//! A narrow vCPU's registers and tables, converted to and from the wide form, in which [`crate::pv::vcpu_context`] has
//! them. There, the words of the callbacks hold the code selector in their upper half, and CR3 is a machine address.

use alloc::boxed::Box;

use guest_pv_abi::Form;
use guest_pv_abi::arch_x86::narrow::{Callback, cr3_to_pfn, pfn_to_cr3};
use guest_pv_abi::arch_x86::{TrapInfo, VcpuGuestContext};
use guest_pv_abi::narrow;
use zerocopy::FromZeros;

use crate::kit::{Maddr, Mfn};

/// Converts to the wide form. `None` if there is no memory.
pub fn widen(from: &narrow::VcpuGuestContext) -> Option<Box<VcpuGuestContext>> {
    let mut to = VcpuGuestContext::new_box_zeroed().ok()?;
    to.fpu_ctxt = from.fpu_ctxt;
    to.flags = from.flags.into();
    let (r, w) = (&from.user_regs, &mut to.user_regs);
    (w.rbx, w.rcx, w.rdx) = (r.ebx.into(), r.ecx.into(), r.edx.into());
    (w.rsi, w.rdi, w.rbp) = (r.esi.into(), r.edi.into(), r.ebp.into());
    (w.rax, w.rip, w.rsp) = (r.eax.into(), r.eip.into(), r.esp.into());
    (w.rflags, w.cs, w.ss) = (r.eflags.into(), r.cs, r.ss);
    (w.ds, w.es, w.fs, w.gs) = (r.ds, r.es, r.fs, r.gs);
    for (to, from) in to.trap_ctxt.iter_mut().zip(&from.trap_ctxt) {
        *to = TrapInfo::widen(*from);
    }
    (to.ldt_base, to.ldt_ents) = (from.ldt_base.into(), from.ldt_ents.into());
    to.gdt_frames = from.gdt_frames.map(u64::from);
    to.gdt_ents = from.gdt_ents.into();
    (to.kernel_ss, to.kernel_sp) = (from.kernel_ss.into(), from.kernel_sp.into());
    let [cr0, _, cr2, cr3, cr4, ..] = from.ctrlreg;
    let root = Mfn(cr3_to_pfn(cr3).into()).maddr().0;
    to.ctrlreg = [cr0.into(), 0, cr2.into(), root, cr4.into(), 0, 0, 0];
    to.debugreg = from.debugreg.map(u64::from);
    to.event_callback_eip = from.event_callback.to_word();
    to.failsafe_callback_eip = from.failsafe_callback.to_word();
    to.vm_assist = from.vm_assist.into();
    Some(to)
}

/// Converts from the wide form. `None` if there is no memory.
pub fn narrowed(from: &VcpuGuestContext) -> Option<Box<narrow::VcpuGuestContext>> {
    let mut to = narrow::VcpuGuestContext::new_box_zeroed().ok()?;
    to.fpu_ctxt = from.fpu_ctxt;
    to.flags = from.flags as u32;
    let (w, r) = (&from.user_regs, &mut to.user_regs);
    (r.ebx, r.ecx, r.edx) = (w.rbx as u32, w.rcx as u32, w.rdx as u32);
    (r.esi, r.edi, r.ebp) = (w.rsi as u32, w.rdi as u32, w.rbp as u32);
    (r.eax, r.eip, r.esp) = (w.rax as u32, w.rip as u32, w.rsp as u32);
    (r.eflags, r.cs, r.ss) = (w.rflags as u32, w.cs, w.ss);
    (r.ds, r.es, r.fs, r.gs) = (w.ds, w.es, w.fs, w.gs);
    r.saved_upcall_mask = w.saved_upcall_mask;
    for (to, from) in to.trap_ctxt.iter_mut().zip(&from.trap_ctxt) {
        *to = from.narrow();
    }
    (to.ldt_base, to.ldt_ents) = (from.ldt_base as u32, from.ldt_ents as u32);
    to.gdt_frames = from.gdt_frames.map(|frame| frame as u32);
    to.gdt_ents = from.gdt_ents as u32;
    (to.kernel_ss, to.kernel_sp) = (from.kernel_ss as u32, from.kernel_sp as u32);
    to.ctrlreg = from.ctrlreg.map(|register| register as u32);
    if let Some(cr3) = to.ctrlreg.get_mut(3) {
        let [_, _, _, root, ..] = from.ctrlreg;
        *cr3 = pfn_to_cr3(Maddr(root).mfn().0 as u32);
    }
    to.debugreg = from.debugreg.map(|register| register as u32);
    to.event_callback = Callback::from_word(from.event_callback_eip);
    to.failsafe_callback = Callback::from_word(from.failsafe_callback_eip);
    to.vm_assist = from.vm_assist as u32;
    Some(to)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        let mut context = narrow::VcpuGuestContext::new_box_zeroed().unwrap();
        context.user_regs.eip = 0xc000_1234;
        context.user_regs.cs = 0xe019;
        context.trap_ctxt[14].address = 0x5678;
        context.trap_ctxt[14].cs = 0xe019;
        context.ctrlreg[3] = pfn_to_cr3(0x12_3456);
        context.event_callback.cs = 0xe019;
        context.event_callback.eip = 0xc000_0000;
        context.kernel_sp = u32::MAX;
        context.gdt_frames[15] = 0xff_ffff;
        let wide = widen(&context).unwrap();
        assert_eq!(wide.ctrlreg[3], 0x1_2345_6000);
        assert_eq!(wide.event_callback_eip, 0xe019_c000_0000);
        assert_eq!(*narrowed(&wide).unwrap(), *context);
    }
}
