use super::fake::{CODE, Fake};
use crate::cpuid::guest::Role;
use crate::emul::*;

fn guest(code: &[u8], port: u16) -> Fake {
    let mut guest = Fake::new(code);
    guest.frame.rdx = u64::from(port);
    guest
}

/// The value that `in` returns for a port that the domain has not been given.
fn input(port: u16, code: &[u8]) -> u64 {
    let mut guest = guest(code, port);
    assert_eq!(general_protection(&mut guest), Outcome::Done);
    guest.frame.rax
}

#[test]
fn ports_that_nobody_gave_read_as_ones() {
    for port in [
        0x20, 0x21, 0x60, 0x64, 0x71, 0x87, 0xa1, 0x2f9, 0x3f9, 0xcf8, 0xcfb, 0xcfc, 0xcff, 0xffff,
    ] {
        assert_eq!(input(port, &[0xec]), 0xff, "{port:#x}");
    }
    assert_eq!(input(0xcfe, &[0x66, 0xed]), 0xffff);
    assert_eq!(input(0xcfc, &[0xed]), 0xffff_ffff);
    assert_eq!(input(0xcfd, &[0xed]), 0xffff_ffff);
    let mut guest = guest(&[0xee], 0x3f8);
    assert_eq!(
        (general_protection(&mut guest), guest.outs.len()),
        (Outcome::Done, 0)
    );
}

#[test]
fn widths_and_registers() {
    // in al, 0x80 leaves the rest of rax unchanged; in eax clears the upper half.
    let mut guest = Fake::new(&[0xe4, 0x80]);
    guest.held = [(0x80, 0x83)].to_vec();
    guest.frame.rax = u64::MAX;
    assert_eq!(
        (general_protection(&mut guest), guest.frame.rax),
        (Outcome::Done, 0xffff_ffff_ffff_ff80)
    );
    (guest.frame.rip, guest.memory[CODE as usize]) = (CODE, 0xe5);
    assert_eq!(
        (general_protection(&mut guest), guest.frame.rax),
        (Outcome::Done, 0x1234_0080)
    );
    // The access includes a port that the domain doesn't have, so it is emulated and reads as ones.
    guest.held = [(0x80, 0x82)].to_vec();
    guest.frame.rip = CODE;
    assert_eq!(
        (general_protection(&mut guest), guest.frame.rax),
        (Outcome::Done, 0xffff_ffff)
    );
    // out 0x80, ax
    let mut guest = Fake::new(&[0x66, 0xe7, 0x80]);
    guest.held = [(0x80, 0x83)].to_vec();
    guest.frame.rax = 0xabcd_1234;
    assert_eq!(general_protection(&mut guest), Outcome::Done);
    assert_eq!(guest.outs, [(0x80, Width::Word, 0x1234)]);
}

#[test]
fn without_iopl_the_bitmap_counts() {
    let mut guest = guest(&[0xec], 0x80);
    (guest.iopl, guest.mode) = (false, Mode::User);
    assert_eq!(general_protection(&mut guest), Outcome::NotOurs);
    guest.bitmap = [0x80].to_vec();
    assert_eq!(general_protection(&mut guest), Outcome::Done);
    (guest.frame.rip, guest.memory[CODE as usize]) = (CODE, 0xed);
    assert_eq!(general_protection(&mut guest), Outcome::NotOurs);
}

#[test]
fn pci_configuration() {
    let mut guest = guest(&[0xef, 0xed], 0xcf8);
    guest.frame.rax = 0x8000_0810;
    assert_eq!(general_protection(&mut guest), Outcome::Done);
    guest.frame.rax = 0;
    assert_eq!(general_protection(&mut guest), Outcome::Done);
    assert_eq!(guest.frame.rax, 0x8000_0810);
    guest.role = Role::Hardware;
    (guest.frame.rip, guest.frame.rdx) = (CODE + 1, 0xcfc);
    assert_eq!(general_protection(&mut guest), Outcome::Done);
    assert_eq!(guest.frame.rax, 0x8086_1237);
    (guest.frame.rip, guest.frame.rdx, guest.frame.rax) = (CODE, 0xcfe, 0x1234_5678);
    assert_eq!(general_protection(&mut guest), Outcome::Done);
    let expected = [
        (0x8000_0810, 0, Width::Dword, None),
        (0x8000_0810, 2, Width::Word, Some(0x5678)),
    ];
    assert_eq!(guest.pci, expected);
    // The same happens if the domain has been given every port, as domain 0 has: the machine's own address
    // register may have been changed by now.
    guest.held = [(0, 0xffff)].to_vec();
    (guest.frame.rip, guest.frame.rdx) = (CODE + 1, 0xcfc);
    assert_eq!(general_protection(&mut guest), Outcome::Done);
    assert_eq!(guest.frame.rax, 0x8086_1237);
    (guest.frame.rip, guest.frame.rdx, guest.frame.rax) = (CODE, 0xcfe, 1);
    assert_eq!(general_protection(&mut guest), Outcome::Done);
    assert_eq!((guest.pci.len(), guest.outs.len()), (4, 0));
}

