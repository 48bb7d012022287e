//! RDMSR and WRMSR: the MSRs that PV guests may use. Any other raises #GP, as on Xen.

use guest_pv_abi::cpufeatureset::*;

use super::operand::mask;
use super::privileged::Step;
use super::{Base, Denied, Guest, Owner};
use crate::cpuid::guest::{Role, XEN_MSR_BASE};
use crate::cpuid::{VcpuMsrs, Vendor};
use crate::kit::Vaddr;

/// The PAT of Xen's public ABI: WB, WT, UC-, UC, WC, WP, UC, UC.
pub const PAT: u64 = 0x0000_0501_0007_0406;
const APIC_BASE_ENABLED: u64 = 0xfee0_0000 | 1 << 11;
const APIC_BASE_FIRST: u64 = 1 << 8;
/// Bits of EFER: the CPU has SYSCALL, and no-execute pages.
const EFER_SCE: u64 = 1;
const EFER_NXE: u64 = 1 << 11;
/// Bits of EFER: LME and LMA, long mode.
const EFER_LONG_MODE: u64 = 1 << 8 | 1 << 10;
/// The number of banks of the virtual machine check architecture.
const MCE_BANKS: u64 = 2;
/// MCG_CAP: interrupts for corrected errors, threshold-based error status, software error recovery.
const MCG_INTEL: u64 = 1 << 10 | 1 << 11 | 1 << 24;
/// Bits of MISC_ENABLE that read as 0: performance monitoring, MONITOR.
const MISC_HIDDEN: u64 = 1 << 7 | 1 << 18;
/// Bits of MISC_ENABLE that read as 1: no branch trace store, no PEBS, no xTPR messages.
const MISC_SHOWN: u64 = 1 << 11 | 1 << 12 | 1 << 23;
const PLATFORM_INFO_CPUID_FAULTING: u64 = 1 << 31;
/// PRED_CMD: issue an indirect branch prediction barrier.
const IBPB: u64 = 1;
/// DE_CFG: LFENCE serialises dispatch.
const LFENCE_SERIALISES: u64 = 1 << 1;

/// The MSRs of a vCPU, and what they need of the machine.
pub trait Msrs: Guest + Owner {
    /// Returns the vCPU's own MSRs.
    fn msrs(&mut self) -> &mut VcpuMsrs;
    /// Sets the base of FS or GS to a canonical address.
    fn set_base(&mut self, which: Base, value: u64);
    /// Loads TSC_AUX into this CPU.
    fn load_tsc_aux(&mut self, value: u32);
    /// Reads an MSR of the machine. `None` if the CPU doesn't have it.
    fn machine_msr(&mut self, number: u32) -> Option<u64>;
    /// Issues an indirect branch prediction barrier (PRED_CMD).
    fn prediction_barrier(&mut self);
    /// Whether the vCPU is the domain's first one.
    fn is_first_vcpu(&self) -> bool;
    /// Returns the TSC that the guest sees.
    fn tsc(&self) -> u64;
    /// Whether the guest's kernel runs in long mode. One that doesn't has no MSRs for the bases of FS and GS: those of
    /// the CPU are not its own.
    fn has_long_mode(&self) -> bool;
}

/// The vendor of the CPU that the guest sees, by which some MSRs exist.
fn vendor(guest: &impl Msrs) -> Vendor {
    guest.policy().vendor()
}

pub(super) fn rdmsr(guest: &mut impl Msrs) -> Step {
    let number = guest.frame().rcx as u32;
    match read(guest, number) {
        Some(value) => {
            let frame = guest.frame();
            (frame.rax, frame.rdx) = (value & mask(4), value >> 32);
            Step::Retire
        }
        None => Step::GENERAL_PROTECTION,
    }
}

