//! A policy as the toolstack's list of leaves and MSRs (XEN_SYSCTL_get_cpu_policy and the domctls for policies).

use guest_pv_abi::arch_x86::{CpuidLeaf, MsrEntry};

use super::{
    BASIC_LEAVES, CACHE_LEAVES, EXTENDED_LEAVES, FEATURE_LEAVES, Leaf, Policy, TOPOLOGY_LEAVES,
    XSTATE_LEAVES,
};

/// The sub-leaf of a leaf that has none (XEN_CPUID_NO_SUBLEAF).
pub const NO_SUBLEAF: u32 = 0xffff_ffff;
/// The most leaves that a policy can be written as, which a caller can query. Four basic leaves are written as their
/// sub-leaves, and two hypervisor leaves are added.
pub const MAX_LEAVES: u32 = (BASIC_LEAVES - 4
    + CACHE_LEAVES
    + FEATURE_LEAVES
    + TOPOLOGY_LEAVES
    + XSTATE_LEAVES
    + EXTENDED_LEAVES
    + 2) as u32;
/// The number of MSRs that a policy is written as.
pub const MAX_MSRS: u32 = 2;

const PLATFORM_INFO: u32 = 0xce;
const ARCH_CAPABILITIES: u32 = 0x10a;
const CPUID_FAULTING: u64 = 1 << 31;

/// Why a policy that the toolstack sent is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The leaf doesn't exist or may not be set (ERANGE).
    UnknownLeaf {
        /// The number of the leaf (EAX).
        leaf: u32,
        /// The number of the sub-leaf (ECX).
        subleaf: u32,
    },
    /// The leaf asks for more than the guest may have (EINVAL).
    BadLeaf {
        /// The number of the leaf (EAX).
        leaf: u32,
        /// The number of the sub-leaf (ECX).
        subleaf: u32,
    },
    /// The policy has no such MSR (ERANGE).
    UnknownMsr(u32),
    /// The MSR can't have this value (EINVAL, or EOVERFLOW if it has more bits than the policy).
    BadMsr(u32),
}

impl Policy {
    /// Passes every leaf to `out`, in Xen's order and with Xen's sub-leaves; stops at the first error.
    pub fn write_leaves<E>(
        &self,
        mut out: impl FnMut(CpuidLeaf) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut put = |leaf: u32, subleaf: u32, Leaf { a, b, c, d }: Leaf| {
            out(CpuidLeaf {
                leaf,
                subleaf,
                a,
                b,
                c,
                d,
            })
        };
        for (leaf, value) in (0..=self.max_basic()).zip(&self.basic) {
            match leaf {
                4 => put_until_empty(&mut put, 4, &self.cache, |leaf| leaf.a & 0x1f == 0)?,
                7 => {
                    for (subleaf, value) in (0..=self.max_feature_subleaf()).zip(&self.feat) {
                        put(7, subleaf, *value)?;
                    }
                }
                0xb => put_until_empty(&mut put, 0xb, &self.topo, |leaf| leaf.c >> 8 & 0xff == 0)?,
                0xd => {
                    let states = self.xstates() | 3;
                    for (subleaf, value) in (0..).zip(&self.xstate) {
                        if states >> subleaf & 1 != 0 {
                            put(0xd, subleaf, *value)?;
                        }
                    }
                }
                _ => put(leaf, NO_SUBLEAF, *value)?,
            }
        }
        put(
            0x4000_0000,
            NO_SUBLEAF,
            Leaf {
                a: self.hypervisor_limit,
                ..Leaf::ZERO
            },
        )?;
        put(
            0x4000_0100,
            NO_SUBLEAF,
            Leaf {
                a: self.hypervisor_limit_2,
                ..Leaf::ZERO
            },
        )?;
        for (leaf, value) in (0..=self.max_ext()).zip(&self.ext) {
            put(0x8000_0000 | leaf, NO_SUBLEAF, *value)?;
        }
        Ok(())
    }

