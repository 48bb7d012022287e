//! What this machine's CPUs can do, asked once on the boot CPU; and the control-register settings that follow from it.

use crate::kit::Once;
use crate::kit::atomic::{AtomicBool, Ordering};

/// The vendor of a CPU, by the string of CPUID leaf 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Vendor {
    /// Intel, whose string is "GenuineIntel".
    Intel,
    /// AMD, "AuthenticAMD"; and Hygon, "HygonGenuine", whose CPUs are of AMD's design.
    Amd,
    /// Any vendor with another string.
    #[default]
    Other,
}

impl Vendor {
    /// The vendor whose string is in EBX, EDX and ECX of leaf 0, in this order.
    pub const fn named(b: u32, c: u32, d: u32) -> Self {
        match (b, d, c) {
            (0x756e_6547, 0x4965_6e69, 0x6c65_746e) => Self::Intel,
            (0x6874_7541, 0x6974_6e65, 0x444d_4163) | (0x6f67_7948, 0x6e65_476e, 0x656e_6975) => {
                Self::Amd
            }
            _ => Self::Other,
        }
    }
}

/// The CPU features that the core cares about.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "a set of named bits")]
#[cfg_attr(clippy, expect(missing_docs, reason = "the manuals' names"))]
pub struct Features {
    pub vendor: Vendor,
    /// The highest basic CPUID leaf, and below it the highest extended one.
    pub max_leaf: u32,
    pub max_ext_leaf: u32,
    /// The width of a physical address in bits.
    pub phys_bits: u8,
    pub nx: bool,
    pub fxsr: bool,
    pub syscall: bool,
    pub page1gb: bool,
    pub smep: bool,
    pub smap: bool,
    pub fsgsbase: bool,
    pub xsave: bool,
    pub xsaveopt: bool,
    pub x2apic: bool,
    pub tsc_deadline: bool,
    pub invariant_tsc: bool,
    pub rdtscp: bool,
    pub tsc_adjust: bool,
    /// CPUID outside ring 0 can be made to raise #GP.
    pub cpuid_faulting: bool,
    /// FXRSTOR always restores the address of the last x87 instruction (APM vol. 3, RstrFpErrPtrs).
    pub restores_fp_pointers: bool,
    pub hypervisor: bool,
}

/// The features as first detected; and as they are after the microcode update, which can add some.
static FIRST: Once<Features> = Once::new();
static FEATURES: Once<Features> = Once::new();

/// The boot CPU's features; all are absent before [`detect`].
pub fn features() -> Features {
    let found = FEATURES.get().or_else(|| FIRST.get());
    found.copied().unwrap_or_default()
}

/// Executes CPUID and returns eax, ebx, ecx, edx.
pub fn cpuid(leaf: u32, subleaf: u32) -> [u32; 4] {
    let r = core::arch::x86_64::__cpuid_count(leaf, subleaf);
    [r.eax, r.ebx, r.ecx, r.edx]
}

fn bit(word: u32, n: u32) -> bool {
    word >> n & 1 != 0
}

/// Whether the firmware had limited CPUID to the few leaves that old systems expect.
static LIMITED: AtomicBool = AtomicBool::new(false);

/// Lifts the firmware's limit on CPUID leaves on this CPU (SDM vol. 4, IA32_MISC_ENABLE bit 22). The other CPUs can't
/// handle faults yet when they come here, so they access the register only if the boot CPU had to.
#[expect(unsafe_code, reason = "writes IA32_MISC_ENABLE")]
fn lift_limit() {
    const MISC_ENABLE: u32 = 0x1a0;
    const LIMIT: u64 = 1 << 22;
    let value = super::msr::read_safe(MISC_ENABLE).unwrap_or(0);
    if value & LIMIT != 0 {
        // SAFETY: only changes what CPUID reports.
        unsafe { super::msr::write_or_ignore(MISC_ENABLE, value & !LIMIT) };
        if !LIMITED.swap(true, Ordering::Relaxed) {
            log::warn!("the firmware had limited CPUID to few leaves; now all are used");
        }
    }
}

/// Detects the boot CPU's features, the first time that it is called.
pub fn detect() -> Features {
    lift_limit();
    *FIRST.call_once(ask)
}

