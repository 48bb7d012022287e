use proptest::prelude::*;

use super::fake::{CODE, Fake, TABLE};
use crate::arch::rflags::{CF, SF, ZF};
use crate::emul::ptwr::{discarded_store, page_table_write};
use crate::emul::*;

const OLD: u64 = 0x0000_0001_2345_6067;

/// A guest that executes `code`, with rdi at an entry that holds `OLD`.
fn guest(code: &[u8]) -> Fake {
    let mut guest = Fake::new(code);
    guest.frame.rdi = TABLE + 0x20;
    guest.set_entry(TABLE + 0x20, OLD);
    guest
}

fn run(guest: &mut Fake) -> (Outcome, u64) {
    let outcome = page_table_write(guest, Vaddr(TABLE + 0x20));
    (outcome, guest.entry(TABLE + 0x20))
}

#[test]
fn stores_that_linux_makes() {
    // xchg [rdi], rax
    let mut it = guest(&[0x48, 0x87, 0x07]);
    assert_eq!(run(&mut it), (Outcome::Done, 0));
    assert_eq!((it.frame.rax, it.frame.rip), (OLD, CODE + 3));
    // mov [rdi], rsi
    let mut it = guest(&[0x48, 0x89, 0x37]);
    it.frame.rsi = 0x7777;
    assert_eq!(run(&mut it), (Outcome::Done, 0x7777));
    // lock and byte [rdi], 0xfd: clears the writable bit
    let mut it = guest(&[0xf0, 0x80, 0x27, 0xfd]);
    assert_eq!(run(&mut it), (Outcome::Done, OLD & !2));
    // lock btr qword [rdi], 1
    let mut it = guest(&[0xf0, 0x48, 0x0f, 0xba, 0x37, 0x01]);
    assert_eq!(run(&mut it), (Outcome::Done, OLD & !2));
    assert_eq!(it.frame.rflags & CF, CF);
    // mov qword [rdi], 0
    let mut it = guest(&[0x48, 0xc7, 0x07, 0, 0, 0, 0]);
    assert_eq!(run(&mut it), (Outcome::Done, 0));
    // mov dword [rdi + rcx * 8 + 4], eax
    let mut it = guest(&[0x89, 0x44, 0xcf, 0x04]);
    (it.frame.rdi, it.frame.rcx, it.frame.rax) = (TABLE + 0x10, 2, 0x9abc);
    assert_eq!(run(&mut it), (Outcome::Done, 0x0000_9abc_2345_6067));
}

#[test]
fn compare_and_exchange() {
    // lock cmpxchg [rdi], rsi, with a segment override that has no effect
    let code = [0x3e, 0xf0, 0x48, 0x0f, 0xb1, 0x37];
    let mut it = guest(&code);
    (it.frame.rax, it.frame.rsi) = (OLD, 0x4444);
    assert_eq!(run(&mut it), (Outcome::Done, 0x4444));
    assert_eq!(it.frame.rflags & ZF, ZF);
    let mut it = guest(&code);
    (it.frame.rax, it.frame.rsi) = (1, 0x4444);
    assert_eq!(run(&mut it), (Outcome::Done, OLD));
    assert_eq!((it.frame.rflags & ZF, it.frame.rax), (0, OLD));
    // cmpxchg8b [rdi]
    let mut it = guest(&[0x0f, 0xc7, 0x0f]);
    (it.frame.rdx, it.frame.rax, it.frame.rcx, it.frame.rbx) = (OLD >> 32, OLD & 0xffff_ffff, 1, 2);
    assert_eq!(run(&mut it), (Outcome::Done, 1 << 32 | 2));
    let mut it = guest(&[0x0f, 0xc7, 0x0f]);
    assert_eq!(run(&mut it), (Outcome::Done, OLD));
    assert_eq!(
        (it.frame.rdx, it.frame.rax, it.frame.rflags & ZF),
        (OLD >> 32, OLD & 0xffff_ffff, 0)
    );
}

