//! Tests of a vCPU's FPU state and MSRs, as save and restore read and set them, on a simulated
//! machine with AVX.

use guest_pv_abi::callback::{CALLBACKOP_REGISTER, CALLBACKOP_UNREGISTER, CALLBACKTYPE_SYSCALL};
use guest_pv_abi::domctl::{self as abi, ExtVcpuContext, VcpuExtState, VcpuMsr, VcpuMsrs};
use guest_pv_abi::errno::{self, Errno};
use guest_pv_abi::{GuestHandle, Width, hypercall as nr};
use zerocopy::FromZeros;

use super::control::Toolstack;
use super::guest::Guest;
use crate::pv::state::Callback;

/// An XSAVE area with AVX, after the two leading words.
const WITH_AVX: u64 = 16 + 832;

type Image = [[u8; 8]; WITH_AVX as usize / 8];

fn image(xcr0: u64, ever: u64, has: u64) -> Image {
    let mut image = [[0x21; 8]; WITH_AVX as usize / 8];
    image[0] = xcr0.to_le_bytes();
    image[1] = ever.to_le_bytes();
    image[2 + 64..2 + 72].fill([0; 8]);
    image[2 + 64] = has.to_le_bytes();
    image
}

fn body(tools: &Toolstack, size: u64) -> VcpuExtState {
    VcpuExtState {
        vcpu: 0,
        _gap0: [0; 4],
        xfeature_mask: 7,
        size,
        buffer: tools.more(),
    }
}

fn allow_avx(guest: &Guest) {
    guest.dom.cpuid.lock().xstate[0].a = 7;
}

fn set(tools: &Toolstack, guest: &Guest, image: &Image, size: u64) -> Result<u16, Errno> {
    tools.0.write(tools.more().0, image);
    let mut body = body(tools, size);
    tools.call(abi::XEN_DOMCTL_SETVCPUEXTSTATE, guest.id(), &mut body)
}

#[test]
fn the_whole_state_comes_back() {
    let (tools, guest) = (Toolstack::new(), Guest::new());
    allow_avx(&guest);
    let get = abi::XEN_DOMCTL_GETVCPUEXTSTATE;
    let mut query = VcpuExtState {
        xfeature_mask: 0,
        ..body(&tools, 0)
    };
    tools.call(get, guest.id(), &mut query).unwrap();
    assert_eq!((query.size, query.xfeature_mask), (WITH_AVX, 7));

    // A state with AVX in use, although AVX is disabled at the moment.
    let image = image(3, 7, 7);
    set(&tools, &guest, &image, WITH_AVX).unwrap();
    tools.0.write(tools.more().0, &[[0u8; 8]; 106]);
    let mut body = body(&tools, WITH_AVX);
    tools.call(get, guest.id(), &mut body).unwrap();
    assert_eq!(body.size, WITH_AVX);
    let mut seen: Image = tools.0.read(tools.more().0);
    // The machine's mask of MXCSR is 0xffbf.
    assert_eq!(seen[2 + 3][..4], (0x2121_2121u32 & 0xffbf).to_le_bytes());
    seen[2 + 3] = image[2 + 3];
    assert_eq!(seen, image);

    body.size = WITH_AVX - 1;
    assert_eq!(tools.call(get, guest.id(), &mut body), Err(errno::EINVAL));
    body.size = WITH_AVX;
    body.xfeature_mask = 3;
    assert_eq!(tools.call(get, guest.id(), &mut body), Err(errno::EINVAL));
    body.xfeature_mask = 7;
    body.buffer = GuestHandle(tools.0.bad());
    assert_eq!(tools.call(get, guest.id(), &mut body), Err(errno::EFAULT));
    body.vcpu = 77;
    assert_eq!(tools.call(get, guest.id(), &mut body), Err(errno::ESRCH));
}

#[test]
fn states_that_could_not_be_are_refused() {
    let (tools, guest) = (Toolstack::new(), Guest::new());
    let invalid = Err(errno::EINVAL);
    allow_avx(&guest);
    let try_set = |image: &Image, size| set(&tools, &guest, image, size).map(|_| ());
    assert_eq!(try_set(&image(7, 7, 7), WITH_AVX), Ok(()));
    assert_eq!(try_set(&image(7, 7, 7 | 1 << 9), WITH_AVX), invalid);
    assert_eq!(try_set(&image(0x207, 0x207, 7), WITH_AVX), invalid);
    assert_eq!(try_set(&image(5, 7, 7), WITH_AVX), invalid);
    assert_eq!(try_set(&image(0, 0, 0), WITH_AVX), invalid);
    // Buffers of a wrong size.
    assert_eq!(try_set(&image(3, 3, 3), 16 + 576), Ok(()));
    assert_eq!(try_set(&image(7, 7, 7), 16 + 576), invalid);
    for size in [0, 15, 17, 16 + 575, WITH_AVX + 1, u64::MAX] {
        assert_eq!(try_set(&image(7, 7, 7), size), invalid, "{size}");
    }
    assert_eq!(try_set(&image(0, 0, 0), 16), Ok(()));
    assert_eq!(try_set(&image(1, 1, 0), 16), invalid);
    // An area in the compacted format.
    let mut compacted = image(7, 7, 7);
    compacted[2 + 65] = (1u64 << 63 | 7).to_le_bytes();
    assert_eq!(try_set(&compacted, WITH_AVX), Err(errno::EOPNOTSUPP));
    // A component that the policy doesn't allow.
    guest.dom.cpuid.lock().xstate[0].a = 3;
    assert_eq!(try_set(&image(7, 7, 7), WITH_AVX), invalid);
}

