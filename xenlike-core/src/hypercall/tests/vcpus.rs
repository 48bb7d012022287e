//! vcpu_op.

use crate::kit::atomic::Ordering;

use guest_pv_abi::arch_x86::{FLAT_KERNEL_CS, FLAT_KERNEL_SS, VGCF_IN_KERNEL, VcpuGuestContext};
use guest_pv_abi::errno::{self, Errno};
use guest_pv_abi::hypercall::VCPU_OP;
use guest_pv_abi::vcpu::*;
use zerocopy::{FromZeros, Immutable, IntoBytes};

use super::guest::Guest;
use crate::kit::Mfn;
use crate::mm::SharedPage;

fn op<T: IntoBytes + Immutable>(
    guest: &Guest,
    command: u32,
    vcpu: u64,
    argument: &T,
) -> Result<i64, Errno> {
    guest.write(guest.at, argument);
    guest.call(VCPU_OP, &[command.into(), vcpu, guest.at])
}

fn register(guest: &Guest, vcpu: u64, mfn: Mfn, offset: u32) -> Result<i64, Errno> {
    let mut info = VcpuRegisterVcpuInfo::new_zeroed();
    (info.mfn, info.offset) = (mfn.0, offset);
    op(guest, VCPUOP_REGISTER_VCPU_INFO, vcpu, &info)
}

#[test]
fn vcpus_without_registers_stay_down() {
    let guest = Guest::new();
    assert_eq!(op(&guest, VCPUOP_IS_UP, 1, &0u64), Ok(0));
    assert_eq!(op(&guest, VCPUOP_UP, 1, &0u64), Err(errno::EINVAL));
    for beyond in [2, 0xffff_ffff, 512] {
        assert_eq!(op(&guest, VCPUOP_IS_UP, beyond, &0u64), Err(errno::ENOENT));
    }
    assert_eq!(op(&guest, 99, 0, &0u64), Err(errno::ENOSYS));
    let at = guest.bad();
    assert_eq!(
        guest.call(VCPU_OP, &[VCPUOP_INITIALISE.into(), 1, at]),
        Err(errno::EFAULT)
    );
}

/// An address that no register may hold.
const HOLE: u64 = 1 << 47;

/// Who enters its kernel at such an address faults on the way out of ring 0, and what enters the kernel for
/// that fault must not fault likewise.
#[test]
fn no_vcpu_starts_with_addresses_in_the_hole() {
    let guest = Guest::new();
    let mut good = VcpuGuestContext::new_zeroed();
    good.flags = VGCF_IN_KERNEL;
    (good.user_regs.rip, good.user_regs.rsp) = (0x1000, 0x2000);
    (good.user_regs.cs, good.user_regs.ss) = (FLAT_KERNEL_CS, FLAT_KERNEL_SS);
    good.ctrlreg[3] = guest.frame().maddr().0;
    let spoilt: [fn(&mut VcpuGuestContext); 11] = [
        |c| c.trap_ctxt[0].address = HOLE,
        |c| c.trap_ctxt[13].address = HOLE,
        |c| c.trap_ctxt[255].address = !HOLE,
        |c| c.user_regs.rip = HOLE,
        |c| c.user_regs.rsp = HOLE,
        |c| c.kernel_sp = HOLE,
        |c| c.event_callback_eip = HOLE,
        |c| c.failsafe_callback_eip = HOLE,
        |c| c.syscall_callback_eip = HOLE,
        |c| c.fs_base = HOLE,
        |c| c.gs_base_user = HOLE,
    ];
    for (n, spoil) in spoilt.iter().enumerate() {
        let mut context = good;
        spoil(&mut context);
        let result = op(&guest, VCPUOP_INITIALISE, 1, &context);
        assert_eq!(result, Err(errno::EINVAL), "context {n}");
    }
    assert_eq!(op(&guest, VCPUOP_INITIALISE, 1, &good), Ok(0));
}

#[test]
fn the_info_page_moves_once_and_is_the_guests_own() {
    let (guest, other) = (Guest::new(), Guest::new());
    let frame = guest.frame();
    for foreign in [other.frame(), guest.dom.shared.mfn().add(1 << 30), Mfn(0)] {
        assert_eq!(register(&guest, 0, foreign, 0), Err(errno::EINVAL));
    }
    for bad in [4096 - 32, 4096, u32::MAX] {
        assert_eq!(register(&guest, 0, frame, bad), Err(errno::ENXIO));
    }
    assert_eq!(register(&guest, 0, frame, 128), Ok(0));
    assert_eq!(register(&guest, 0, frame, 256), Err(errno::EINVAL));
    // It starts with everything pending, and is where events arrive.
    let page = SharedPage::new(frame).unwrap();
    assert_eq!(page.u64(136).unwrap().load(Ordering::SeqCst), u64::MAX);
    assert_eq!(page.u8(128).unwrap().load(Ordering::SeqCst), 1);
    assert!(guest.dom.vcpus()[0].info.wants_upcall());
}

#[test]
fn runstate_is_told_and_kept_told() {
    let guest = Guest::new();
    assert_eq!(op(&guest, VCPUOP_GET_RUNSTATE_INFO, 0, &0u64), Ok(0));
    let area = |addr: u64| op(&guest, VCPUOP_REGISTER_RUNSTATE_MEMORY_AREA, 0, &addr);
    assert_eq!(area(guest.at + 0x200), Ok(0));
    for bad in [0xffff_8000_0000_0000, 0x8000_0000_0000, u64::MAX - 8] {
        assert_eq!(area(bad), Err(errno::EFAULT));
    }
}

#[test]
fn timers_want_sense() {
    let guest = Guest::new();
    let periodic = |period_ns: u64| op(&guest, VCPUOP_SET_PERIODIC_TIMER, 0, &period_ns);
    assert_eq!(periodic(1000), Err(errno::EINVAL));
    assert_eq!(periodic(u64::MAX), Err(errno::EINVAL));
    assert_eq!(periodic(1_000_000), Ok(0));
    assert_eq!(op(&guest, VCPUOP_STOP_PERIODIC_TIMER, 0, &0u64), Ok(0));
    let mut shot = VcpuSetSingleshotTimer::new_zeroed();
    shot.flags = VCPU_SSHOTTMR_FUTURE;
    assert_eq!(
        op(&guest, VCPUOP_SET_SINGLESHOT_TIMER, 0, &shot),
        Err(errno::ETIME)
    );
    shot.timeout_abs_ns = u64::MAX;
    assert_eq!(op(&guest, VCPUOP_SET_SINGLESHOT_TIMER, 0, &shot), Ok(0));
    assert_eq!(
        op(&guest, VCPUOP_SET_SINGLESHOT_TIMER, 1, &shot),
        Err(errno::EINVAL)
    );
    assert_eq!(op(&guest, VCPUOP_STOP_SINGLESHOT_TIMER, 0, &0u64), Ok(0));
}
