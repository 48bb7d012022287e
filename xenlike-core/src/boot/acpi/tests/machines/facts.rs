//! What the firmware of real machines states, according to public dumps: CPUs, interrupt controllers, wiring,
//! registers, values. `corpus/README.md` says where each dump is, and what was left out.

use super::super::shapes::cpu;
use super::{Expected, FadtFacts, Machine, Other};
use crate::arch::ioapic::Trigger::{self, EdgeHigh, LevelHigh, LevelLow};
use crate::arch::power::SleepRegisters;
use crate::boot::acpi::fadt::{Address, PORTS};
use std::vec;
use std::vec::Vec;

/// Bits of the FADT's flags.
const BASIC: u32 = 0xa5;
const TIMER_32: u32 = 1 << 8;
const RESET: u32 = 1 << 10;
/// Ports that reset a machine: the chipset's, and the firmware's own.
const CF9: u16 = 0xcf9;
const APM: u16 = 0xb2;

const HPET_AT: u64 = 0xfed0_0000;
const NO_S5: &str = "ACPI: no table tells plainly how to enter S5; that is left to domain 0";
const TIMER_AND_SCI: &[(u8, u32, Trigger)] = &[(0, 2, EdgeHigh), (9, 9, LevelHigh)];

fn enabled(numbers_and_ids: impl IntoIterator<Item = (u8, u8)>) -> Vec<u8> {
    let cpus = numbers_and_ids.into_iter();
    cpus.flat_map(|(number, id)| cpu(number, id, 1)).collect()
}

fn disabled(numbers_and_ids: impl IntoIterator<Item = (u8, u8)>) -> Vec<u8> {
    let cpus = numbers_and_ids.into_iter();
    cpus.flat_map(|(number, id)| cpu(number, id, 0)).collect()
}

fn x2apic(number: u32, id: u32) -> Vec<u8> {
    let words = [id, 1, number].map(u32::to_le_bytes).concat();
    [&[9, 16, 0, 0], words.as_slice()].concat()
}

fn ioapic(id: u8, at: u32, first_gsi: u32) -> Vec<u8> {
    let words = [at, first_gsi].map(u32::to_le_bytes).concat();
    [&[1, 12, id, 0], words.as_slice()].concat()
}

fn wired(irq: u8, gsi: u8, flags: u8) -> Vec<u8> {
    vec![2, 10, 0, irq, gsi, 0, 0, 0, flags, 0]
}

/// The timer at line 2, and the SCI.
fn timer_and_sci(sci: u8) -> Vec<u8> {
    [wired(0, 2, 0), wired(9, 9, sci)].concat()
}

fn nmi(number: u8, flags: u8) -> Vec<u8> {
    vec![4, 6, number, flags, 0, 1]
}

fn madt(revision: u8, entries: &[Vec<u8>]) -> Other {
    let start = [0xfee0_0000_u32, 1].map(u32::to_le_bytes).concat();
    (b"APIC", revision, [start, entries.concat()].concat())
}

/// The HPET's id, the stated width of its register, its number and shortest period.
fn hpet(id: u32, bits: u8, number: u8, ticks: u16) -> Other {
    let mut body = id.to_le_bytes().to_vec();
    body.extend([0, bits, 0, 0]);
    body.extend(HPET_AT.to_le_bytes());
    body.push(number);
    body.extend(ticks.to_le_bytes());
    body.push(0);
    (b"HPET", 1, body)
}

fn mcfg(at: u32, last_bus: u8) -> Other {
    let at = u64::from(at).to_le_bytes();
    let body = [&[0; 8], &at[..], &[0, 0, 0, last_bus, 0, 0, 0, 0]].concat();
    (b"MCFG", 1, body)
}

/// Switching off by a PM1 control register at this port.
fn pm1(event: u16, control: u16) -> SleepRegisters<Address> {
    SleepRegisters::Pm1 {
        control: [Some(control), None],
        status: [Some(event), None],
    }
}

/// What most machines state in the same way.
fn expected(cpus: impl IntoIterator<Item = u8>, [event, control, timer]: [u16; 3]) -> Expected {
    Expected {
        cpus: cpus.into_iter().map(u32::from).collect(),
        more_cpus: false,
        ioapics: &[(0xfec0_0000, 0)],
        overrides: TIMER_AND_SCI,
        nmi: EdgeHigh,
        hpet: Some(HPET_AT),
        pm_timer: Some(timer),
        off: pm1(event, control),
        s5: Some([7, 0]),
        reset: None,
        warnings: &[],
    }
}