/// Detects them again after the boot CPU's microcode may have changed. These are final.
pub fn detect_again() {
    BOOT_WORDS.call_once(feature_words);
    FEATURES.call_once(ask);
}

fn ask() -> Features {
    let [max_leaf, b, c, d] = cpuid(0, 0);
    let vendor = Vendor::named(b, c, d);
    let leaf = |n: u32, sub| if n <= max_leaf { cpuid(n, sub) } else { [0; 4] };
    let max_ext_leaf = cpuid(0x8000_0000, 0)[0];
    let ext = |n: u32| {
        if n <= max_ext_leaf {
            cpuid(n, 0)
        } else {
            [0; 4]
        }
    };
    let ([_, _, c1, d1], [_, b7, ..]) = (leaf(1, 0), leaf(7, 0));
    let [.., ed1] = ext(0x8000_0001);
    // Firmware may have cut off the leaf that describes XSAVE.
    let xsave = bit(c1, 26) && max_leaf >= 0xd;
    // PLATFORM_INFO bit 31 (SDM vol. 4); CpuidUserDis (APM vol. 3, leaf 0x80000021).
    let platform_info = || super::msr::read_safe(super::msr::nr::PLATFORM_INFO).unwrap_or(0);
    let cpuid_faulting = match vendor {
        Vendor::Intel => platform_info() >> 31 & 1 != 0,
        Vendor::Amd => bit(ext(0x8000_0021)[0], 17),
        Vendor::Other => false,
    };
    Features {
        vendor,
        max_leaf,
        max_ext_leaf,
        phys_bits: match ext(0x8000_0008)[0] as u8 {
            0 => 36,
            bits => bits.min(52),
        },
        nx: bit(ed1, 20),
        fxsr: bit(d1, 24),
        syscall: bit(ed1, 11),
        page1gb: bit(ed1, 26),
        smep: bit(b7, 7),
        smap: bit(b7, 20),
        fsgsbase: bit(b7, 0),
        xsave,
        xsaveopt: xsave && bit(leaf(0xd, 1)[0], 0),
        x2apic: bit(c1, 21),
        tsc_deadline: bit(c1, 24),
        invariant_tsc: bit(ext(0x8000_0007)[3], 8),
        rdtscp: bit(ed1, 27),
        tsc_adjust: bit(b7, 1),
        restores_fp_pointers: bit(ext(0x8000_0008)[1], 2),
        cpuid_faulting,
        hypervisor: bit(c1, 31),
    }
}

/// A CPU's family, model and stepping, as CPUID leaf 1 encodes them in EAX.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signature {
    /// The family, with the extended family added.
    pub family: u32,
    /// The model, with the extended model in bits 7 to 4.
    pub model: u32,
    /// The stepping: the revision of the model.
    pub stepping: u32,
}

/// Decodes EAX of leaf 1 (SDM vol. 2, CPUID). The extended family counts for family 15 alone, the extended model for
/// families 6 and 15.
pub const fn signature(eax: u32) -> Signature {
    let (family, model) = (eax >> 8 & 0xf, eax >> 4 & 0xf);
    let extended = family == 6 || family == 0xf;
    Signature {
        family: if family == 0xf {
            0xf_u32.wrapping_add(eax >> 20 & 0xff)
        } else {
            family
        },
        model: if extended {
            (eax >> 12 & 0xf0) | model
        } else {
            model
        },
        stepping: eax & 0xf,
    }
}

/// The family and the model of the boot CPU.
pub fn family_model() -> (u32, u32) {
    let Signature { family, model, .. } = signature(cpuid(1, 0)[0]);
    (family, model)
}