#[test]
fn strings_one_element_at_a_time() {
    // rep stosq
    let mut it = guest(&[0xf3, 0x48, 0xab]);
    (it.frame.rcx, it.frame.rax) = (2, 0x1111);
    assert_eq!(run(&mut it), (Outcome::Again, 0x1111));
    assert_eq!(
        (it.frame.rcx, it.frame.rdi, it.frame.rip),
        (1, TABLE + 0x28, CODE)
    );
    assert_eq!(run(&mut it).0, Outcome::Done);
    assert_eq!((it.entry(TABLE + 0x28), it.frame.rip), (0x1111, CODE + 3));
    // movsq from memory that is not present: the fault is at the source.
    let mut it = guest(&[0x48, 0xa5]);
    it.frame.rsi = 0x10_0000;
    let fault = PageFault {
        at: Vaddr(0x10_0000),
        access: Access::Read,
    };
    assert_eq!(run(&mut it), (Outcome::Fault(Exception::Page(fault)), OLD));
}

#[test]
fn flags_of_arithmetic() {
    // xadd [rdi], rax; then sub qword [rdi], 1
    let mut it = guest(&[0x48, 0x0f, 0xc1, 0x07]);
    it.frame.rax = OLD.wrapping_neg();
    assert_eq!(run(&mut it), (Outcome::Done, 0));
    assert_eq!((it.frame.rax, it.frame.rflags & (ZF | CF)), (OLD, ZF | CF));
    let mut it = guest(&[0x48, 0x83, 0x2f, 0x01]);
    it.set_entry(TABLE + 0x20, 0);
    it.refused_bit = 0;
    assert_eq!(run(&mut it), (Outcome::Done, u64::MAX));
    assert_eq!(it.frame.rflags & (ZF | CF | SF), CF | SF);
}

#[test]
fn another_cpu_changes_the_entry_too() {
    let mut it = guest(&[0xf0, 0x80, 0x27, 0xfd]);
    it.races = 3;
    assert_eq!(run(&mut it), (Outcome::Done, (OLD ^ 0x20) & !2));
    let mut it = guest(&[0xf0, 0x80, 0x27, 0xfd]);
    it.races = 1000;
    assert_eq!(run(&mut it).0, Outcome::Again);
    assert_eq!(it.frame.rip, CODE);
}

#[test]
fn what_is_refused_leaves_no_trace() {
    // A refused entry. A store across two entries. A store to a page other than the fault's. 16 bytes. A
    // register operand. An instruction that is not emulated (movups).
    let cases: [(&[u8], u64); 6] = [
        (&[0x48, 0x89, 0x37], TABLE + 0x20),
        (&[0x48, 0x89, 0x37], TABLE + 0x24),
        (&[0x48, 0x89, 0x37], TABLE + 0x1000),
        (&[0x48, 0x0f, 0xc7, 0x0f], TABLE + 0x20),
        (&[0x48, 0x89, 0xf7], TABLE + 0x20),
        (&[0x0f, 0x11, 0x07], TABLE + 0x20),
    ];
    for (code, rdi) in cases {
        let mut it = guest(code);
        (it.frame.rdi, it.frame.rsi) = (rdi, 1 << 63);
        let before = std::format!("{:?}", it.frame);
        assert_eq!(run(&mut it), (Outcome::NotOurs, OLD), "{code:x?}");
        assert_eq!(before, std::format!("{:?}", it.frame));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5_000))]
    /// Whatever the code is, the emulator doesn't panic, nothing outside the table changes, and no refused
    /// entry is stored.
    #[test]
    fn any_bytes(
        code in proptest::collection::vec(any::<u8>(), 0..16),
        start in proptest::option::of(0usize..10),
        registers in any::<[u64; 4]>(),
        at in TABLE - 8..TABLE + 0x1008,
    ) {
        let starts: [&[u8]; 10] = [
            b"\x48\x87", b"\x48\x89", b"\xf0\x80", b"\x48\xc7", b"\x0f\xb1", b"\x0f\xc7", b"\xf3\xab", b"\x48\xa5",
            b"\x48\x0f\xba", b"\x0f\xab",
        ];
        let mut bytes = start.map_or(std::vec::Vec::new(), |n| starts[n].to_vec());
        bytes.extend(&code);
        let mut it = Fake::new(&bytes);
        let frame = &mut it.frame;
        [frame.rax, frame.rcx, frame.rdx, frame.rsi] = registers;
        (frame.rdi, frame.rbx, frame.r8) = (at, at, at);
        let before = it.memory.clone();
        page_table_write(&mut it, Vaddr(at));
        let table = TABLE as usize..TABLE as usize + 0x1000;
        prop_assert_eq!(&before[..table.start], &it.memory[..table.start]);
        prop_assert_eq!(&before[table.end..], &it.memory[table.end..]);
        for entry in table.step_by(8) {
            prop_assert_eq!(it.entry(entry as u64) & it.refused_bit, 0);
        }
    }
}