pub(super) fn wrmsr(guest: &mut impl Msrs) -> Step {
    let frame = guest.frame();
    let (number, value) = (frame.rcx as u32, frame.rdx << 32 | frame.rax & mask(4));
    match write(guest, number, value) {
        Ok(()) => Step::Retire,
        Err(Denied) => Step::GENERAL_PROTECTION,
    }
}

/// Reads an MSR as the guest sees it; nothing if it has none of that number.
pub fn read(guest: &mut impl Msrs, number: u32) -> Option<u64> {
    match number {
        0x10 => Some(guest.tsc()),
        0x1b => {
            let first = if guest.is_first_vcpu() {
                APIC_BASE_FIRST
            } else {
                0
            };
            Some(APIC_BASE_ENABLED | first)
        }
        // The microcode revision
        0x8b => guest.machine_msr(number),
        0xce => Some(guest.policy().platform_info & PLATFORM_INFO_CPUID_FAULTING),
        0x10a if guest.policy().has(XEN_X86_FEATURE_ARCH_CAPS) => {
            let [low, high] = guest.policy().arch_caps;
            Some(u64::from(low) | u64::from(high) << 32)
        }
        0x140 => Some(guest.msrs().misc_features),
        // The first two are machine check registers of the Pentium.
        0 | 1 | 0x179..=0x17b | 0x280..=0x29f | 0x400..=0x47f => Some(machine_check(guest, number)),
        0x1a0 => {
            let value = guest.machine_msr(number)?;
            Some(value & !MISC_HIDDEN | MISC_SHOWN)
        }
        0x277 => Some(PAT),
        // IA32_PERF_CAPABILITIES: none
        0x345 => Some(0),
        XEN_MSR_BASE => Some(0),
        0xc000_0080 => {
            let value = guest.machine_msr(number)?;
            Some(value & efer_visible(guest))
        }
        0xc000_0100..=0xc000_0102 => Some(guest.base(base(guest, number).ok()?)),
        0xc000_0103 if guest.policy().has_tsc_aux() => Some(u64::from(guest.msrs().tsc_aux)),
        _ => match vendor(guest) {
            Vendor::Intel => read_intel(guest, number),
            Vendor::Amd => read_amd(guest, number),
            Vendor::Other => None,
        },
    }
}

/// The bits of EFER that the guest sees. Outside of long mode only AMD's CPUs have SYSCALL.
fn efer_visible(guest: &impl Msrs) -> u64 {
    if guest.has_long_mode() {
        return EFER_SCE | EFER_LONG_MODE | EFER_NXE;
    }
    match vendor(guest) {
        Vendor::Amd => EFER_SCE | EFER_NXE,
        Vendor::Intel | Vendor::Other => EFER_NXE,
    }
}

/// The base in the MSR of this number, if the guest has that MSR.
fn base(guest: &impl Msrs, number: u32) -> Result<Base, Denied> {
    match number {
        _ if !guest.has_long_mode() => Err(Denied),
        0xc000_0100 => Ok(Base::Fs),
        0xc000_0101 => Ok(Base::Gs),
        0xc000_0102 => Ok(Base::OtherGs),
        _ => Err(Denied),
    }
}

/// Reads a register of the machine check architecture. The guest sees two banks that never report an error.
fn machine_check(guest: &impl Msrs, number: u32) -> u64 {
    match number {
        0x179 if vendor(guest) == Vendor::Intel => MCG_INTEL | MCE_BANKS,
        0x179 => MCE_BANKS,
        // The control registers of the two banks: everything is enabled.
        0x400 | 0x404 => u64::MAX,
        _ => 0,
    }
}

fn read_intel(guest: &mut impl Msrs, number: u32) -> Option<u64> {
    match number {
        // IA32_PLATFORM_ID
        0x17 => guest.machine_msr(number),
        // IA32_FEATURE_CONTROL: locked, with nothing enabled
        0x3a => Some(1),
        // Performance counters and event selectors, frequency and temperature: all read as 0.
        0xc1..=0xc8 | 0x186..=0x18d | 0x309..=0x30b | 0x38d..=0x390 | 0x198 | 0x199 | 0x19c => {
            Some(0)
        }
        _ => None,
    }
}

