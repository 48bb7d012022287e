//! The measures chosen for CPUs of several makers and generations.

use super::*;
use crate::arch::cpu::Vendor;
use std::string::ToString;

/// A Skylake with the microcode of early 2018.
fn skylake() -> Facts {
    Facts {
        vendor: Vendor::Intel,
        family: 6,
        model: 0x5e,
        leaf7d: leaf7d::IBRSB | leaf7d::STIBP | leaf7d::SSBD | leaf7d::MD_CLEAR,
        smep: true,
        ..Facts::default()
    }
}

fn choose(cpu: &Facts, wishes: &Wishes) -> Choice {
    Choice::of(cpu, Bugs::of(cpu), wishes)
}

#[test]
fn an_unknown_plain_cpu_does_nothing_on_its_paths() {
    let cpu = Facts {
        smep: true,
        ..Facts::default()
    };
    let choice = choose(&cpu, &Wishes::default());
    assert_eq!(choice, Choice::default());
    assert_eq!(choice.to_string(), "no IBRS");
}

#[test]
fn an_open_cpu_does_all_it_can() {
    let choice = choose(&skylake(), &Wishes::default());
    assert_eq!(choice.path, path::SPEC_CTRL | path::VERW);
    assert_eq!(choice.spec_ctrl, Some((1, 0)));
    assert_eq!(
        choice.to_string(),
        "IBRS set on entry, VERW on exit, IBPB between domains, AVX hidden from guests"
    );
    let no_smep = Facts {
        smep: false,
        ..skylake()
    };
    assert_eq!(
        choose(&no_smep, &Wishes::default()).path & path::RSB,
        path::RSB
    );
}

#[test]
fn ibrs_that_stays_on_costs_nothing_on_the_way() {
    let cpu = Facts {
        caps: caps::IBRS_ALL | caps::MDS_NO | caps::BHI_NO | caps::GDS_CTRL,
        ..skylake()
    };
    let choice = choose(&cpu, &Wishes::default());
    assert_eq!((choice.path, choice.spec_ctrl), (0, Some((1, 1))));
    let zen4 = Facts {
        vendor: Vendor::Amd,
        ext8b: ext8b::IBPB | ext8b::IBRS | ext8b::STIBP | ext8b::STIBP_ALWAYS,
        ext21a: ext21a::AUTO_IBRS,
        smep: true,
        ..Facts::default()
    };
    let choice = choose(&zen4, &Wishes::default());
    assert_eq!((choice.path, choice.spec_ctrl), (0, Some((2, 2))));
    assert_eq!(
        choice.to_string(),
        "automatic IBRS, IBPB between domains, STIBP"
    );
}

#[test]
fn later_faults_are_answered_where_the_cpu_can() {
    let zen3 = Facts {
        vendor: Vendor::Amd,
        family: 0x19,
        ext8b: ext8b::IBPB | ext8b::BTC_NO,
        ext21a: ext21a::VERW_CLEAR,
        smep: true,
        ..Facts::default()
    };
    let choice = choose(&zen3, &Wishes::default());
    assert_eq!(choice.path, path::IBPB | path::VERW);
    let spared = Wishes {
        ibpb_entry: Some(false),
        ..Wishes::default()
    };
    assert_eq!(choose(&zen3, &spared).path, path::VERW);
    let ice_lake = Facts {
        model: 0x6a,
        caps: caps::IBRS_ALL | caps::RDCL_NO | caps::MDS_NO,
        ..skylake()
    };
    let choice = choose(&ice_lake, &Wishes::default());
    assert_eq!(choice.path, path::HISTORY);
    assert!(choice.hides_avx);
    let newer = Facts {
        caps: ice_lake.caps | caps::GDS_CTRL,
        leaf72d: BHI_CTRL,
        ..ice_lake
    };
    let choice = choose(&newer, &Wishes::default());
    assert_eq!((choice.path, choice.spec_ctrl), (0, Some((0x401, 0x401))));
    assert!(!choice.hides_avx);
}

#[test]
fn wishes_are_followed_as_far_as_the_cpu_can() {
    let nothing = Wishes::default().without_all();
    let choice = choose(&skylake(), &nothing);
    assert_eq!((choice.path, choice.spec_ctrl), (0, Some((0, 0))));
    assert!(!choice.ibpb);
    let all = Wishes {
        rsb: Some(true),
        verw: Some(true),
        ssbd: Some(true),
        stibp: Some(true),
        psfd: Some(true),
        ..Wishes::default()
    };
    let choice = choose(&skylake(), &all);
    assert_eq!(choice.path, path::SPEC_CTRL | path::RSB | path::VERW);
    assert_eq!(choice.spec_ctrl, Some((7, 6)));
    let no_msr = choose(&Facts::default(), &all);
    assert_eq!(no_msr.spec_ctrl, None);
    assert_eq!(no_msr.path, path::RSB | path::VERW);
}