#[test]
fn cmos_belongs_to_who_holds_its_ports() {
    let mut guest = guest(&[0xee, 0xec], 0x70);
    guest.frame.rax = 0x8a;
    assert_eq!(general_protection(&mut guest), Outcome::Done);
    guest.frame.rdx = 0x71;
    assert_eq!(
        (general_protection(&mut guest), guest.frame.rax),
        (Outcome::Done, 0xff)
    );
    guest.held = [(0, 0xffff)].to_vec();
    guest.frame.rip = CODE + 1;
    assert_eq!(
        (general_protection(&mut guest), guest.frame.rax),
        (Outcome::Done, 0x0b)
    );
}

#[test]
fn the_interval_timer_runs() {
    let mut guest = guest(&[0xee], 0x61);
    let mut step = |port: u16, code: u8, value: u64, now_ns: u64| {
        guest.memory[CODE as usize] = code;
        (
            guest.frame.rip,
            guest.frame.rdx,
            guest.frame.rax,
            guest.now_ns,
        ) = (CODE, u64::from(port), value, now_ns);
        assert_eq!(general_protection(&mut guest), Outcome::Done);
        guest.frame.rax
    };
    step(0x61, 0xee, 1, 0);
    step(0x43, 0xee, 0xb0, 0);
    step(0x42, 0xee, 0xff, 0);
    step(0x42, 0xee, 0xff, 0);
    step(0x42, 0xec, 0, 1_000_000);
    assert_eq!(step(0x42, 0xec, 0, 1_000_000), 0xfb);
}

#[test]
fn strings_move_in_bursts() {
    // rep outsb of 300 bytes from 0x2000
    let mut guest = guest(&[0xf3, 0x6e], 0x80);
    guest.held = [(0x80, 0x80)].to_vec();
    (guest.frame.rsi, guest.frame.rcx) = (0x2000, 300);
    (0..300).for_each(|n| guest.memory[0x2000 + n] = n as u8);
    assert_eq!(general_protection(&mut guest), Outcome::Again);
    assert_eq!((guest.frame.rip, guest.frame.rcx), (CODE, 44));
    assert_eq!(general_protection(&mut guest), Outcome::Done);
    assert_eq!(
        (guest.outs.len(), guest.outs[299].2, guest.frame.rsi),
        (300, 43, 0x2000 + 300)
    );
    // insw, with the direction flag set
    let mut guest = super::ports::guest(&[0x66, 0x6d], 0x80);
    guest.held = [(0x80, 0x81)].to_vec();
    (guest.frame.rdi, guest.frame.rflags) = (0x2000, 0x602);
    assert_eq!(general_protection(&mut guest), Outcome::Done);
    assert_eq!((guest.frame.rdi, guest.memory[0x2000]), (0x1ffe, 0x80));
    // A store to memory that is not present: the fault reports the address, and the elements before
    // it stay done.
    let mut guest = super::ports::guest(&[0xf3, 0x6d], 0x80);
    (guest.frame.rdi, guest.frame.rcx) = (super::fake::END - 4, 3);
    let fault = PageFault {
        at: Vaddr(super::fake::END),
        access: Access::Write,
    };
    assert_eq!(
        general_protection(&mut guest),
        Outcome::Fault(Exception::Page(fault))
    );
    assert_eq!((guest.frame.rcx, guest.frame.rdi), (2, super::fake::END));
}

/// The trap is reported after the instruction. A repeated instruction reports it after each element, with RIP
/// at the instruction until the last one.
#[test]
fn io_breakpoints() {
    let mut guest = guest(&[0xec], 0x80);
    (guest.dr[1], guest.dr[7]) = (0x80, 4 | 2 << 20);
    let hit = Outcome::Debug(2);
    assert_eq!(
        (general_protection(&mut guest), guest.frame.rip),
        (hit, CODE + 1)
    );
    (guest.frame.rip, guest.frame.rflags) = (CODE, 0x302);
    assert_eq!(general_protection(&mut guest), Outcome::Debug(1 << 14 | 2));
    (guest.frame.rip, guest.frame.rflags, guest.frame.rdx) = (CODE, 0x202, 0x81);
    assert_eq!(general_protection(&mut guest), Outcome::Done);

    let code = CODE as usize;
    guest.memory[code..code + 2].copy_from_slice(&[0xf3, 0x6e]);
    (guest.frame.rip, guest.frame.rdx, guest.frame.rcx) = (CODE, 0x80, 2);
    assert_eq!(
        (general_protection(&mut guest), guest.frame.rip),
        (hit, CODE)
    );
    assert_eq!(guest.frame.rcx, 1);
    assert_eq!(
        (general_protection(&mut guest), guest.frame.rip),
        (hit, CODE + 2)
    );
}