fn even_then_odd(ids: &[u8]) -> Vec<u8> {
    let odd = ids.iter().map(|id| id + 1);
    ids.iter().copied().chain(odd).collect()
}

pub(super) fn all() -> Vec<Machine> {
    vec![
        dell_r820(),
        supermicro_h8qg6(),
        supermicro_x8dtn(),
        supermicro_two_xeons(),
        hp_dl360_g5(),
        asrock_x399(),
        asrock_k10n78d(),
        apple_imac11(),
        toshiba_l655(),
        asus_a3l(),
        lenovo_miix3(),
        honor_panther_lake(),
    ]
}

/// 80 threads of four Xeons, of which 64 are used. Lines have gaps: each I/O APIC has 24 pins, and the next one begins
/// at a multiple of 32. There is a reset register, but the flag for it is clear.
fn dell_r820() -> Machine {
    let cores = [0, 2, 4, 6, 8, 0x10, 0x12, 0x14, 0x16, 0x18];
    let ids: Vec<u8> = even_then_odd(&cores)
        .into_iter()
        .flat_map(|core| [0, 0x20, 0x40, 0x60].map(|socket| socket + core))
        .collect();
    let entries = [
        enabled((1..).zip(ids.iter().copied())),
        disabled((0x51..).zip(0xd0..=0xdf)),
        nmi(0xff, 5),
        timer_and_sci(0xd),
        ioapic(0, 0xfec0_0000, 0),
        ioapic(1, 0xfec3_f000, 32),
        ioapic(2, 0xfec7_f000, 64),
        ioapic(3, 0xfec8_0000, 96),
        ioapic(4, 0xfecc_0000, 128),
    ];
    Machine {
        name: "Dell PowerEdge R820",
        has_xsdt: true,
        fadt: FadtFacts {
            revision: 3,
            bytes: 244,
            boot_flags: 0x10,
            flags: BASIC | 1 << 18,
            ports: [0x800, 0x804, 0x808],
            has_wide: true,
            reset: (CF9, 6),
            ..FadtFacts::default()
        },
        s5: b"\x08\\_S5_\x12\x0a\x04\x0a\x07\x0a\0\x0a\0\x0a\0",
        tables: vec![
            mcfg(0xe000_0000, 255),
            madt(1, &entries),
            hpet(0x8086_a701, 0, 0, 1000),
        ],
        wrong_by: 0,
        expected: Expected {
            more_cpus: true,
            ioapics: &[
                (0xfec0_0000, 0),
                (0xfec3_f000, 32),
                (0xfec7_f000, 64),
                (0xfec8_0000, 96),
                (0xfecc_0000, 128),
            ],
            ..expected(ids.iter().copied().take(64), [0x800, 0x804, 0x808])
        },
    }
}

/// 64 cores of four Opterons. The I/O APICs have the low ids, and one of them lies far below the others. One
/// CPU has two NMI entries.
fn supermicro_h8qg6() -> Machine {
    let ids = || {
        [0x20, 0x40, 0x60, 0x80]
            .into_iter()
            .flat_map(|first| first..first + 16)
    };
    let entries = [
        enabled((1..).zip(ids())),
        ioapic(0, 0xfec0_0000, 0),
        ioapic(1, 0xfec2_0000, 24),
        ioapic(2, 0xda00_0000, 56),
        timer_and_sci(0xf),
        nmi(0xff, 0),
        nmi(1, 5),
    ];
    Machine {
        name: "Supermicro H8QG6",
        has_xsdt: true,
        fadt: FadtFacts {
            revision: 3,
            bytes: 244,
            boot_flags: 3,
            flags: BASIC | TIMER_32,
            ports: [0x800, 0x804, 0x808],
            has_wide: true,
            reset: (CF9, 6),
            ..FadtFacts::default()
        },
        s5: b"\x08_S5_\x12\x07\x04\x0a\x05\0\0\0",
        tables: vec![madt(1, &entries), hpet(0x8300, 8, 2, 20)],
        wrong_by: 0,
        expected: Expected {
            ioapics: &[(0xfec0_0000, 0), (0xfec2_0000, 24), (0xda00_0000, 56)],
            overrides: &[(0, 2, EdgeHigh), (9, 9, LevelLow)],
            s5: Some([5, 0]),
            ..expected(ids(), [0x800, 0x804, 0x808])
        },
    }
}

