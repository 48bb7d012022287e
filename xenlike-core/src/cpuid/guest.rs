//! CPUID as a vCPU sees it: its domain's policy, and what depends on the vCPU's registers.

use guest_pv_abi::cpufeatureset::*;
use guest_pv_abi::cpuid::*;

use super::{LAST_FEATURE_LEAF, Leaf, Policies, Policy};
use crate::arch::cr::cr4;

/// The size in bytes of the legacy region and the header of an XSAVE area (SDM vol. 1 §13.4).
const XSAVE_MIN: u32 = 576;

/// How the guest executed CPUID.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// Its kernel, with the forced-emulation prefix.
    ByForce,
    /// Its kernel, by the bare instruction, which faults.
    KernelFault,
    /// Its user mode, by the bare instruction, which faults.
    User,
}

/// The role of a domain on the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// An ordinary guest, which sees only its policy.
    Guest,
    /// The hardware domain, whose kernel learns from CPUID what it reports to the core about the machine.
    Hardware,
}

/// The clock, as leaf 0x40000003 describes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Time {
    /// Sub-leaf 0, EAX: XEN_CPUID_TSC_* and whether RDTSCP may be used.
    pub flags: u32,
    /// Sub-leaf 0, EBX: XEN_CPUID_TSC_MODE_*.
    pub mode: u32,
    /// The frequency of the guest's TSC in kHz.
    pub guest_khz: u32,
    /// How often the domain has moved to another machine.
    pub incarnation: u32,
    /// The offset that is added to the machine's TSC.
    pub offset: u64,
    /// The conversion of ticks to nanoseconds: the multiplier, a 32-bit fraction.
    pub to_ns_mul: u32,
    /// The conversion of ticks to nanoseconds: the shift before the multiplication.
    pub to_ns_shift: i8,
    /// The frequency of the machine's TSC in kHz.
    pub host_khz: u32,
}

/// What the hypervisor's own leaves report about the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Host {
    /// The clock of the domain.
    pub time: Time,
    /// The number of bits that a machine address may need.
    pub address_bits: u32,
}

/// The properties of a vCPU on which CPUID depends.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// The policy of its domain.
    pub policy: &'a Policy,
    /// The policies of the machine.
    pub machine: &'a Policies,
    /// How it executed CPUID.
    pub asked: Asked,
    /// The role of its domain.
    pub role: Role,
    /// CR4 as the vCPU sees it.
    pub cr4: u64,
    /// Its XCR0; 0 until it has set one.
    pub xcr0: u64,
    /// Reports about the machine. A function, because few leaves need it.
    pub host: fn() -> Host,
}

