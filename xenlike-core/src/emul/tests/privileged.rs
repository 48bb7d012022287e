use proptest::prelude::*;
use std::vec::Vec;

use super::fake::{CODE, Fake};
use crate::arch::cr::cr4;
use crate::arch::frame::Mode;
use crate::arch::xstate::is_valid_xcr0;
use crate::cpuid::guest::Role;
use crate::emul::msr::PAT;
use crate::emul::*;

fn run(code: &[u8]) -> (Outcome, Fake) {
    let mut guest = Fake::new(code);
    (general_protection(&mut guest), guest)
}

fn rdmsr(guest: &mut Fake, number: u32) -> Option<u64> {
    guest.frame.rip = CODE;
    guest.memory[CODE as usize..][..2].copy_from_slice(&[0x0f, 0x32]);
    guest.frame.rcx = u64::from(number);
    match general_protection(guest) {
        Outcome::Done => Some(guest.frame.rdx << 32 | guest.frame.rax),
        Outcome::Fault(Exception::GeneralProtection) => None,
        other => panic!("rdmsr {number:#x}: {other:?}"),
    }
}

fn wrmsr(guest: &mut Fake, number: u32, value: u64) -> bool {
    guest.frame.rip = CODE;
    guest.memory[CODE as usize..][..2].copy_from_slice(&[0x0f, 0x30]);
    (guest.frame.rcx, guest.frame.rax, guest.frame.rdx) =
        (u64::from(number), value & 0xffff_ffff, value >> 32);
    general_protection(guest) == Outcome::Done
}

#[test]
fn cpuid_by_force_and_by_fault() {
    let mut guest = Fake::new(b"\x0f\x0bxen\x0f\xa2");
    guest.frame.rax = 0x4000_0000;
    assert_eq!(invalid_opcode(&mut guest), Outcome::Done);
    assert_eq!((guest.frame.rip, guest.frame.rbx), (CODE + 7, 0x566e_6558));
    let (outcome, guest) = run(&[0x0f, 0xa2]);
    assert_eq!(
        (outcome, guest.frame.rip, guest.frame.rax),
        (Outcome::Done, CODE + 2, 0xd)
    );
    // Another instruction after the prefix, or another prefix, remains #UD.
    for code in [b"\x0f\x0bxen\x0f\x32".as_slice(), b"\x0f\x0bxem\x0f\xa2"] {
        let mut guest = Fake::new(code);
        assert_eq!(invalid_opcode(&mut guest), Outcome::NotOurs);
        assert_eq!(guest.frame.rip, CODE);
    }
}

#[test]
fn cpuid_faults_in_user_mode_if_the_kernel_wants_it() {
    let mut guest = Fake::new(&[0x0f, 0xa2]);
    guest.mode = Mode::User;
    guest.msrs.misc_features = 1;
    assert_eq!(
        general_protection(&mut guest),
        Outcome::Fault(Exception::GeneralProtection)
    );
    guest.mode = Mode::Kernel;
    assert_eq!(general_protection(&mut guest), Outcome::Done);
}

#[test]
fn user_mode_gets_nothing_privileged() {
    for code in [
        [0x0f, 0x06, 0].as_slice(),
        &[0x0f, 0x09],
        &[0x0f, 0x20, 0xc0],
        &[0x0f, 0x22, 0xd8],
        &[0x0f, 0x30],
        &[0x0f, 0x32],
        &[0x0f, 0x01, 0xd1],
        &[0xf4],
        &[0x0f, 0x23, 0xf8],
    ] {
        let mut guest = Fake::new(code);
        guest.mode = Mode::User;
        let before = guest.frame;
        assert_eq!(
            general_protection(&mut guest),
            Outcome::NotOurs,
            "{code:x?}"
        );
        assert_eq!(
            std::format!("{before:?}"),
            std::format!("{:?}", guest.frame)
        );
    }
}

#[test]
fn control_registers() {
    // mov rax, cr0; mov r8, cr3
    let (outcome, guest) = run(&[0x0f, 0x20, 0xc0]);
    assert_eq!((outcome, guest.frame.rax), (Outcome::Done, 0x8005_0033));
    let (outcome, guest) = run(&[0x41, 0x0f, 0x20, 0xd8]);
    assert_eq!(
        (outcome, guest.frame.r8, guest.frame.rip),
        (Outcome::Done, 0x7000, CODE + 4)
    );
    // mov cr0, rax: only TS may change.
    let mut guest = Fake::new(&[0x0f, 0x22, 0xc0]);
    guest.frame.rax = 0x8005_003b;
    assert_eq!(general_protection(&mut guest), Outcome::Done);
    assert!(guest.ts);
    (guest.frame.rip, guest.frame.rax) = (CODE, 0x0005_0033);
    assert_eq!(general_protection(&mut guest), Outcome::NotOurs);
    // mov cr4, rax: bits that the guest may not have are ignored.
    let mut guest = Fake::new(&[0x0f, 0x22, 0xe0]);
    guest.frame.rax = u64::MAX;
    assert_eq!(general_protection(&mut guest), Outcome::Done);
    assert_eq!(guest.cr[4], 0x6e0 | 1 << 18 | 1 << 16 | 0xc);
    let (outcome, guest) = run(&[0x0f, 0x06]);
    assert_eq!((outcome, guest.ts), (Outcome::Done, false));
}

