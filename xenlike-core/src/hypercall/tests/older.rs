//! Calls of the toolstack of Xen 4.17.

use guest_pv_abi::Payload;
use guest_pv_abi::arch_x86::XEN_X86_MSR_RELAXED;
use guest_pv_abi::domctl::{self as abi, Domctl};
use guest_pv_abi::errno;
use guest_pv_abi::hypercall as nr;
use zerocopy::FromZeros;

use super::control::Toolstack;

/// The words of `struct xen_domctl_createdomain` in the header of 4.17, where the x86 part is at byte 56.
#[test]
fn a_toolstack_of_4_17_creates_domains() {
    let tools = Toolstack::new();
    let create = |version, changed: (usize, u32)| {
        let mut words = [0_u32; 32];
        for (at, value) in [(28, 2), (32, 1023), (36, 4), (44, 1), changed] {
            words[at / 4] = value;
        }
        let op = Domctl {
            cmd: abi::XEN_DOMCTL_CREATEDOMAIN,
            interface_version: version,
            domain: 0,
            _pad: [0; 3],
            u: Payload::of(&words),
        };
        tools.0.write(tools.0.at, &op);
        tools.0.call(nr::DOMCTL, &[tools.0.at])?;
        Ok(tools.0.read::<Domctl>(tools.0.at).domain)
    };
    let id = create(0x15, (60, XEN_X86_MSR_RELAXED)).unwrap();
    let info = tools.info(id).unwrap();
    assert_eq!(info.arch_config.misc_flags, XEN_X86_MSR_RELAXED);
    // The fields for processor trace buffers, the CPU pool and emulated devices.
    for (at, value, refused) in [
        (48, 1, errno::EINVAL),
        (52, 1, errno::ENOENT),
        (56, 1, errno::EINVAL),
    ] {
        assert_eq!(create(0x15, (at, value)), Err(refused));
    }
    assert_eq!(create(0x16, (60, 0)), Err(errno::EACCES));
    // Its getdomaininfo returns the next existing domain.
    let info = |version, domain| {
        let mut op = Domctl::new_zeroed();
        (op.cmd, op.interface_version) = (abi::XEN_DOMCTL_GETDOMAININFO, version);
        op.domain = domain;
        tools.0.write(tools.0.at, &op);
        tools.0.call(nr::DOMCTL, &[tools.0.at])?;
        let op = tools.0.read::<Domctl>(tools.0.at);
        let told = op.u.get::<abi::GetDomainInfo>().domain;
        assert_eq!(op.domain, told);
        Ok(told)
    };
    assert_eq!(info(0x15, id), Ok(id));
    let between = id.wrapping_sub(1);
    if info(abi::XEN_DOMCTL_INTERFACE_VERSION, between) == Err(errno::ESRCH) {
        assert_eq!(info(0x15, between), Ok(id));
    }
    assert!(info(0x15, 0).is_ok());
    assert_eq!(info(0x15, 0x7fef), Err(errno::ESRCH));
}
