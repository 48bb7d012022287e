//! Sets up the ways into ring 0 on each CPU: the IDT and the entry points of SYSCALL and SYSENTER.
#![expect(unsafe_code, reason = "loads the IDT and the entry MSRs")]

use crate::kit::atomic::Ordering;

use guest_pv_abi::arch_x86::narrow::HYPERCALL_VECTOR;

use super::stubs::{
    SYSCALL_SCRATCH, SYSCALL_STUB_BYTES, VECTOR_STUB_BYTES, syscall_stubs, syscall32_stubs,
    sysenter_stubs, vector_stubs,
};
use super::traps::SYSCALL_GATE;
use crate::arch::cpu::{Vendor, features};
use crate::arch::desc::{self, FLAT_RING3_CS32, Gate, HYPERVISOR_CS, Idt};
use crate::arch::percpu::Ist;
use crate::arch::{exception, msr, percpu, rflags};
use crate::kit::{CpuId, Once};

static IDT: Once<Idt> = Once::new();

/// STAR: SYSCALL loads CS from bits 32 to 47, SYSRET from bits 48 to 63 (APM vol. 2 §6.1.1).
const STAR: u64 = (FLAT_RING3_CS32 as u64) << 48 | (HYPERVISOR_CS as u64) << 32;

fn idt() -> &'static Idt {
    IDT.call_once(|| {
        let stubs = &raw const vector_stubs as u64;
        let mut gates = [Gate::default(); 256];
        for (number, gate) in (0_u8..).zip(&mut gates) {
            let stub = stubs + u64::from(number) * VECTOR_STUB_BYTES as u64;
            *gate = Gate::interrupt(stub, stack(number), privilege(number));
        }
        Idt(gates)
    })
}

/// Returns the IST index of a vector that needs a stack of its own, and otherwise 0. See docs/entry.md
/// for the reasons.
fn stack(number: u8) -> u8 {
    match number {
        exception::DB => Ist::Debug as u8,
        exception::NMI => Ist::Nmi as u8,
        exception::DF => Ist::DoubleFault as u8,
        exception::MC => Ist::MachineCheck as u8,
        _ => 0,
    }
}

/// Returns the ring from which `int n` may use a gate: 3 for int3, into and the system call gate, 1 for the hypercalls
/// of a narrow guest's kernel.
fn privilege(number: u8) -> u8 {
    match number {
        3 | 4 | SYSCALL_GATE => 3,
        HYPERCALL_VECTOR => 1,
        _ => 0,
    }
}

/// Sets up the ways in on this CPU, which uses its per-CPU block already.
pub fn init_cpu(cpu: CpuId) {
    super::harden::init_cpu();
    let index = cpu.index();
    if let (Some(scratch), Some(end)) = (SYSCALL_SCRATCH.get(index), percpu::frame_end(cpu)) {
        scratch.stack.store(end.0, Ordering::Release);
    }
    let stub = |first: *const u8| first as u64 + (index * SYSCALL_STUB_BYTES) as u64;
    // SAFETY: the gates and the entry points are stubs that were written for this purpose.
    unsafe {
        desc::load_idt(idt());
        msr::write(msr::nr::STAR, STAR);
        msr::write(msr::nr::LSTAR, stub(&raw const syscall_stubs));
        msr::write(msr::nr::CSTAR, stub(&raw const syscall32_stubs));
        msr::write(msr::nr::FMASK, rflags::SYSCALL_CLEARS);
        if features().vendor == Vendor::Intel {
            msr::write(msr::nr::SYSENTER_CS, u64::from(HYPERVISOR_CS));
            msr::write(msr::nr::SYSENTER_ESP, 0);
            msr::write(msr::nr::SYSENTER_EIP, stub(&raw const sysenter_stubs));
        } else {
            // AMD's CPUs have no SYSENTER in long mode. A null CS makes it raise #GP in all modes.
            msr::write(msr::nr::SYSENTER_CS, 0);
        }
    }
}
