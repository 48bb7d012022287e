//! The CPU's support for hardware-virtualised guests, independently of a PV domain's own CPUID, and whether the
//! firmware allows a hypervisor to use it.

use alloc::string::String;

use guest_pv_abi::arch_x86::CpuidLeaf;

use crate::hyper::{CallError, Hypercalls, machine};

/// IA32_FEATURE_CONTROL and its bits: locked, VMX allowed outside SMX (Intel SDM vol. 3, 24.7).
const FEATURE_CONTROL: u32 = 0x3a;
const LOCKED: u64 = 1;
const VMXON: u64 = 1 << 2;
/// IA32_VMX_PROCBASED_CTLS and IA32_VMX_PROCBASED_CTLS2. Their upper halves tell which controls may be set (vol.
/// 3, A.3.2 and A.3.3).
const CONTROLS: u32 = 0x482;
const SECOND_CONTROLS: u32 = 0x48b;
const HAS_SECOND: u64 = 1 << 63;
const EPT: u64 = 1 << (32 + 1);
/// VM_CR and its bits: locked, SVM disabled (AMD APM vol. 2, 15.30.1).
const VM_CR: u32 = 0xc001_0114;
const LOCK: u64 = 1 << 3;
const SVMDIS: u64 = 1 << 4;

/// The kind of virtualisation that a CPU has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The CPU has neither VT-x nor SVM.
    None,
    /// The CPU has Intel's VT-x.
    Vtx,
    /// The CPU has AMD's SVM.
    Svm,
}

/// How the firmware has configured it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Firmware {
    /// A hypervisor can use it.
    Usable,
    /// It is disabled until the machine restarts.
    LockedOff,
    /// The hypervisor doesn't tell.
    Unknown,
}

/// The CPU's support for virtualisation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Virtualisation {
    /// The CPU's vendor string of 12 letters (CPUID leaf 0).
    maker: [u8; 12],
    /// The kind of virtualisation.
    pub kind: Kind,
    /// Whether the firmware allows its use.
    pub firmware: Firmware,
    /// Whether it has nested page tables (EPT or NPT); `None` if the hypervisor doesn't tell.
    pub nested: Option<bool>,
}

impl Virtualisation {
    /// The words for the kind, for the firmware's setting, and for nested paging.
    #[must_use]
    pub const fn words(&self) -> [&'static str; 3] {
        let (kind, nested) = match self.kind {
            Kind::None => return ["none", "", ""],
            Kind::Vtx => ("VT-x", "EPT"),
            Kind::Svm => ("SVM", "NPT"),
        };
        let firmware = match self.firmware {
            Firmware::Usable => "usable",
            Firmware::LockedOff => "locked off by the firmware",
            Firmware::Unknown => "the hypervisor doesn't tell whether the firmware locked it off",
        };
        let nested = match self.nested {
            Some(true) => nested,
            Some(false) => "none",
            None => "unknown",
        };
        [kind, firmware, nested]
    }

    /// The vendor of the CPU, as CPUID reports it.
    #[must_use]
    pub fn maker(&self) -> &str {
        core::str::from_utf8(&self.maker).unwrap_or("unknown")
    }

    /// All of it as one sentence.
    #[must_use]
    pub fn sentence(&self) -> String {
        let [kind, firmware, nested] = self.words();
        match self.kind {
            Kind::None => "none (no VT-x, no SVM)".into(),
            _ => alloc::format!("{kind}: {firmware}; nested paging: {nested}"),
        }
    }