/// A machine of which only the MADT is known; the other tables are made up.
fn of_madt(name: &'static str, madt: Other, expected: Expected) -> Machine {
    Machine {
        name,
        has_xsdt: true,
        fadt: FadtFacts {
            revision: 4,
            bytes: 244,
            ports: [0x400, 0x404, 0x408],
            has_wide: true,
            ..FadtFacts::default()
        },
        s5: super::S5,
        tables: vec![madt],
        wrong_by: 0,
        expected,
    }
}

/// What is expected of the tables that [`of_madt`] makes up.
fn expected_of_madt(
    cpus: impl IntoIterator<Item = u8>,
    ioapics: &'static [(u64, u32)],
) -> Expected {
    Expected {
        ioapics,
        hpet: None,
        s5: Some([5, 0]),
        ..expected(cpus, [0x400, 0x404, 0x408])
    }
}

/// 24 threads of two Xeons, whose ids have gaps within sockets and between them.
fn supermicro_x8dtn() -> Machine {
    let cores = [
        0, 2, 4, 0x10, 0x12, 0x14, 0x20, 0x22, 0x24, 0x30, 0x32, 0x34,
    ];
    let ids = even_then_odd(&cores);
    let entries = [
        enabled((1..).zip(ids.iter().copied())),
        ioapic(6, 0xfec0_0000, 0),
        ioapic(7, 0xfec8_a000, 24),
        timer_and_sci(0xd),
        nmi(0xff, 0),
    ];
    let ioapics = &[(0xfec0_0000, 0), (0xfec8_a000, 24)];
    let expected = expected_of_madt(ids, ioapics);
    of_madt("Supermicro X8DTN+-F", madt(2, &entries), expected)
}

/// 40 threads of two Xeons, with an NMI entry for each.
fn supermicro_two_xeons() -> Machine {
    let cores: Vec<u8> = [0, 0x10, 0x20, 0x30]
        .into_iter()
        .flat_map(|first| (first..first + 10).step_by(2))
        .collect();
    let ids = even_then_odd(&cores);
    let nmis = ids.iter().flat_map(|number| nmi(*number, 5));
    let entries = [
        enabled(ids.iter().map(|id| (*id, *id))),
        nmis.collect(),
        ioapic(1, 0xfec0_0000, 0),
        ioapic(2, 0xfec0_1000, 24),
        ioapic(3, 0xfec4_0000, 48),
        timer_and_sci(0xd),
    ];
    let ioapics = &[(0xfec0_0000, 0), (0xfec0_1000, 24), (0xfec4_0000, 48)];
    let expected = expected_of_madt(ids, ioapics);
    of_madt("Supermicro, two Xeons", madt(3, &entries), expected)
}

/// CPUs in an unusual order, a timer that is wired with flags, and no reset register.
fn hp_dl360_g5() -> Machine {
    let ids = [0, 4, 2, 6, 1, 5, 3, 7];
    let entries = [
        enabled(ids.map(|id| (id, id))),
        ioapic(8, 0xfec0_0000, 0),
        ioapic(9, 0xfec8_0000, 24),
        wired(0, 2, 5),
        wired(9, 9, 0xd),
        nmi(0xff, 0),
    ];
    Machine {
        name: "HP ProLiant DL360 G5",
        has_xsdt: true,
        fadt: FadtFacts {
            revision: 3,
            bytes: 244,
            boot_flags: 3,
            flags: BASIC,
            ports: [0x900, 0x904, 0x908],
            has_wide: true,
            ..FadtFacts::default()
        },
        s5: b"\x08_S5_\x12\x07\x04\x0a\x07\0\0\0",
        tables: vec![madt(1, &entries), hpet(0x8086_a201, 0, 0, 0)],
        wrong_by: 0,
        expected: Expected {
            ioapics: &[(0xfec0_0000, 0), (0xfec8_0000, 24)],
            ..expected(ids, [0x900, 0x904, 0x908])
        },
    }
}