    /// The MSRs that belong to the policy.
    pub fn msrs(&self) -> [MsrEntry; MAX_MSRS as usize] {
        let arch_caps = u64::from(self.arch_caps[0]) | u64::from(self.arch_caps[1]) << 32;
        [
            MsrEntry {
                idx: PLATFORM_INFO,
                flags: 0,
                val: self.platform_info,
            },
            MsrEntry {
                idx: ARCH_CAPABILITIES,
                flags: 0,
                val: arch_caps,
            },
        ]
    }

    /// Sets a leaf to the toolstack's values.
    pub fn set_leaf(&mut self, entry: &CpuidLeaf) -> Result<(), Refusal> {
        let CpuidLeaf {
            leaf,
            subleaf,
            a,
            b,
            c,
            d,
        } = *entry;
        let value = Leaf { a, b, c, d };
        let unknown = Refusal::UnknownLeaf { leaf, subleaf };
        let place = match (leaf, subleaf) {
            (4, _) => self.cache.get_mut(subleaf as usize),
            (7, _) => self.feat.get_mut(subleaf as usize),
            (0xb, _) => self.topo.get_mut(subleaf as usize),
            (0xd, _) => self.xstate.get_mut(subleaf as usize),
            (_, NO_SUBLEAF) => match leaf {
                0..=0xc => self.basic.get_mut(leaf as usize),
                0x4000_0000 => {
                    self.hypervisor_limit = a;
                    return Ok(());
                }
                0x4000_0100 => {
                    self.hypervisor_limit_2 = a;
                    return Ok(());
                }
                0x8000_0000..=0x8000_ffff => self.ext.get_mut((leaf & 0xffff) as usize),
                _ => None,
            },
            _ => None,
        };
        *place.ok_or(unknown)? = value;
        Ok(())
    }

    /// Sets an MSR to the toolstack's value.
    pub fn set_msr(&mut self, entry: &MsrEntry) -> Result<(), Refusal> {
        if entry.flags != 0 {
            return Err(Refusal::BadMsr(entry.idx));
        }
        match entry.idx {
            PLATFORM_INFO if entry.val & !CPUID_FAULTING != 0 => Err(Refusal::BadMsr(entry.idx)),
            PLATFORM_INFO => {
                self.platform_info = entry.val;
                Ok(())
            }
            ARCH_CAPABILITIES => {
                self.arch_caps = [entry.val as u32, (entry.val >> 32) as u32];
                Ok(())
            }
            idx => Err(Refusal::UnknownMsr(idx)),
        }
    }

    /// Checks that a guest with this policy can run on a machine that allows at most `max`.
    pub fn check_against(&self, max: &Self) -> Result<(), Refusal> {
        let bad = |leaf, subleaf| Err(Refusal::BadLeaf { leaf, subleaf });
        if self.basic[0].a > max.basic[0].a {
            return bad(0, NO_SUBLEAF);
        }
        if self.feat[0].a > max.feat[0].a {
            return bad(7, 0);
        }
        if self.ext[0].a > max.ext[0].a {
            return bad(0x8000_0000, NO_SUBLEAF);
        }
        if self.platform_info & !max.platform_info != 0 {
            return Err(Refusal::BadMsr(PLATFORM_INFO));
        }
        if self
            .arch_caps
            .iter()
            .zip(&max.arch_caps)
            .any(|(ours, max)| ours & !max != 0)
        {
            return Err(Refusal::BadMsr(ARCH_CAPABILITIES));
        }
        Ok(())
    }
}

/// Passes sub-leaves to `put` up to and including the first that is empty.
fn put_until_empty<E>(
    put: &mut impl FnMut(u32, u32, Leaf) -> Result<(), E>,
    leaf: u32,
    values: &[Leaf],
    empty: impl Fn(&Leaf) -> bool,
) -> Result<(), E> {
    for (subleaf, value) in (0..).zip(values) {
        put(leaf, subleaf, *value)?;
        if empty(value) {
            break;
        }
    }
    Ok(())
}