#[test]
fn msrs_are_carried() {
    let (tools, guest) = (Toolstack::new(), Guest::new());
    guest.dom.cpuid.lock().platform_info = 1 << 31;
    let (get, set) = (abi::XEN_DOMCTL_GET_VCPU_MSRS, abi::XEN_DOMCTL_SET_VCPU_MSRS);
    let body = |msr_count| VcpuMsrs {
        vcpu: 0,
        msr_count,
        msrs: tools.more(),
    };
    let mut query = VcpuMsrs {
        msrs: GuestHandle(0),
        ..body(0)
    };
    tools.call(get, guest.id(), &mut query).unwrap();
    assert_eq!(query.msr_count, 2);
    let msr = |index, value| VcpuMsr {
        index,
        reserved: 0,
        value,
    };
    tools.0.write(tools.more().0, &msr(0x140, 1));
    tools.call(set, guest.id(), &mut body(1)).unwrap();
    tools.0.write(tools.more().0, &msr(0, 0));
    let mut seen = body(2);
    tools.call(get, guest.id(), &mut seen).unwrap();
    assert_eq!(seen.msr_count, 1);
    assert_eq!(tools.0.read::<VcpuMsr>(tools.more().0), msr(0x140, 1));
    assert_eq!(
        tools.call(get, guest.id(), &mut body(0)),
        Err(errno::ENOBUFS)
    );
    for bad in [msr(0x140, 3), msr(0x48, 1), msr(0xc000_0103, 1 << 32)] {
        tools.0.write(tools.more().0, &bad);
        assert_eq!(
            tools.call(set, guest.id(), &mut body(1)),
            Err(errno::EINVAL)
        );
    }
    assert_eq!(
        tools.call(set, guest.id(), &mut body(3)),
        Err(errno::EINVAL)
    );
}

/// The selectors of a 32-bit guest's callbacks survive a save and a restore. A null one means that there is no callback.
#[test]
fn callbacks_of_system_calls_come_back() {
    let (tools, guest) = (Toolstack::new(), Guest::new());
    guest.dom.set_width(Width::Narrow).unwrap();
    let mut set = ExtVcpuContext::new_zeroed();
    set.size = size_of::<ExtVcpuContext>() as u32;
    (set.sysenter_callback_cs, set.sysenter_callback_eip) = (0xe019, 0xc000_1000);
    (set.syscall32_callback_cs, set.syscall32_disables_events) = (0x0b, 1);
    tools
        .call(abi::XEN_DOMCTL_SET_EXT_VCPUCONTEXT, guest.id(), &mut set)
        .unwrap();
    let mut seen = ExtVcpuContext::new_zeroed();
    tools
        .call(abi::XEN_DOMCTL_GET_EXT_VCPUCONTEXT, guest.id(), &mut seen)
        .unwrap();
    assert_eq!(
        (seen.sysenter_callback_cs, seen.sysenter_callback_eip),
        (0xe019, 0xc000_1000)
    );
    assert_eq!(
        (seen.syscall32_callback_cs, seen.syscall32_disables_events),
        (0x0b, 1)
    );
    let entries = Callback {
        entry: 0xc000_1000,
        cs: 3,
        masks_events: 0,
    };
    assert!(!entries.is_registered(Width::Narrow) && entries.is_registered(Width::Wide));
}

/// As on Xen, callback_op refuses a 32-bit guest's 64-bit system calls, and an unknown command with an error of its own.
#[test]
fn callbacks_of_64_bit_code_are_for_wide_guests() {
    let answers = |width| {
        let guest = Guest::new();
        guest.dom.set_width(width).unwrap();
        guest.dom.vcpus()[0].descheduled().unwrap().pv_mut().width = width;
        guest.write(guest.at, &[CALLBACKTYPE_SYSCALL, 0, 0, 0]);
        let op = |cmd: u32| guest.call(nr::CALLBACK_OP, &[cmd.into(), guest.at]);
        [CALLBACKOP_REGISTER, CALLBACKOP_UNREGISTER, 2].map(op)
    };
    let (wide, narrow) = (answers(Width::Wide), answers(Width::Narrow));
    assert_eq!(wide, [Ok(0), Err(errno::EINVAL), Err(errno::ENOSYS)]);
    let none = Err(errno::ENOSYS);
    assert_eq!(narrow, [none, none, Err(errno::EINVAL)]);
}
