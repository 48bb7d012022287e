//! Tests of set_debugreg and get_debugreg.

use guest_pv_abi::errno;
use guest_pv_abi::hypercall::{GET_DEBUGREG, SET_DEBUGREG};

use super::guest::Guest;

#[test]
fn they_answer_as_on_xen() {
    let guest = Guest::new();
    let set = |register, value| guest.call(SET_DEBUGREG, &[register, value]);
    assert_eq!(set(0, u64::MAX), Ok(0));
    assert_eq!(set(0, 0xffff_8300_0000_0000), Err(errno::EPERM));
    assert_eq!(set(6, 1 << 32), Err(errno::EINVAL));
    assert_eq!(set(7, 1 << 32), Err(errno::EINVAL));
    assert_eq!(set(7, 1 << 13), Err(errno::EPERM));
    assert_eq!(set(8, 0), Err(errno::ENODEV));
    assert_eq!(guest.call(GET_DEBUGREG, &[7]), Ok(0x400));
    assert_eq!(set(7, 2 << 16 | 1), Err(errno::EPERM));
    assert_eq!(set(5, 1), Ok(0));
    let vcpu = &guest.dom.vcpus()[0];
    vcpu.descheduled().unwrap().pv_mut().cr4 |= 8;
    assert_eq!(set(7, 2 << 16 | 1), Ok(0));
    assert_eq!(guest.call(GET_DEBUGREG, &[7]), Ok(2 << 16 | 0x401));
    assert_eq!(
        (set(5, 0), set(4, 0)),
        (Err(errno::ENODEV), Err(errno::ENODEV))
    );
    assert_eq!(guest.call(GET_DEBUGREG, &[5]), Err(errno::ENODEV));
    assert_eq!(guest.call(GET_DEBUGREG, &[8]), Err(errno::ENODEV));
}