/// 96 disabled entries that all have id 0; I/O APICs among the PCI devices; reset by the firmware's own port.
fn asrock_x399() -> Machine {
    let ids = even_then_odd(&(0..32).step_by(2).collect::<Vec<u8>>());
    let entries = [
        enabled(ids.iter().map(|id| (*id, *id))),
        disabled((0x20..0x80).map(|number| (number, 0))),
        nmi(0xff, 5),
        ioapic(0x80, 0xfec0_0000, 0),
        ioapic(0x81, 0xefc0_0000, 24),
        ioapic(0x82, 0xb7a0_0000, 56),
        timer_and_sci(0xf),
    ];
    Machine {
        name: "ASRock X399 Taichi",
        has_xsdt: true,
        fadt: FadtFacts {
            revision: 6,
            bytes: 276,
            boot_flags: 0,
            flags: BASIC | TIMER_32 | RESET | 0x3_4008,
            ports: [0x800, 0x804, 0x808],
            has_wide: true,
            reset: (APM, 0xbe),
            sleep: None,
        },
        s5: b"",
        tables: vec![mcfg(0xf000_0000, 127), madt(3, &entries)],
        wrong_by: 0,
        expected: Expected {
            ioapics: &[(0xfec0_0000, 0), (0xefc0_0000, 24), (0xb7a0_0000, 56)],
            overrides: &[(0, 2, EdgeHigh), (9, 9, LevelLow)],
            hpet: None,
            s5: None,
            reset: Some((APM.into(), 0xbe)),
            warnings: &[NO_S5],
            ..expected(ids, [0x800, 0x804, 0x808])
        },
    }
}

/// A FADT of revision 1 that is as long as one of revision 2, and no HPET. Disabled entries have ids of their own. The
/// disks' interrupts have overrides that state the default wiring.
fn asrock_k10n78d() -> Machine {
    let entries = [
        enabled([(1, 0), (2, 1)]),
        disabled([(3, 0x82), (4, 0x83), (5, 0x84), (6, 0x85)]),
        ioapic(2, 0xfec0_0000, 0),
        timer_and_sci(0xd),
        wired(14, 14, 5),
        wired(15, 15, 5),
    ];
    Machine {
        name: "ASRock K10N78D",
        has_xsdt: true,
        fadt: FadtFacts {
            revision: 1,
            bytes: 132,
            boot_flags: 3,
            flags: BASIC,
            ports: [0x2000, 0x2004, 0x2008],
            ..FadtFacts::default()
        },
        s5: b"\x08_S5_\x12\x07\x04\x0a\x07\0\0\0",
        tables: vec![madt(1, &entries)],
        wrong_by: 0,
        expected: Expected {
            overrides: &[
                (0, 2, EdgeHigh),
                (9, 9, LevelHigh),
                (14, 14, EdgeHigh),
                (15, 15, EdgeHigh),
            ],
            hpet: None,
            ..expected([0, 1], [0x2000, 0x2004, 0x2008])
        },
    }
}

/// Two MADTs that differ only in their revision. Some NMI entries refer to CPUs that don't exist.
fn apple_imac11() -> Machine {
    let entries = [
        enabled([(1, 0), (2, 2), (3, 4), (4, 6)]),
        disabled((5..=8).map(|number| (number, 0))),
        ioapic(2, 0xfec0_0000, 0),
        timer_and_sci(0xd),
        (1..=8).flat_map(|number| nmi(number, 5)).collect(),
    ];
    Machine {
        name: "Apple iMac11,3",
        has_xsdt: true,
        fadt: FadtFacts {
            revision: 4,
            bytes: 244,
            boot_flags: 1,
            flags: BASIC | RESET | 1 << 15,
            ports: [0x400, 0x404, 0x408],
            has_wide: true,
            reset: (CF9, 6),
            ..FadtFacts::default()
        },
        s5: b"\x08_S5_\x12\x08\x03\x0a\x07\x0a\x07\x0a\0",
        tables: vec![
            madt(2, &entries),
            madt(1, &entries),
            hpet(0x8086_a201, 0, 0, 128),
        ],
        wrong_by: 0,
        expected: Expected {
            s5: Some([7, 7]),
            reset: Some((CF9.into(), 6)),
            ..expected([0, 2, 4, 6], [0x400, 0x404, 0x408])
        },
    }
}

