//! Tests with CPUID dumps of three kinds of machines: QEMU's `-cpu max`, an AMD EPYC, an Intel server.

use guest_pv_abi::cpufeatureset::*;
use proptest::prelude::*;
use std::vec::Vec;

use super::guest::{Asked, Host, Role, Time, View};
use super::serial::{MAX_LEAVES, NO_SUBLEAF, Refusal};
use super::*;

const DUMPS: [&str; 3] = [
    include_str!("dumps/qemu-max.txt"),
    include_str!("dumps/amd-epyc.txt"),
    include_str!("dumps/intel-server.txt"),
];

fn policies(dump: &str) -> Policies {
    let lines: Vec<Vec<u32>> = dump
        .lines()
        .map(|line| {
            line.split(' ')
                .map(|word| u32::from_str_radix(word, 16).unwrap())
                .collect()
        })
        .collect();
    let raw = Policy::read(|leaf, subleaf| {
        let plain = !matches!(leaf, 4 | 7 | 0xb | 0xd);
        let line = lines
            .iter()
            .find(|line| line[0] == leaf && (plain || line[1] == subleaf));
        line.map_or(Leaf::ZERO, |line| {
            Leaf::new([line[2], line[3], line[4], line[5]])
        })
    });
    Policies::new(raw, &[])
}

fn host() -> Host {
    let time = Time {
        flags: 6,
        mode: 0,
        guest_khz: 1000,
        ..Time::default()
    };
    Host {
        time,
        address_bits: 39,
    }
}

fn view<'a>(machine: &'a Policies, asked: Asked, role: Role) -> View<'a> {
    View {
        policy: &machine.pv_default,
        machine,
        asked,
        role,
        cr4: 0,
        xcr0: 3,
        host,
    }
}

#[test]
fn pv_guests_never_see_what_they_cant_use() {
    use guest_pv_abi::cpufeatureset as f;
    for dump in DUMPS {
        let machine = policies(dump);
        for hidden in [
            f::XEN_X86_FEATURE_PSE,
            f::XEN_X86_FEATURE_PGE,
            f::XEN_X86_FEATURE_VME,
            f::XEN_X86_FEATURE_PSE36,
            f::XEN_X86_FEATURE_PCID,
            f::XEN_X86_FEATURE_SMEP,
            f::XEN_X86_FEATURE_SMAP,
            f::XEN_X86_FEATURE_UMIP,
            f::XEN_X86_FEATURE_LA57,
            f::XEN_X86_FEATURE_MONITOR,
            f::XEN_X86_FEATURE_PKU,
            f::XEN_X86_FEATURE_VMX,
            f::XEN_X86_FEATURE_SVM,
            f::XEN_X86_FEATURE_MPX,
            f::XEN_X86_FEATURE_AMX_TILE,
            f::XEN_X86_FEATURE_TSC_DEADLINE,
            f::XEN_X86_FEATURE_PAGE1GB,
            f::XEN_X86_FEATURE_INVPCID,
            f::XEN_X86_FEATURE_XSAVES,
            f::XEN_X86_FEATURE_CET_SS,
            f::XEN_X86_FEATURE_X2APIC,
        ] {
            assert!(!machine.pv_default.has(hidden), "feature {hidden}");
        }
        for shown in [
            f::XEN_X86_FEATURE_FPU,
            f::XEN_X86_FEATURE_LM,
            f::XEN_X86_FEATURE_NX,
            f::XEN_X86_FEATURE_SYSCALL,
            f::XEN_X86_FEATURE_HYPERVISOR,
            f::XEN_X86_FEATURE_SSE2,
            f::XEN_X86_FEATURE_XSAVE,
            f::XEN_X86_FEATURE_CX16,
        ] {
            assert!(machine.pv_default.has(shown), "feature {shown}");
        }
    }
}

#[test]
fn one_feature_is_the_same_as_in_the_set() {
    let policy = policies(DUMPS[2]).raw;
    let set = policy.featureset();
    for feature in 0..19 * 32 + 5 {
        assert_eq!(
            policy.has(feature),
            features::has(&set, feature),
            "{feature}"
        );
    }
}

