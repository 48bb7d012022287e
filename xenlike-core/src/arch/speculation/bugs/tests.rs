//! Which faults a CPU has, by its model and by what it says of itself.

use super::*;

fn intel(model: u32) -> Facts {
    Facts {
        vendor: Vendor::Intel,
        family: 6,
        model,
        phys_bits: 39,
        ..Facts::default()
    }
}

#[test]
fn who_is_open_to_what() {
    let open = |cpu: &Facts| {
        let bugs = Bugs::of(cpu);
        (bugs.meltdown, bugs.l1tf)
    };
    assert_eq!(open(&intel(0x5e)), (true, true));
    assert_eq!(open(&intel(0x17)), (true, true));
    assert_eq!(open(&intel(0x5c)), (true, false));
    assert_eq!(open(&intel(0x1c)), (false, false));
    // A model that is not known yet.
    assert_eq!(open(&intel(0xff)), (true, true));
    let mended = Facts {
        caps: caps::RDCL_NO,
        ..intel(0xff)
    };
    assert_eq!(open(&mended), (false, false));
    let amd = Facts {
        vendor: Vendor::Amd,
        family: 0x17,
        ..Facts::default()
    };
    assert_eq!(open(&amd), (false, false));
    let pentium4 = Facts {
        family: 0xf,
        ..intel(2)
    };
    assert_eq!(open(&pentium4), (true, false));
}

#[test]
fn whose_buffers_can_be_sampled() {
    let open = |cpu: Facts| Bugs::of(&cpu).mds;
    let stepping = |model, stepping| Facts {
        stepping,
        ..intel(model)
    };
    assert!(open(intel(0x3c)) && open(intel(0x37)) && open(intel(0xff)));
    assert!(!open(intel(0x5c)) && !open(intel(0x1c)));
    assert!(open(stepping(0x55, 5)) && !open(stepping(0x55, 7)));
    let mended = Facts {
        caps: caps::MDS_NO,
        ..intel(0xff)
    };
    assert!(!open(mended));
    let transactions = Facts {
        leaf7b: leaf7b::RTM,
        ..mended
    };
    assert!(open(transactions));
    assert!(!open(Facts {
        caps: caps::MDS_NO | caps::TAA_NO,
        ..transactions
    }));
    assert!(Bugs::of(&intel(0x4c)).narrow_rsb && !Bugs::of(&intel(0x5e)).narrow_rsb);
}

#[test]
fn faults_of_later_years() {
    let zen2 = Facts {
        vendor: Vendor::Amd,
        family: 0x17,
        ..Facts::default()
    };
    let bugs = Bugs::of(&zen2);
    assert!(bugs.returns && !bugs.tsa && !bugs.history && !bugs.gather);
    let zen3 = Facts {
        family: 0x19,
        ext8b: ext8b::BTC_NO,
        ..zen2
    };
    assert!(Bugs::of(&zen3).returns && Bugs::of(&zen3).tsa);
    let spared = Facts {
        ext21a: ext21a::SRSO_NO,
        ext21c: ext21c::TSA_SQ_NO | ext21c::TSA_L1_NO,
        ..zen3
    };
    assert!(!Bugs::of(&spared).returns && !Bugs::of(&spared).tsa);
    let ice_lake = |caps| {
        let bugs = Bugs::of(&Facts {
            caps,
            ..intel(0x6a)
        });
        (bugs.history, bugs.gather)
    };
    assert_eq!(ice_lake(0), (false, true));
    assert_eq!(ice_lake(caps::IBRS_ALL), (true, true));
    assert_eq!(ice_lake(caps::IBRS_ALL | caps::GDS_CTRL), (true, false));
    let all = caps::IBRS_ALL | caps::BHI_NO | caps::GDS_NO;
    assert_eq!(ice_lake(all), (false, false));
}

#[test]
fn addresses_that_give_nothing_away() {
    let end = 16 << 30;
    // 39 bits reported, 46 looked at.
    assert_eq!(l1tf_safe_from(&intel(0x5e), end), (1 << 39, (1 << 46) - 1));
    let server = Facts {
        phys_bits: 46,
        ..intel(0x55)
    };
    assert_eq!(l1tf_safe_from(&server, end), (3 << 44, (1 << 46) - 1));
    // Memory in the upper quarter.
    assert_eq!(l1tf_safe_from(&server, 15 << 42).0, 15 << 42);
    let penryn = Facts {
        phys_bits: 36,
        ..intel(0x17)
    };
    assert_eq!(l1tf_safe_from(&penryn, end), (3 << 34, (1 << 36) - 1));
}
