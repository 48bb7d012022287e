//! Control, debug and model-specific registers for the emulator.

use guest_pv_abi::Width;
use guest_pv_abi::arch_x86::narrow::pfn_to_cr3;

use super::guest::Emulated;
use crate::arch::{cpu, cr, fpu, guest_choice, msr, seg, time, tlb};
use crate::cpuid::VcpuMsrs;
use crate::cpuid::guest::Role;
use crate::domain::debug;
use crate::emul::control::Control;
use crate::emul::msr::Msrs;
use crate::emul::{Base, Denied, Owner};

impl Control for Emulated<'_, '_> {
    fn cr0(&self) -> u64 {
        self.ctx.st.pv().cr0()
    }
    fn set_cr0(&mut self, value: u64) {
        self.ctx.st.pv_mut().set_cr0(value);
    }
    fn cr2(&self) -> u64 {
        self.ctx.st.pv().cr2
    }
    fn set_cr2(&mut self, value: u64) {
        self.ctx.st.pv_mut().cr2 = value;
        match self.ctx.st.pv().width {
            Width::Wide => self.ctx.vcpu.info.set_cr2(value),
            Width::Narrow => self.ctx.vcpu.info.set_narrow_cr2(value as u32),
        }
    }
    fn cr3(&self) -> u64 {
        let pv = self.ctx.st.pv();
        let root = pv.kernel_l4().unwrap_or_default();
        match pv.width {
            Width::Wide => root.maddr().0,
            Width::Narrow => pfn_to_cr3(root.0 as u32).into(),
        }
    }
    fn set_cr3(&mut self, value: u64) -> Result<(), Denied> {
        // A kernel that loads the same table again wants to flush. Another table needs MMUEXT_NEW_BASEPTR.
        let flags = match self.ctx.st.pv().width {
            Width::Wide => 0xfff,
            Width::Narrow => 0,
        };
        if value & !flags != self.cr3() {
            return Err(Denied);
        }
        tlb::flush_local();
        Ok(())
    }
    fn cr4(&self) -> u64 {
        self.ctx.st.pv().cr4
    }
    fn machine_cr4(&self) -> u64 {
        cr::base_cr4(&cpu::features())
    }
    fn set_cr4(&mut self, value: u64) {
        self.ctx.st.pv_mut().cr4 = value;
        guest_choice::set_cr4(value, self.ctx.st.pv().width);
    }
    fn set_xcr0(&mut self, value: u64) {
        self.ctx.st.xcr0 = value;
        fpu::set_xcr0(value);
    }
    fn debug_register(&self, number: u8) -> Option<u64> {
        let index = debug::index(number.into(), self.ctx.st.pv().cr4)?;
        self.ctx.st.debug.get(index).copied()
    }
    fn set_debug_register(&mut self, number: u8, value: u64) -> Result<(), Denied> {
        debug::set(self.ctx.st, number.into(), value).map_err(|_| Denied)
    }
    fn flush_caches(&mut self) {
        let may = self.role() == Role::Hardware || !self.ctx.dom.pages.io_memory.lock().is_empty();
        if may {
            guest_choice::flush_caches();
        }
    }
}

impl Msrs for Emulated<'_, '_> {
    fn msrs(&mut self) -> &mut VcpuMsrs {
        &mut self.ctx.st.msrs
    }
    fn set_base(&mut self, which: Base, value: u64) {
        let register = match which {
            Base::Fs => seg::Base::Fs,
            Base::Gs => seg::Base::Gs,
            Base::OtherGs => seg::Base::ShadowGs,
        };
        seg::set_base(register, value);
    }
    fn load_tsc_aux(&mut self, value: u32) {
        guest_choice::set_tsc_aux(value);
    }
    fn machine_msr(&mut self, number: u32) -> Option<u64> {
        msr::read_safe(number)
    }
    fn prediction_barrier(&mut self) {
        guest_choice::prediction_barrier();
    }
    fn is_first_vcpu(&self) -> bool {
        self.ctx.vcpu.id.0 == 0
    }
    fn tsc(&self) -> u64 {
        time::stamp().0
    }
    fn has_long_mode(&self) -> bool {
        self.ctx.st.pv().width == Width::Wide
    }
}