#[test]
fn extended_control_register() {
    let mut guest = Fake::new(&[0x0f, 0x01, 0xd1]);
    guest.frame.rax = 7;
    assert_eq!(
        general_protection(&mut guest),
        Outcome::Fault(Exception::InvalidOpcode)
    );
    guest.cr[4] |= cr4::OSXSAVE;
    assert_eq!(general_protection(&mut guest), Outcome::Done);
    assert_eq!(guest.xcr0, 7);
    for bad in [0, 2, 5, 0x18, 1 << 9 | 3] {
        (guest.frame.rip, guest.frame.rax) = (CODE, bad);
        assert_eq!(
            general_protection(&mut guest),
            Outcome::Fault(Exception::GeneralProtection),
            "{bad:#x}"
        );
    }
    assert!(is_valid_xcr0(0xe7, 0xe7));
    assert!(!is_valid_xcr0(0x67, 0xe7));
}

#[test]
fn msrs_that_linux_reads_at_boot() {
    let mut guest = Fake::new(&[]);
    guest.bases = [0x1000, 0x2000, 0x3000];
    let expected = [
        (0x1b, Some(0xfee0_0900)),
        (0x8b, Some(0x42)),
        (0x179, Some(2)),
        (0x17a, Some(0)),
        (0x277, Some(PAT)),
        (0x400, Some(u64::MAX)),
        (0x403, Some(0)),
        (0x404, Some(u64::MAX)),
        (0x405, Some(0)),
        (0x407, Some(0)),
        (0xc000_0080, Some(0xd01)),
        (0xc000_0100, Some(0x1000)),
        (0xc000_0101, Some(0x2000)),
        (0xc000_0102, Some(0x3000)),
        (0xc001_0000, Some(0)),
        (0xc001_0007, Some(0)),
        (0xc001_1029, Some(2)),
        (0xc000_0081, None),
        (0xc000_0082, None),
        (0x174, None),
        (0xfe, None),
        (0x48, None),
        (0xc001_0010, None),
        (0x800, None),
        (0xffff_ffff, None),
    ];
    for (number, value) in expected {
        assert_eq!(rdmsr(&mut guest, number), value, "{number:#x}");
    }
}

/// The bases are those of whichever guest the CPU ran last, and long mode is none of its own.
#[test]
fn a_32_bit_kernel_has_no_msrs_of_long_mode() {
    let mut guest = Fake::new(&[]);
    guest.bits = Bits::ThirtyTwo;
    guest.bases = [0x1000, 0x2000, 0x3000];
    for number in [0xc000_0100, 0xc000_0101, 0xc000_0102] {
        assert_eq!(rdmsr(&mut guest, number), None, "{number:#x}");
        assert!(!wrmsr(&mut guest, number, 0x5000), "{number:#x}");
    }
    assert_eq!(guest.bases, [0x1000, 0x2000, 0x3000]);
    // The fake's CPU is AMD's, which has SYSCALL outside of long mode, too.
    assert_eq!(rdmsr(&mut guest, 0xc000_0080), Some(0x801));
}

#[test]
fn msr_writes() {
    let mut guest = Fake::new(&[]);
    for (number, value, accepted) in [
        (0xc000_0101, 0xffff_8880_0000_0000, true),
        (0xc000_0101, 0x8000_0000_0000, false),
        (0xc000_0102, 0x7fff_ffff_f000, true),
        (0xc000_0103, 5, true),
        (0xc000_0103, 1 << 32, false),
        (0x400, 0, true),
        (0x401, 0, true),
        (0x404, u64::MAX, true),
        (0xc001_0007, 0xabcd, true),
        (0xc000_0080, 0xd01, true),
        (0xc000_0080, 0xd00, false),
        (0x277, PAT, true),
        (0x277, 0, false),
        (0xc000_0082, 0x1000, false),
        (0x4000_0000, 0x3000, false),
        (0x140, 1, false),
    ] {
        assert_eq!(
            wrmsr(&mut guest, number, value),
            accepted,
            "{number:#x} {value:#x}"
        );
    }
    assert_eq!(guest.bases[1..], [0xffff_8880_0000_0000, 0x7fff_ffff_f000]);
    assert_eq!(
        (guest.msrs.tsc_aux, guest.machine_msrs[&0xc000_0103]),
        (5, 5)
    );
}

