//! The vCPU that trapped, as the emulator sees it.

use guest_pv_abi::cpuid::{XEN_CPUID_HOST_TSC_RELIABLE, XEN_CPUID_RDTSCP_INSTR_AVAIL};
use guest_pv_abi::xen::VMASST_TYPE_ARCHITECTURAL_IOPL;

use super::{segment, table};
use crate::arch::frame::{Mode, TrapFrame};
use crate::arch::{cpu, cr, fpu, guest_choice, msr, pci, port, seg, time, tlb};
use crate::cpuid::guest::{Asked, Host, Role, Time, View};
use crate::cpuid::{self, Leaf, Policy, VcpuMsrs};
use crate::domain::{Ctx, Rights, debug};
use crate::emul::{
    Access, Base, Denied, Guest, PageFault, Segment, SegmentName, TaskSwitched, Width,
};
use crate::kit::lock::LockGuard;
use crate::kit::{Lock, PAGE_SHIFT, Rank, Vaddr};
use crate::mm::{alloc, guest_copy};
use crate::ports::Ports;

const CMOS_INDEX: u16 = 0x70;
const CMOS_DATA: u16 = 0x71;

/// An index register and the data behind it are two accesses: one user at a time.
static INDEXED_PORTS: Lock<()> = Lock::new(Rank::Cmos, ());

/// The vCPU that trapped.
pub struct Emulated<'a, 'b> {
    pub(super) ctx: &'a mut Ctx<'b>,
    /// The page table that the trapped store is to, and the page where the guest sees it.
    pub(super) table: Option<table::Seen>,
    policy: LockGuard<'a, Policy>,
}

impl<'a, 'b: 'a> Emulated<'a, 'b> {
    /// That of `ctx`.
    pub fn new(ctx: &'a mut Ctx<'b>) -> Self {
        let dom: &'b crate::domain::Domain = ctx.dom;
        Self {
            policy: dom.cpuid.lock(),
            table: None,
            ctx,
        }
    }
}

/// What the hypervisor's CPUID leaves tell of this machine.
fn host() -> Host {
    Host {
        time: clock(),
        address_bits: address_bits(),
    }
}

fn clock() -> Time {
    let scale = time::tsc_scale();
    let reliable = if scale.stable {
        XEN_CPUID_HOST_TSC_RELIABLE
    } else {
        0
    };
    let rdtscp = if cpu::features().rdtscp {
        XEN_CPUID_RDTSCP_INSTR_AVAIL
    } else {
        0
    };
    Time {
        flags: reliable | rdtscp,
        mode: 0,
        guest_khz: scale.khz as u32,
        incarnation: 0,
        offset: 0,
        to_ns_mul: scale.mul,
        to_ns_shift: scale.shift,
        host_khz: scale.khz as u32,
    }
}

/// Width of the machine addresses of RAM: what a domain's tables have to hold.
fn address_bits() -> u32 {
    let last = alloc::end_of_ram().0.saturating_sub(1);
    u64::BITS
        .saturating_sub(last.leading_zeros())
        .saturating_add(PAGE_SHIFT)
}

fn input(port: u16, width: Width) -> u32 {
    match width {
        Width::Byte => u32::from(port::inb(port)),
        Width::Word => u32::from(port::inw(port)),
        Width::Dword => port::inl(port),
    }
}

fn output(port: u16, width: Width, value: u32) {
    match width {
        Width::Byte => port::outb(port, value as u8),
        Width::Word => port::outw(port, value as u16),
        Width::Dword => port::outl(port, value),
    }
}

impl Guest for Emulated<'_, '_> {
    fn frame(&mut self) -> &mut TrapFrame {
        self.ctx.regs
    }
    fn mode(&self) -> Mode {
        self.ctx.st.pv().mode
    }
    fn segment(&mut self, name: SegmentName) -> Option<Segment> {
        segment::of(self.ctx, name)
    }
    fn read(&mut self, at: Vaddr, into: &mut [u8]) -> Result<(), PageFault> {
        match guest_copy::copy_from_guest_partly(into, at) {
            0 => Ok(()),
            left => Err(fault(at, into.len(), left, Access::Read)),
        }
    }
    fn write(&mut self, at: Vaddr, from: &[u8]) -> Result<(), PageFault> {
        match guest_copy::copy_to_guest_partly(at, from) {
            0 => Ok(()),
            left => Err(fault(at, from.len(), left, Access::Write)),
        }
    }
    fn preempted(&self) -> bool {
        self.ctx.preempted()
    }

    fn role(&self) -> Role {
        if self.ctx.dom.rights() == Rights::Control {
            Role::Hardware
        } else {
            Role::Guest
        }
    }
    fn policy(&self) -> &Policy {
        &self.policy
    }
    #[inline(always)] // so that nothing of it need be put in memory
    fn cpuid(&mut self, leaf: u32, subleaf: u32, asked: Asked) -> Leaf {
        let view = View {
            policy: &self.policy,
            machine: cpuid::machine(),
            asked,
            role: self.role(),
            cr4: self.ctx.st.pv().cr4,
            xcr0: self.ctx.st.xcr0,
            host,
        };
        view.leaf(leaf, subleaf)
    }