/// The feature words in which CPUs are compared with the boot CPU: name, and a mask of the bits that don't
/// matter, because firmware or software sets them, or because neither the core nor a guest uses the
/// feature (SDM vol. 2, CPUID).
const COMPARED: [(&str, u32); 7] = [
    // DTES64, MONITOR, DS-CPL, EIST, TM2, CNXT-ID, SDBG, xTPR, PDCM, DCA, OSXSAVE
    ("1.ECX", 0x0804_cd9c),
    // APIC, PSN, DS, ACPI, HTT, TM, PBE
    ("1.EDX", 0xb064_0200),
    // SGX, PQM, PQE, PT
    ("7.EBX", 0x0200_9004),
    // OSPKE, TME, SGX_LC
    ("7.ECX", 0x4000_2010),
    // HYBRID, PCONFIG, ARCH_LBR
    ("7.EDX", 0x000c_8000),
    ("80000001.ECX", 0),
    ("80000001.EDX", 0),
];

fn feature_words() -> [u32; 7] {
    let leaf = |base: u32, n: u32| {
        if n <= cpuid(base, 0)[0] {
            cpuid(n, 0)
        } else {
            [0; 4]
        }
    };
    let ([_, _, c1, d1], [_, b7, c7, d7]) = (leaf(0, 1), leaf(0, 7));
    let [_, _, ec1, ed1] = leaf(1 << 31, 0x8000_0001);
    [c1, d1, b7, c7, d7, ec1, ed1]
}

/// The boot CPU's feature words, in the order of [`COMPARED`].
static BOOT_WORDS: Once<[u32; 7]> = Once::new();

/// The first word in which this CPU lacks features of the boot CPU, encoded for [`lack_from`];
/// `None` if it lacks nothing.
pub fn lack() -> Option<u64> {
    if LIMITED.load(Ordering::Relaxed) {
        lift_limit();
    }
    first_lack(BOOT_WORDS.get()?, &feature_words())
}

fn first_lack(boot: &[u32; 7], own: &[u32; 7]) -> Option<u64> {
    let lacks = boot.iter().zip(own).map(|(boot, own)| boot & !own);
    let mut lacks = (0_u64..).zip(lacks.zip(COMPARED));
    lacks.find_map(|(number, (lacks, (_, ignored)))| {
        let bits = lacks & !ignored;
        (bits != 0).then_some(number << 32 | u64::from(bits))
    })
}

/// Decodes a result of [`lack`]: the name of the CPUID word, and the bits that are missing.
pub fn lack_from(lack: u64) -> (&'static str, u32) {
    let word = COMPARED.get((lack >> 32) as usize);
    (word.map_or("?", |(name, _)| name), lack as u32)
}

/// Sets EFER, the control registers and the PAT of this CPU as the core and the guests' ABI need them,
/// and enables its machine checks.
pub fn init_this_cpu() {
    let f = features();
    let efer =
        super::msr::read(super::msr::nr::EFER) | super::msr::efer::NXE | super::msr::efer::SCE;
    // SAFETY: the core's mappings without NX stay executable; the NX bits that are set in its tables are meant.
    #[expect(unsafe_code, reason = "turns NX and SYSCALL on")]
    unsafe {
        super::msr::write(super::msr::nr::EFER, efer);
    }
    super::cr::init(&f);
    super::machine_check::enable();
    super::errata::stop_c1e();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures() {
        let decoded = |eax| {
            let Signature {
                family,
                model,
                stepping,
            } = signature(eax);
            (family, model, stepping)
        };
        assert_eq!(decoded(0x0005_0654), (6, 0x55, 4));
        assert_eq!(decoded(0x0087_0f10), (0x17, 0x71, 0));
        assert_eq!(decoded(0x0000_0f29), (0xf, 2, 9));
    }

    #[test]
    fn a_cpu_may_have_more_but_not_less() {
        let boot = [1 << 26, 1 << 25 | 1 << 28, 0, 1 << 4, 0, 0, 1 << 20];
        assert_eq!(first_lack(&boot, &boot), None);
        assert_eq!(first_lack(&boot, &[u32::MAX; 7]), None);
        // Hyper-threading and the bits that CR4 switches on don't count.
        assert_eq!(
            first_lack(&boot, &[1 << 26, 1 << 25, 0, 0, 0, 0, 1 << 20]),
            None
        );
        let no_nx = first_lack(&boot, &[1 << 26, 1 << 25, 0, 0, 0, 0, 0]);
        assert_eq!(no_nx.map(lack_from), Some(("80000001.EDX", 1 << 20)));
    }
}
