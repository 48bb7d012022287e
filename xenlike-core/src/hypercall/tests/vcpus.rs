//! Tests of vcpu_op.

use crate::kit::atomic::Ordering;
use core::time::Duration;

use guest_pv_abi::arch_x86::{FLAT_KERNEL_CS, FLAT_KERNEL_SS, VGCF_IN_KERNEL, VcpuGuestContext};
use guest_pv_abi::errno::{self, Errno};
use guest_pv_abi::hypercall::VCPU_OP;
use guest_pv_abi::vcpu::*;
use zerocopy::{FromZeros, Immutable, IntoBytes};

use super::guest::Guest;
use crate::domain::time;
use crate::domain::vcpu::pause;
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

/// A non-canonical address.
const HOLE: u64 = 1 << 47;

/// A non-canonical entry point would fault on the way out of ring 0, and the delivery of that fault must not fault
/// again.
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
    // A newly registered area starts with all events pending, and receives events from then on.
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

/// Makes a call while a CPU still holds vCPU 1's state, which it releases a little later. Returns whether vCPU 1 was
/// up before that, and the call's result.
fn while_on_its_cpu<T: IntoBytes + Immutable + Sync>(
    guest: &Guest,
    command: u32,
    argument: &T,
) -> (bool, Result<i64, Errno>) {
    let vcpu = &guest.dom.vcpus()[1];
    let visit = vcpu.descheduled().unwrap();
    std::thread::scope(|scope| {
        let call = scope.spawn(|| op(guest, command, 1, argument));
        std::thread::sleep(Duration::from_millis(20));
        let up = vcpu.is_up();
        drop(visit);
        (up, call.join().unwrap())
    })
}

/// A vCPU that was taken down may stay on its CPU for a moment.
#[test]
fn calls_for_a_vcpu_that_goes_down_wait_for_it() {
    let guest = Guest::new();
    let area = guest.at + 0x200;
    let runstate = while_on_its_cpu(&guest, VCPUOP_REGISTER_RUNSTATE_MEMORY_AREA, &area);
    assert_eq!(runstate, (false, Ok(0)));
    let mut info = VcpuRegisterVcpuInfo::new_zeroed();
    (info.mfn, info.offset) = (guest.frame().0, 64);
    let info = while_on_its_cpu(&guest, VCPUOP_REGISTER_VCPU_INFO, &info);
    assert_eq!(info, (false, Ok(0)));
    assert_eq!(guest.dom.vcpus()[1].gate.holds() / pause::HELD_ONCE, 1);
}

/// Another vCPU that holds the state may be about to set the registers, and fail.
#[test]
fn no_vcpu_comes_up_while_it_is_initialised() {
    let guest = Guest::new();
    let result = while_on_its_cpu(&guest, VCPUOP_UP, &0u64);
    assert_eq!(result, (false, Err(errno::EINVAL)));
    assert!(!guest.dom.vcpus()[1].is_up());
}

#[test]
fn periodic_timers_rest_while_their_vcpu_is_held() {
    let guest = Guest::new();
    let vcpu = &guest.dom.vcpus()[0];
    let is_set = || {
        let mut told = false;
        let ask = |is_set: &dyn Fn() -> bool| {
            told = is_set();
            false
        };
        let cpu = crate::arch::percpu::this_cpu();
        let set = time::TIMERS.set_if(&vcpu.timers.periodic, cpu, 0, ask);
        assert_eq!(set, Ok(false));
        told
    };
    let period_ns = u64::MAX / 8;
    assert_eq!(op(&guest, VCPUOP_SET_PERIODIC_TIMER, 0, &period_ns), Ok(0));
    assert!(is_set());
    // A tick that fires while the vCPU is down and paused doesn't rearm the timer.
    time::TIMERS.cancel(&vcpu.timers.periodic);
    time::tick(&guest.dom, vcpu, 1);
    assert!(!is_set());
    // When the vCPU is scheduled again, the timer is rearmed; from then on each tick rearms it while nothing holds
    // the vCPU.
    time::resume_ticks(vcpu, u64::MAX / 4);
    assert!(is_set());
    let holds = vcpu.gate.remove(!pause::BLOCKED);
    time::TIMERS.cancel(&vcpu.timers.periodic);
    time::tick(&guest.dom, vcpu, 1);
    assert!(is_set());
    vcpu.gate.set(holds);
    time::stop_ticks(vcpu);
    time::resume_ticks(vcpu, 1);
    assert!(!is_set());
}