    fn iopl_suffices(&self) -> bool {
        let privilege = match self.mode() {
            Mode::User => 3,
            Mode::Kernel if self.ctx.dom.assists(VMASST_TYPE_ARCHITECTURAL_IOPL) => 0,
            Mode::Kernel => 1,
        };
        privilege <= self.ctx.st.pv().iopl
    }
    fn bitmap_allows(&mut self, port: u16, width: Width) -> bool {
        let (bitmap, ports) = self.ctx.st.pv().iobmp;
        let end = u32::from(port).saturating_add(u32::from(width.bytes()));
        // Bytes that can't be read count as ones: no access.
        let closed = |port: u32| {
            let byte = Vaddr(bitmap.wrapping_add(u64::from(port / 8)));
            table::kernel_byte(self.ctx.st.pv(), byte)
                .is_none_or(|byte| byte >> (port % 8) & 1 != 0)
        };
        end < ports && !(u32::from(port)..end).any(closed)
    }
    fn holds_ports(&self, port: u16, width: Width) -> bool {
        let first = u64::from(port);
        let last = first
            .saturating_add(u64::from(width.bytes()))
            .saturating_sub(1);
        self.ctx.dom.settings.lock().ports.contains(first..=last)
    }
    fn port_in(&mut self, port: u16, width: Width) -> u32 {
        input(port, width)
    }
    fn port_out(&mut self, port: u16, width: Width, value: u32) {
        output(port, width, value);
    }
    fn with_ports<R>(&mut self, act: impl FnOnce(&mut Ports) -> R) -> R {
        act(&mut self.ctx.dom.settings.lock().pc)
    }
    fn pci_read(&mut self, address: u32, offset: u16, width: Width) -> Option<u32> {
        let offset = offset as u8;
        Some(match width {
            Width::Byte => u32::from(pci::read8(address, offset)),
            Width::Word => u32::from(pci::read16(address, offset)),
            Width::Dword => pci::read32(address, offset),
        })
    }
    fn pci_write(&mut self, address: u32, offset: u16, width: Width, value: u32) {
        let offset = offset as u8;
        match width {
            Width::Byte => pci::write8(address, offset, value as u8),
            Width::Word => pci::write16(address, offset, value as u16),
            Width::Dword => pci::write32(address, offset, value),
        }
    }
    fn cmos_read(&mut self, index: u8) -> u8 {
        let _one_user = INDEXED_PORTS.lock();
        port::outb(CMOS_INDEX, index);
        port::inb(CMOS_DATA)
    }
    fn cmos_write(&mut self, index: u8, value: u8) {
        let _one_user = INDEXED_PORTS.lock();
        port::outb(CMOS_INDEX, index);
        port::outb(CMOS_DATA, value);
    }

    fn cr0(&self) -> u64 {
        self.ctx.st.pv().cr0()
    }
    fn set_task_switched(&mut self, ts: TaskSwitched) {
        match ts {
            TaskSwitched::Set => {
                self.ctx.st.pv_mut().task_switched = true;
                cr::set_ts();
            }
            TaskSwitched::Clear => {
                self.ctx.st.pv_mut().task_switched = false;
                cr::clts();
            }
        }
    }
    fn cr2(&self) -> u64 {
        self.ctx.st.pv().cr2
    }
    fn set_cr2(&mut self, value: u64) {
        self.ctx.st.pv_mut().cr2 = value;
        self.ctx.vcpu.info.set_cr2(value);
    }
    fn cr3(&self) -> u64 {
        self.ctx.st.pv().kernel_l4().map_or(0, |l4| l4.maddr().0)
    }
    fn set_cr3(&mut self, value: u64) -> Result<(), Denied> {
        // The same table again is the way to flush; another one is MMUEXT_NEW_BASEPTR's affair.
        if value & !0xfff != self.cr3() {
            return Err(Denied::Refused);
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
        guest_choice::set_cr4(value);
    }
    fn debug_register(&self, number: u8) -> Option<u64> {
        let index = debug::index(number.into(), self.ctx.st.pv().cr4)?;
        self.ctx.st.debug.get(index).copied()
    }
    fn set_debug_register(&mut self, number: u8, value: u64) -> Result<(), Denied> {
        debug::set(self.ctx.st, number.into(), value).map_err(|_| Denied::Refused)
    }
    fn io_breakpoints(&self, port: u16, width: Width) -> u64 {
        debug::io_hits(&self.ctx.st.debug, port, width.bytes())
    }
    fn set_xcr0(&mut self, value: u64) {
        self.ctx.st.xcr0 = value;
        fpu::set_xcr0(value);
    }
    fn flush_caches(&mut self) {
        guest_choice::flush_caches();
    }
    fn may_flush_caches(&self) -> bool {
        self.role() == Role::Hardware || !self.ctx.dom.settings.lock().iomem.is_empty()
    }

    fn base(&self, which: Base) -> u64 {
        let bases = seg::bases();
        match which {
            Base::Fs => bases.fs,
            Base::Gs => bases.gs,
            Base::OtherGs => bases.shadow_gs,
        }
    }
    fn set_base(&mut self, which: Base, value: u64) {
        let register = match which {
            Base::Fs => seg::Base::Fs,
            Base::Gs => seg::Base::Gs,
            Base::OtherGs => seg::Base::ShadowGs,
        };
        seg::set_base(register, value);
    }
    fn msrs(&mut self) -> &mut VcpuMsrs {
        &mut self.ctx.st.msrs
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
    fn now_ns(&self) -> u64 {
        time::now_ns()
    }
    fn write_hypercall_page(&mut self, _frame: u64) -> Result<(), Denied> {
        // PV guests get theirs from their builder (XEN_DOMCTL_hypercall_init).
        Err(Denied::Refused)
    }
}

fn fault(at: Vaddr, bytes: usize, left: usize, access: Access) -> PageFault {
    let done = bytes.saturating_sub(left) as u64;
    PageFault {
        at: Vaddr(at.0.wrapping_add(done)),
        access,
    }
}