/// If the frame is no longer the guest's table, the guest must not learn its contents, even if nothing
/// would be stored.
#[test]
fn a_failed_exchange_is_checked_like_one_that_stores() {
    let mut it = guest(&[0xf0, 0x48, 0x0f, 0xb1, 0x37]);
    (it.frame.rax, it.frame.rsi, it.refused_bit) = (1, 0x4444, u64::MAX);
    assert_eq!(run(&mut it), (Outcome::NotOurs, OLD));
    assert_eq!((it.frame.rax, it.frame.rip), (1, CODE));
}

#[test]
fn stores_without_effect() {
    let pass = |guest: &mut Fake| discarded_store(guest, Vaddr(TABLE + 0x20));
    // mov dword [rdi], esi
    let mut it = guest(&[0x89, 0x37]);
    assert_eq!(pass(&mut it), Outcome::Done);
    assert_eq!((it.entry(TABLE + 0x20), it.frame.rip), (OLD, CODE + 2));
    // rep stosd
    let mut it = guest(&[0xf3, 0xab]);
    it.frame.rcx = 2;
    assert_eq!(pass(&mut it), Outcome::Again);
    assert_eq!(pass(&mut it), Outcome::Done);
    assert_eq!((it.frame.rcx, it.frame.rdi), (0, TABLE + 0x28));
    // Instructions that also read, or that store elsewhere, are not skipped: xchg, or, and mov [rdi + 0x1000].
    for code in [
        &[0x87, 0x37][..],
        &[0x09, 0x37],
        &[0x89, 0xb7, 0, 0x10, 0, 0],
    ] {
        let mut it = guest(code);
        assert_eq!(pass(&mut it), Outcome::NotOurs);
        assert_eq!(it.frame.rip, CODE);
    }
}

/// A 32-bit kernel that sets an entry by halves, the upper one first, gets an entry that is not present in between.
#[test]
fn a_refused_upper_half_is_stored_without_the_present_bit() {
    let in_32_bits = |code: &[u8]| {
        let mut it = guest(code);
        (it.bits, it.refused_bit) = (Bits::ThirtyTwo, 1 << 40);
        it.frame.rax = 0x100;
        it
    };
    // mov [edi + 4], eax
    let mut it = in_32_bits(&[0x89, 0x47, 0x04]);
    it.refused_when_present = true;
    assert_eq!(run(&mut it), (Outcome::Done, 0x0000_0100_2345_6066));
    // mov [edi], eax: the lower half has no such way, and neither has xor [edi + 4], eax, nor cmpxchg [edi + 4], ecx.
    let mut it = in_32_bits(&[0x89, 0x07]);
    (it.refused_bit, it.refused_when_present) = (0x100, true);
    it.frame.rax = 0x101;
    assert_eq!(run(&mut it), (Outcome::NotOurs, OLD));
    for code in [&[0x31, 0x47, 0x04][..], &[0x0f, 0xb1, 0x4f, 0x04]] {
        let mut it = in_32_bits(code);
        it.refused_when_present = true;
        if code[0] == 0x0f {
            (it.frame.rax, it.frame.rcx) = (OLD >> 32, 0x100);
        }
        assert_eq!(run(&mut it), (Outcome::NotOurs, OLD), "{code:x?}");
    }
    // 64-bit code, in which such a store is nothing special.
    let mut it = in_32_bits(&[0x89, 0x47, 0x04]);
    (it.bits, it.refused_when_present) = (Bits::SixtyFour, true);
    assert_eq!(run(&mut it), (Outcome::NotOurs, OLD));
}

/// With 16-bit addresses, the upper halves of the registers stay.
#[test]
fn strings_with_addresses_of_16_bits() {
    // addr16 rep stosd
    let mut it = guest(&[0x67, 0xf3, 0xab]);
    it.bits = Bits::ThirtyTwo;
    let high = 0x7654_0000;
    (it.frame.rdi, it.frame.rcx) = (high | (TABLE + 0x20), high | 2);
    it.frame.rax = 0x1111;
    assert_eq!(run(&mut it).0, Outcome::Again);
    assert_eq!(
        (it.frame.rdi, it.frame.rcx),
        (high | (TABLE + 0x24), high | 1)
    );
    assert_eq!(run(&mut it).0, Outcome::Done);
    assert_eq!(
        (it.frame.rcx, it.entry(TABLE + 0x20)),
        (high, 0x1111_0000_1111)
    );
}