/// A FADT of revision 4 whose 64-bit fields are all empty. The reset register is the firmware's own port.
fn toshiba_l655() -> Machine {
    let entries = [
        enabled([(1, 0), (2, 4)]),
        disabled((3..=8).map(|number| (number, 0))),
        ioapic(2, 0xfec0_0000, 0),
        timer_and_sci(0xd),
    ];
    Machine {
        name: "Toshiba Satellite L655",
        has_xsdt: true,
        fadt: FadtFacts {
            revision: 4,
            bytes: 244,
            boot_flags: 0x11,
            flags: BASIC | RESET | 0x3_8200,
            ports: [0x400, 0x404, 0x408],
            has_wide: false,
            reset: (APM, 0xfb),
            sleep: None,
        },
        s5: b"\x08_S5_\x12\x07\x04\x0a\x07\0\0\0",
        tables: vec![madt(2, &entries), hpet(0x8086_a201, 0, 0, 128)],
        wrong_by: 0,
        expected: Expected {
            reset: Some((APM.into(), 0xfb)),
            ..expected([0, 4], [0x400, 0x404, 0x408])
        },
    }
}

/// Only an RSDT, a FADT that ends behind the reset value, and a vendor's own table with a wrong checksum,
/// which the core doesn't read.
fn asus_a3l() -> Machine {
    let entries = [
        enabled([(1, 0)]),
        ioapic(1, 0xfec0_0000, 0),
        timer_and_sci(0xd),
    ];
    Machine {
        name: "ASUS A3L",
        has_xsdt: false,
        fadt: FadtFacts {
            revision: 2,
            bytes: 129,
            boot_flags: 3,
            flags: BASIC,
            ports: [0xe400, 0xe404, 0xe408],
            has_wide: false,
            reset: (CF9, 6),
            ..FadtFacts::default()
        },
        s5: b"\x08_S5_\x12\x0a\x04\x0a\x07\x0a\0\x0a\0\x0a\0",
        tables: vec![madt(1, &entries), (b"OEMB", 1, vec![0; 41])],
        wrong_by: 6,
        expected: Expected {
            hpet: None,
            ..expected([0], [0xe400, 0xe404, 0xe408])
        },
    }
}

/// A hardware-reduced machine that is a PC otherwise: no PM1 registers, no PM timer, neither 8042 nor VGA.
fn lenovo_miix3() -> Machine {
    let entries = [
        enabled([(1, 0), (2, 2), (3, 4), (4, 6)]),
        ioapic(2, 0xfec0_0000, 0),
        timer_and_sci(0xd),
    ];
    let register = |at| Address { space: PORTS, at };
    Machine {
        name: "Lenovo MIIX 3-1030",
        has_xsdt: true,
        fadt: FadtFacts {
            revision: 5,
            bytes: 268,
            boot_flags: 4,
            flags: 0x30_0421,
            reset: (CF9, 0xe),
            sleep: Some([0x405, 0x401]),
            ..FadtFacts::default()
        },
        s5: b"",
        tables: vec![madt(3, &entries), hpet(0x8086_a201, 64, 0, 128)],
        wrong_by: 0,
        expected: Expected {
            pm_timer: None,
            off: SleepRegisters::Reduced {
                control: register(0x405),
                status: Some(register(0x401)),
            },
            s5: None,
            reset: Some((CF9.into(), 0xe)),
            warnings: &[NO_S5],
            ..expected([0, 2, 4, 6], [0; 3])
        },
    }
}

/// x2APIC entries for ids below 255, and an x2APIC NMI entry whose flags say level-triggered.
fn honor_panther_lake() -> Machine {
    let ids: [u8; 16] = [
        0, 8, 0x10, 0x18, 0x20, 0x22, 0x24, 0x26, 0x28, 0x2a, 0x2c, 0x2e, 0x40, 0x42, 0x44, 0x46,
    ];
    let entries = [
        (0..)
            .zip(ids)
            .flat_map(|(number, id)| x2apic(number, id.into()))
            .collect(),
        ioapic(2, 0xfec0_0000, 0),
        timer_and_sci(0xd),
        vec![10, 12, 0xd, 0, 0xff, 0xff, 0xff, 0xff, 1, 0, 0, 0],
    ];
    let expected = Expected {
        nmi: LevelHigh,
        ..expected_of_madt(ids, &[(0xfec0_0000, 0)])
    };
    of_madt("Honor, Panther Lake", madt(6, &entries), expected)
}
