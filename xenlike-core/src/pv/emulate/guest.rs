//! The vCPU that trapped, as the emulator sees it: its registers, memory, segments and CPUID.

use guest_pv_abi::Width;
use guest_pv_abi::cpuid::{XEN_CPUID_HOST_TSC_RELIABLE, XEN_CPUID_RDTSCP_INSTR_AVAIL};

use super::{segment, table};
use crate::arch::frame::{Mode, TrapFrame};
use crate::arch::{cpu, seg, time};
use crate::cpuid::guest::{Asked, Host, Role, Time, View};
use crate::cpuid::{self, Leaf, Policy, Vendor};
use crate::domain::{Ctx, Rights};
use crate::emul::privileged::Cpuid;
use crate::emul::{Access, Base, Bits, Guest, Owner, PageFault, Segment, SegmentName};
use crate::kit::lock::LockGuard;
use crate::kit::{PAGE_SHIFT, Vaddr};
use crate::mm::alloc;

/// The vCPU that trapped, with its domain's policy locked while the instruction is emulated.
pub struct Emulated<'a, 'b> {
    pub(super) ctx: &'a mut Ctx<'b>,
    /// For a trapped store into a page table: the table, and the page at which the guest sees it.
    pub(super) table: Option<table::Seen>,
    policy: LockGuard<'a, Policy>,
}

impl<'a, 'b: 'a> Emulated<'a, 'b> {
    /// Borrows the vCPU of `ctx` and locks its domain's CPUID policy.
    pub fn new(ctx: &'a mut Ctx<'b>) -> Self {
        let dom: &'b crate::domain::Domain = ctx.dom;
        Self {
            policy: dom.cpuid.lock(),
            table: None,
            ctx,
        }
    }
}

/// What the hypervisor's CPUID leaves tell about this machine. Only few leaves need it, so it is computed on demand.
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

/// The width of RAM's machine addresses, for which a domain has to have room in its tables.
fn address_bits() -> u32 {
    let last = alloc::end_of_ram().0.saturating_sub(1);
    u64::BITS
        .saturating_sub(last.leading_zeros())
        .saturating_add(PAGE_SHIFT)
}

impl Guest for Emulated<'_, '_> {
    fn frame(&mut self) -> &mut TrapFrame {
        self.ctx.regs
    }
    fn mode(&self) -> Mode {
        self.ctx.mode()
    }
    fn segment(&mut self, name: SegmentName) -> Option<Segment> {
        segment::of(self.ctx, name)
    }
    fn code_bits(&mut self) -> Option<Bits> {
        match self.ctx.st.pv().width {
            Width::Wide => Some(Bits::SixtyFour),
            Width::Narrow => Some(segment::of(self.ctx, SegmentName::Cs)?.bits),
        }
    }
    fn base(&self, which: Base) -> u64 {
        let bases = seg::bases();
        match which {
            Base::Fs => bases.fs,
            Base::Gs => bases.gs,
            Base::OtherGs => bases.shadow_gs,
        }
    }
    fn read(&mut self, at: Vaddr, into: &mut [u8]) -> Result<(), PageFault> {
        match self.ctx.guest().read_partly(into, at) {
            0 => Ok(()),
            left => Err(fault(at, into.len(), left, Access::Read)),
        }
    }
    fn write(&mut self, at: Vaddr, from: &[u8]) -> Result<(), PageFault> {
        match self.ctx.guest().write_partly(at, from) {
            0 => Ok(()),
            left => Err(fault(at, from.len(), left, Access::Write)),
        }
    }
    fn preempted(&self) -> bool {
        self.ctx.preempted()
    }
}

impl Owner for Emulated<'_, '_> {
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
}

/// The CPUID leaf with AMD's features.
const EXTENDED_FEATURES: u32 = 0x8000_0001;
/// Bits of EDX there: the CPU has long mode, which a narrow guest can't enter, and SYSCALL, which Intel's CPUs have in
/// long mode alone.
const LONG_MODE: u32 = 1 << 29;
const SYSCALL: u32 = 1 << 11;

impl Cpuid for Emulated<'_, '_> {
    #[inline(always)] // so that the view stays in registers
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
        let mut answer = view.leaf(leaf, subleaf);
        if self.ctx.st.pv().width == Width::Narrow && leaf == EXTENDED_FEATURES {
            answer.d &= !match self.policy.vendor() {
                Vendor::Amd => LONG_MODE,
                Vendor::Intel | Vendor::Other => LONG_MODE | SYSCALL,
            };
        }
        answer
    }
}

/// The fault of a copy of `bytes` bytes of which `left` were not copied.
fn fault(at: Vaddr, bytes: usize, left: usize, access: Access) -> PageFault {
    let done = bytes.saturating_sub(left) as u64;
    PageFault {
        at: Vaddr(at.0.wrapping_add(done)),
        access,
    }
}