#[test]
fn time_stamp_counter() {
    let (outcome, guest) = run(&[0x0f, 0x31]);
    assert_eq!(
        (outcome, guest.frame.rax, guest.frame.rdx),
        (Outcome::Done, 0x2345_6789, 1)
    );
    let mut guest = Fake::new(&[0x0f, 0x01, 0xf9]);
    guest.msrs.tsc_aux = 9;
    guest.mode = Mode::User;
    assert_eq!(
        (general_protection(&mut guest), guest.frame.rcx),
        (Outcome::Done, 9)
    );
    (guest.frame.rip, guest.cr[4]) = (CODE, cr4::TSD);
    assert_eq!(
        general_protection(&mut guest),
        Outcome::Fault(Exception::GeneralProtection)
    );
}

#[test]
fn small_ones() {
    let (outcome, guest) = run(&[0xf4]);
    assert_eq!((outcome, guest.frame.rip), (Outcome::Block, CODE + 1));
    assert_eq!(run(&[0xfa]).0, Outcome::Done);
    let mut guest = Fake::new(&[0xfb]);
    guest.iopl = false;
    assert_eq!(general_protection(&mut guest), Outcome::NotOurs);
    let (outcome, guest) = run(&[0x0f, 0x09]);
    assert_eq!((outcome, guest.flushes), (Outcome::Done, 0));
    let mut guest = Fake::new(&[0x0f, 0x09]);
    guest.role = Role::Hardware;
    assert_eq!(
        (general_protection(&mut guest), guest.flushes),
        (Outcome::Done, 1)
    );
    // A single step, with RF set, which the instruction clears.
    let mut guest = Fake::new(&[0xfa]);
    guest.frame.rflags |= 0x1_0100;
    assert_eq!(
        (general_protection(&mut guest), guest.frame.rflags),
        (Outcome::Debug(1 << 14), 0x302)
    );
    // mov dr7, rdi; mov rsi, dr7
    let mut guest = Fake::new(&[0x0f, 0x23, 0xff, 0x0f, 0x21, 0xfe]);
    guest.frame.rdi = 0x400;
    assert_eq!(general_protection(&mut guest), Outcome::Done);
    assert_eq!(general_protection(&mut guest), Outcome::Done);
    assert_eq!((guest.dr[7], guest.frame.rsi), (0x400, 0x400));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5_000))]
    /// Whatever the bytes and registers are, the emulator doesn't panic, and an instruction that it doesn't
    /// handle has no effect.
    #[test]
    fn any_bytes(
        code in proptest::collection::vec(any::<u8>(), 0..20),
        registers in any::<[u64; 6]>(),
        start in proptest::option::of(0usize..12),
        bits in 0u8..3,
        user in any::<bool>(),
    ) {
        let starts: [&[u8]; 12] = [
            b"\x0f\x32", b"\x0f\x30", b"\x0f\x20", b"\x0f\x22", b"\xf3\x6c", b"\xf3\x6f", b"\xec", b"\xef",
            b"\x0f\x01", b"\x0f\x0bxen\x0f\xa2", b"\x0f\x23", b"\x66\xe5",
        ];
        let mut bytes: Vec<u8> = start.map_or(Vec::new(), |n| starts[n].to_vec());
        bytes.extend(&code);
        let mut guest = Fake::new(&bytes);
        guest.bits = [Bits::Sixteen, Bits::ThirtyTwo, Bits::SixtyFour][usize::from(bits)];
        guest.mode = if user { Mode::User } else { Mode::Kernel };
        let frame = &mut guest.frame;
        [frame.rax, frame.rcx, frame.rdx, frame.rsi, frame.rdi, frame.rbp] = registers;
        let before = std::format!("{:?}", guest.frame);
        let traps: [fn(&mut Fake) -> Outcome; 2] = [|guest| general_protection(guest), |guest| invalid_opcode(guest)];
        for trap in traps {
            let outcome = trap(&mut guest);
            if matches!(outcome, Outcome::NotOurs | Outcome::Fault(Exception::GeneralProtection)) {
                prop_assert_eq!(&before, &std::format!("{:?}", guest.frame));
            } else {
                break;
            }
        }
    }
}