#[test]
fn features_follow_what_they_need() {
    let machine = policies(DUMPS[2]);
    assert!(machine.pv_default.has(XEN_X86_FEATURE_AVX512BW));
    let mut choice = machine.pv_default.clone();
    choice.basic[1].c &= !(1 << (XEN_X86_FEATURE_AVX % 32));
    machine.clamp(&mut choice);
    for gone in [
        XEN_X86_FEATURE_AVX2,
        XEN_X86_FEATURE_FMA,
        XEN_X86_FEATURE_AVX512F,
        XEN_X86_FEATURE_AVX512BW,
    ] {
        assert!(!choice.has(gone));
    }
    assert_eq!(choice.xcr0_mask(), 3);
    assert_eq!(choice.xstate[0].c, 576);
}

#[test]
fn extended_state_without_protection_keys_and_tiles() {
    let machine = policies(DUMPS[2]);
    assert_eq!(machine.pv_default.xcr0_mask(), 0xe7);
    assert_eq!(machine.pv_default.xstate[0].c, 0xa80);
    assert_eq!(machine.pv_default.xstate[17], Leaf::ZERO);
    let mut view = view(&machine, Asked::User, Role::Guest);
    assert_eq!(view.leaf(0xd, 0).b, 576);
    view.xcr0 = 7;
    assert_eq!(view.leaf(0xd, 0).b, 0x340);
    assert_eq!(view.leaf(0xd, 1).b, 0x340);
    assert_eq!(policies(DUMPS[0]).pv_default.xcr0_mask(), 7);
}

#[test]
fn osxsave_as_pv_kernels_expect_it() {
    let machine = policies(DUMPS[0]);
    let osxsave = |asked, cr4| {
        let view = View {
            cr4,
            ..view(&machine, asked, Role::Guest)
        };
        view.leaf(1, 0).c >> 27 & 1
    };
    assert_eq!(osxsave(Asked::ByForce, 0), 1);
    assert_eq!(osxsave(Asked::KernelFault, 0), 0);
    assert_eq!(osxsave(Asked::User, 0), 0);
    assert_eq!(osxsave(Asked::User, 1 << 18), 1);
}

#[test]
fn the_hardware_domains_kernel_sees_more() {
    let machine = policies(DUMPS[0]);
    let leaf = |asked, role| view(&machine, asked, role).leaf(1, 0);
    assert_eq!(leaf(Asked::KernelFault, Role::Hardware).c >> 3 & 1, 1);
    assert_eq!(leaf(Asked::ByForce, Role::Hardware).c >> 3 & 1, 0);
    assert_eq!(leaf(Asked::ByForce, Role::Hardware).d >> 12 & 1, 1);
    assert_eq!(leaf(Asked::ByForce, Role::Guest).d >> 12 & 1, 0);
    assert_eq!(leaf(Asked::User, Role::Hardware).d >> 12 & 1, 0);
}

#[test]
fn hypervisor_leaves() {
    let machine = policies(DUMPS[0]);
    let view = view(&machine, Asked::ByForce, Role::Guest);
    let first = view.leaf(0x4000_0000, 0);
    assert_eq!(first.a, 0x4000_0005);
    let name: Vec<u8> = [first.b, first.c, first.d]
        .iter()
        .flat_map(|word| word.to_le_bytes())
        .collect();
    assert_eq!(name, b"XenVMMXenVMM");
    assert_eq!(view.leaf(0x4000_0001, 0).a, 0x0004_0014);
    assert_eq!(
        view.leaf(0x4000_0002, 0),
        Leaf {
            a: 1,
            b: 0x4000_0000,
            c: 1,
            d: 0
        }
    );
    assert_eq!(view.leaf(0x4000_0003, 0).c, 1000);
    assert_eq!(view.leaf(0x4000_0004, 0), Leaf::ZERO);
    assert_eq!(view.leaf(0x4000_0005, 0).b, 39);
    assert_eq!(view.leaf(0x4000_0006, 0), Leaf::ZERO);
    assert_eq!(view.leaf(0x4000_0100, 0), Leaf::ZERO);
}