fn read_amd(guest: &mut impl Msrs, number: u32) -> Option<u64> {
    match number {
        // Performance counters, P-states, HWCR: all read as 0.
        0xc001_0000..=0xc001_0007 | 0xc001_0200..=0xc001_020b => Some(0),
        0xc001_0015 | 0xc001_0041 | 0xc001_0042 | 0xc001_0061..=0xc001_006b => Some(0),
        0xc001_1029 => Some(LFENCE_SERIALISES),
        // The memory layout and the PCI configuration window, for the hardware domain only
        0xc001_0010
        | 0xc001_0016..=0xc001_001a
        | 0xc001_001d
        | 0xc001_001f
        | 0xc001_0058
        | 0xc001_0112
        | 0xc001_0113
            if guest.role() == Role::Hardware =>
        {
            guest.machine_msr(number)
        }
        _ => None,
    }
}

/// Writes an MSR for the guest.
pub fn write(guest: &mut impl Msrs, number: u32, value: u64) -> Result<(), Denied> {
    let unchanged = |now: Option<u64>| {
        if now == Some(value) {
            Ok(())
        } else {
            Err(Denied)
        }
    };
    match number {
        0xc000_0100..=0xc000_0102 => {
            let which = base(guest, number)?;
            set_base(guest, which, value)
        }
        0xc000_0103 if guest.policy().has_tsc_aux() => {
            let value = u32::try_from(value).map_err(|_| Denied)?;
            guest.msrs().tsc_aux = value;
            guest.load_tsc_aux(value);
            Ok(())
        }
        0x49 if guest.policy().has(XEN_X86_FEATURE_IBPB) && value & !IBPB == 0 => {
            if value != 0 {
                guest.prediction_barrier();
            }
            Ok(())
        }
        // On Intel a zero is written before the microcode revision is read.
        0x8b if value == 0 && vendor(guest) == Vendor::Intel => Ok(()),
        0x140 => {
            if value & !guest.policy().misc_features_allowed() != 0 {
                return Err(Denied);
            }
            guest.msrs().misc_features = value;
            Ok(())
        }
        // Machine check: enabling and clearing registers that never report anything
        0 | 1 | 0x17a | 0x17b | 0x280..=0x29f | 0x400..=0x47f => Ok(()),
        // These may be written with the value that they have.
        0x1b | 0x1a0 | 0x277 | 0xc000_0080 => {
            let now = read(guest, number);
            unchanged(now)
        }
        // MPERF and APERF: writes are ignored.
        0xe7 | 0xe8 => Ok(()),
        _ if is_ignored(vendor(guest), number) => Ok(()),
        _ => Err(Denied),
    }
}

/// Whether writes are ignored: performance counters, and controls of power and performance.
fn is_ignored(vendor: Vendor, number: u32) -> bool {
    match vendor {
        Vendor::Intel => {
            matches!(number, 0xc1..=0xc8 | 0x186..=0x18d | 0x309..=0x30b | 0x38d..=0x390 | 0x199 | 0x19a | 0x1b0)
        }
        Vendor::Amd => matches!(
            number,
            0xc001_0000..=0xc001_0007
                | 0xc001_0015
                | 0xc001_001f
                | 0xc001_0041
                | 0xc001_0042
                | 0xc001_0058
                | 0xc001_0061..=0xc001_006b
                | 0xc001_0200..=0xc001_020b
                | 0xc001_1029
        ),
        Vendor::Other => false,
    }
}

fn set_base(guest: &mut impl Msrs, which: Base, value: u64) -> Result<(), Denied> {
    if !Vaddr(value).is_canonical() {
        return Err(Denied);
    }
    guest.set_base(which, value);
    Ok(())
}