impl View<'_> {
    /// The result of CPUID with `leaf` in EAX and `subleaf` in ECX.
    #[inline(always)] // so that for leaf 1 a view need not be built in memory
    pub fn leaf(&self, leaf: u32, subleaf: u32) -> Leaf {
        match leaf {
            1 => self.features(),
            // Domain 0's TSC is the machine's, as on Xen, so it has no scale of its own.
            0x4000_0003 if self.role == Role::Hardware => match subleaf {
                1 => Leaf::ZERO,
                _ => Leaf {
                    a: self.hypervisor_leaf(leaf, subleaf).a,
                    ..Leaf::ZERO
                },
            },
            0x4000_0000..=0x4000_01ff => self.hypervisor_leaf(leaf, subleaf),
            _ => self.adjusted(leaf, subleaf),
        }
    }

    fn kernel(&self) -> bool {
        self.asked != Asked::User
    }

    #[inline(never)] // keeps leaf 1, which guests ask for most, small
    fn adjusted(self, leaf: u32, subleaf: u32) -> Leaf {
        let policy = self.policy;
        let mut answer = policy.static_leaf(leaf, subleaf);
        match (leaf, subleaf) {
            (5, _) if self.sees_monitor() => return self.machine.raw.basic(5),
            (7, 0) if self.cr4 & cr4::PKE != 0 => answer.c |= bit(XEN_X86_FEATURE_OSPKE),
            (0xb, _) if policy.has(XEN_X86_FEATURE_X2APIC) => {
                answer.c = answer.c & !0xff | subleaf & 0xff
            }
            (0xd, 0) if policy.has(XEN_X86_FEATURE_XSAVE) => {
                answer.b = self.machine.raw.xstate_bytes(self.xcr0);
            }
            (0xd, 1) if policy.has(XEN_X86_FEATURE_XSAVEC) => {
                answer.b = self.machine.raw.xstate_bytes_compact(self.xcr0);
            }
            (0x8000_0001, _) if self.sees_mtrr() => {
                answer.d |= bit(XEN_X86_FEATURE_MTRR);
            }
            _ => {}
        }
        answer
    }

    #[inline(always)] // as for `leaf`
    fn features(&self) -> Leaf {
        let mut answer = self.policy.static_leaf(1, 0);
        answer.b &= 0x00ff_ffff;
        // A kernel that uses the prefix sees OSXSAVE whenever it may use XSAVE, because PV kernels rely on it.
        let has_xsave = self.policy.has(XEN_X86_FEATURE_XSAVE);
        if self.cr4 & cr4::OSXSAVE != 0 || (has_xsave && self.asked == Asked::ByForce) {
            answer.c |= bit(XEN_X86_FEATURE_OSXSAVE);
        }
        if self.sees_monitor() {
            answer.c |= bit(XEN_X86_FEATURE_MONITOR);
        }
        if self.role == Role::Hardware && self.kernel() {
            answer.c |= self.machine.raw.basic(1).c & bit(XEN_X86_FEATURE_EIST);
        }
        if self.sees_mtrr() {
            answer.d |= bit(XEN_X86_FEATURE_MTRR);
        }
        answer
    }

    /// Whether MONITOR is shown: the hardware domain's kernel learns from the bare instruction
    /// whether there are deep C-states.
    fn sees_monitor(&self) -> bool {
        let monitor = self.machine.raw.has(XEN_X86_FEATURE_MONITOR);
        self.role == Role::Hardware && self.asked == Asked::KernelFault && monitor
    }

    fn sees_mtrr(&self) -> bool {
        self.role == Role::Hardware && self.kernel() && self.machine.raw.has(XEN_X86_FEATURE_MTRR)
    }

    #[inline(never)] // as for `adjusted`
    fn hypervisor_leaf(self, leaf: u32, subleaf: u32) -> Leaf {
        let Host { time, address_bits } = (self.host)();
        let limit = match self.policy.hypervisor_limit & 0xff {
            0 => XEN_CPUID_MAX_NUM_LEAVES,
            limit => limit.clamp(2, XEN_CPUID_MAX_NUM_LEAVES),
        };
        let number = leaf.wrapping_sub(XEN_CPUID_FIRST_LEAF);
        if number > limit {
            return Leaf::ZERO;
        }
        match (number, subleaf) {
            (0, _) => Leaf {
                a: XEN_CPUID_FIRST_LEAF.wrapping_add(limit),
                b: XEN_CPUID_SIGNATURE_EBX,
                c: XEN_CPUID_SIGNATURE_ECX,
                d: XEN_CPUID_SIGNATURE_EDX,
            },
            (1, _) => Leaf {
                a: XEN_VERSION,
                ..Leaf::ZERO
            },
            (2, _) => Leaf {
                a: 1,
                b: XEN_MSR_BASE,
                c: XEN_CPUID_FEAT1_MMU_PT_UPDATE_PRESERVE_AD,
                d: 0,
            },
            (3, 0) => Leaf {
                a: time.flags,
                b: time.mode,
                c: time.guest_khz,
                d: time.incarnation,
            },
            (3, 1) => Leaf {
                a: time.offset as u32,
                b: (time.offset >> 32) as u32,
                c: time.to_ns_mul,
                d: i32::from(time.to_ns_shift) as u32,
            },
            (3, 2) => Leaf {
                a: time.host_khz,
                ..Leaf::ZERO
            },
            (5, 0) => Leaf {
                b: address_bits & XEN_CPUID_MACHINE_ADDRESS_WIDTH_MASK,
                ..Leaf::ZERO
            },
            _ => Leaf::ZERO,
        }
    }
}