#[test]
fn vendors_keep_their_habits() {
    let amd = policies(DUMPS[1]).pv_default;
    assert_eq!(amd.ext[0].b, amd.basic[0].b);
    assert_ne!(amd.ext[1].d & features::COMMON_1D, 0);
    assert!(!amd.has(XEN_X86_FEATURE_SEP));
    let intel = policies(DUMPS[2]).pv_default;
    assert_eq!(
        intel.ext[0],
        Leaf {
            a: 0x8000_0008,
            ..Leaf::ZERO
        }
    );
    assert_eq!(intel.ext[1].d & features::COMMON_1D, 0);
    assert!(intel.has(XEN_X86_FEATURE_SEP));
}

#[test]
fn a_policy_survives_the_trip_to_the_toolstack() {
    for dump in DUMPS {
        let machine = policies(dump);
        let mut leaves = Vec::new();
        machine
            .pv_default
            .write_leaves(|leaf| {
                leaves.push(leaf);
                Ok::<(), ()>(())
            })
            .unwrap();
        assert!(leaves.len() as u32 <= MAX_LEAVES);
        let mut back = Policy::EMPTY;
        leaves.iter().for_each(|leaf| back.set_leaf(leaf).unwrap());
        machine
            .pv_default
            .msrs()
            .iter()
            .for_each(|msr| back.set_msr(msr).unwrap());
        assert_eq!(back.check_against(&machine.pv_max), Ok(()));
        machine.clamp(&mut back);
        assert_eq!(back.featureset(), machine.pv_default.featureset());
        assert_eq!(back.xstate, machine.pv_default.xstate);
    }
}

#[test]
fn bad_leaves_are_named() {
    let entry = |leaf, subleaf, a| guest_pv_abi::arch_x86::CpuidLeaf {
        leaf,
        subleaf,
        a,
        b: 0,
        c: 0,
        d: 0,
    };
    let machine = policies(DUMPS[0]);
    let mut policy = machine.pv_default.clone();
    let refused = Refusal::UnknownLeaf {
        leaf: 0x2000_0000,
        subleaf: NO_SUBLEAF,
    };
    assert_eq!(
        policy.set_leaf(&entry(0x2000_0000, NO_SUBLEAF, 0)),
        Err(refused)
    );
    assert!(policy.set_leaf(&entry(7, 3, 0)).is_err());
    assert!(policy.set_leaf(&entry(1, 0, 0)).is_err());
    policy.set_leaf(&entry(0, NO_SUBLEAF, 0x20)).unwrap();
    assert_eq!(
        policy.check_against(&machine.pv_max),
        Err(Refusal::BadLeaf {
            leaf: 0,
            subleaf: NO_SUBLEAF
        })
    );
}

proptest! {
    #[test]
    fn no_choice_of_the_toolstack_exceeds_the_most(
        words in proptest::array::uniform19(any::<u32>()),
        leaves in proptest::collection::vec((0u32..0x24, any::<[u32; 4]>()), 0..20),
        dump in 0usize..3,
    ) {
        let machine = policies(DUMPS[dump]);
        let mut policy = machine.pv_default.clone();
        policy.set_featureset(&words);
        for (leaf, regs) in leaves {
            let base = if leaf & 1 == 0 { 0x8000_0000 } else { 0 };
            let [a, b, c, d] = regs;
            let _ = policy.set_leaf(&guest_pv_abi::arch_x86::CpuidLeaf { leaf: base | leaf, subleaf: NO_SUBLEAF, a, b, c, d });
        }
        machine.clamp(&mut policy);
        let max = machine.pv_max.featureset();
        let quirks = 1 << 6 | 1 << 13;
        for (word, (got, most)) in policy.featureset().iter().zip(&max).enumerate() {
            let fixed = match word { 5 => quirks, 2 => features::COMMON_1D, _ => 0 };
            prop_assert_eq!(got & !most & !fixed, 0, "word {}", word);
        }
        prop_assert_eq!(policy.xcr0_mask() & !machine.pv_max.xcr0_mask(), 0);
        let view = View { policy: &policy, ..view(&machine, Asked::User, Role::Guest) };
        for leaf in [0, 1, 4, 7, 0xb, 0xd, 0xe, 0x4000_0000, 0x8000_0000, 0x8000_0021, 0x8000_0022, u32::MAX] {
            for subleaf in [0, 1, 2, 62, 63, u32::MAX] {
                let _ = view.leaf(leaf, subleaf);
            }
        }
    }
}