    /// Derives it from the CPU's own leaves, and from those registers that can be read.
    fn of(leaves: &[CpuidLeaf], mut register: impl FnMut(u32) -> Option<u64>) -> Self {
        let leaf = |number| leaves.iter().find(|leaf| leaf.leaf == number);
        let bit = |word: Option<u32>, bit: u32| word.is_some_and(|word| word >> bit & 1 != 0);
        let maker = leaf(0).map_or([b' '; 12], |leaf| {
            let words = [leaf.b, leaf.d, leaf.c].map(u32::to_le_bytes);
            core::array::from_fn(|at| words[at / 4][at % 4])
        });
        let vmx = bit(leaf(1).map(|leaf| leaf.c), 5);
        let svm = bit(leaf(0x8000_0001).map(|leaf| leaf.c), 2);
        let is_off = |off: Option<bool>| match off {
            Some(true) => Firmware::LockedOff,
            Some(false) => Firmware::Usable,
            None => Firmware::Unknown,
        };
        if vmx {
            let off = register(FEATURE_CONTROL).map(|word| word & (LOCKED | VMXON) == LOCKED);
            let nested = match register(CONTROLS) {
                Some(word) if word & HAS_SECOND == 0 => Some(false),
                Some(_) => register(SECOND_CONTROLS).map(|word| word & EPT != 0),
                None => None,
            };
            Self {
                maker,
                kind: Kind::Vtx,
                firmware: is_off(off),
                nested,
            }
        } else if svm {
            // If it is disabled but not locked, a hypervisor may enable it.
            let off = register(VM_CR).map(|word| word & (LOCK | SVMDIS) == LOCK | SVMDIS);
            Self {
                maker,
                kind: Kind::Svm,
                firmware: is_off(off),
                nested: Some(bit(leaf(0x8000_000a).map(|leaf| leaf.d), 0)),
            }
        } else {
            Self {
                maker,
                kind: Kind::None,
                firmware: Firmware::Unknown,
                nested: None,
            }
        }
    }
}

/// Asks the hypervisor, which sees the CPU's own CPUID.
///
/// # Errors
/// If the hypervisor refuses to tell the CPU's leaves.
pub fn virtualisation<H: Hypercalls + ?Sized>(h: &mut H) -> Result<Virtualisation, CallError> {
    let leaves = machine::leaves(h)?;
    Ok(Virtualisation::of(&leaves, |number| {
        machine::register(h, number).ok()
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaf(leaf: u32, c: u32, d: u32) -> CpuidLeaf {
        CpuidLeaf {
            leaf,
            subleaf: u32::MAX,
            a: 0,
            b: 0,
            c,
            d,
        }
    }

    fn intel(registers: [Option<u64>; 3]) -> String {
        let numbers = [0x3a, 0x482, 0x48b];
        let read = |number| registers[numbers.iter().position(|known| *known == number).unwrap()];
        Virtualisation::of(&[leaf(1, 1 << 5, 0)], read).sentence()
    }

    fn amd(vm_cr: Option<u64>, nested: u32) -> String {
        let leaves = [leaf(0x8000_0001, 4, 0), leaf(0x8000_000a, 0, nested)];
        Virtualisation::of(&leaves, |number| {
            (number == 0xc001_0114).then_some(vm_cr)?
        })
        .sentence()
    }

    #[test]
    fn what_the_firmware_locked() {
        let (second, ept) = (Some(1 << 63), Some(1 << 33));
        assert_eq!(
            intel([Some(1), second, ept]),
            "VT-x: locked off by the firmware; nested paging: EPT"
        );
        // If it is allowed only inside SMX, a hypervisor can't use it either.
        assert_eq!(
            intel([Some(3), second, ept]),
            "VT-x: locked off by the firmware; nested paging: EPT"
        );
        for open in [5, 0, 4] {
            assert_eq!(
                intel([Some(open), second, Some(0)]),
                "VT-x: usable; nested paging: none"
            );
        }
        assert_eq!(
            intel([Some(5), Some(0), None]),
            "VT-x: usable; nested paging: none"
        );
        assert!(intel([None; 3]).ends_with("locked it off; nested paging: unknown"));
        assert_eq!(
            amd(Some(0x18), 1),
            "SVM: locked off by the firmware; nested paging: NPT"
        );
        for open in [0, 8, 16] {
            assert_eq!(amd(Some(open), 0), "SVM: usable; nested paging: none");
        }
        let whole = CpuidLeaf {
            b: 0x6874_7541,
            ..leaf(0, 0x444d_4163, 0x6974_6e65)
        };
        assert_eq!(
            Virtualisation::of(&[whole], |_| None).maker(),
            "AuthenticAMD"
        );
        let neither = Virtualisation::of(&[leaf(1, 0, 0)], |_| None);
        assert_eq!(neither.sentence(), "none (no VT-x, no SVM)");
    }
}