/// Leaf 0x40000001: version 4.20, as in xen_version.
const XEN_VERSION: u32 = 4 << 16 | 20;
/// Leaf 0x40000002: the number of the first of Xen's MSRs.
pub const XEN_MSR_BASE: u32 = 0x4000_0000;

/// The bit of a feature in its word.
const fn bit(feature: u32) -> u32 {
    1 << (feature % 32)
}

/// The bits of the machine's CR4 that a PV guest sees.
const CR4_VISIBLE: u64 = cr4::PAE | cr4::MCE | cr4::PGE | cr4::OSFXSR | cr4::OSXMMEXCPT;

impl Policy {
    /// CR4 as a PV guest sees it, after it or the toolstack has asked for the value `wanted`.
    pub fn guest_cr4(&self, machine: u64, wanted: u64) -> u64 {
        let mut allowed = 0;
        for (bit, feature) in [
            (cr4::TSD, XEN_X86_FEATURE_TSC),
            (cr4::DE, XEN_X86_FEATURE_DE),
            (cr4::FSGSBASE, XEN_X86_FEATURE_FSGSBASE),
            (cr4::OSXSAVE, XEN_X86_FEATURE_XSAVE),
        ] {
            if self.has(feature) {
                allowed |= bit;
            }
        }
        machine & CR4_VISIBLE | wanted & allowed
    }

    /// A leaf as the policy contains it, without what depends on registers.
    #[inline]
    pub fn static_leaf(&self, leaf: u32, subleaf: u32) -> Leaf {
        let from =
            |leaves: &[Leaf], index: u32| leaves.get(index as usize).copied().unwrap_or(Leaf::ZERO);
        match leaf {
            0..=0xd if leaf > self.max_basic() => Leaf::ZERO,
            4 => from(&self.cache, subleaf),
            7 if subleaf > self.max_feature_subleaf().min(LAST_FEATURE_LEAF) => Leaf::ZERO,
            7 => from(&self.feat, subleaf),
            0xb => from(&self.topo, subleaf),
            0xd if !self.has(XEN_X86_FEATURE_XSAVE) => Leaf::ZERO,
            0xd => from(&self.xstate, subleaf),
            0..=0xd => from(&self.basic, leaf),
            0x8000_0000..=0x8000_ffff if leaf & 0xffff <= self.max_ext() => {
                from(&self.ext, leaf & 0xffff)
            }
            _ => Leaf::ZERO,
        }
    }

    /// The size in bytes of an XSAVE area in the standard format for the states in `xcr0`; 0 before XCR0 was set.
    pub fn xstate_bytes(&self, xcr0: u64) -> u32 {
        if xcr0 == 0 {
            return 0;
        }
        let states = self
            .xstate
            .iter()
            .enumerate()
            .skip(2)
            .filter(|(bit, _)| xcr0 >> bit & 1 != 0);
        let ends = states.map(|(_, leaf)| leaf.a.saturating_add(leaf.b));
        ends.fold(XSAVE_MIN, u32::max)
    }

    /// The size in bytes of an XSAVE area in the compact format for these states; 0 for no states.
    pub fn xstate_bytes_compact(&self, states: u64) -> u32 {
        if states == 0 {
            return 0;
        }
        let states = self
            .xstate
            .iter()
            .enumerate()
            .skip(2)
            .filter(|(bit, _)| states >> bit & 1 != 0);
        states.fold(XSAVE_MIN, |end, (_, leaf)| {
            let start = if leaf.c & 2 != 0 {
                end.saturating_add(63) & !63
            } else {
                end
            };
            start.saturating_add(leaf.a)
        })
    }
}
