//! Tables as firmware should make them, and then damaged in every way.

mod fuzz;
mod machines;
mod shapes;

use super::fadt::PORTS;
use super::madt::Processor;
use super::*;
use crate::arch::ioapic::Trigger;
use crate::boot::info::Range;
use crate::kit::Maddr;
use proptest::prelude::*;
use std::vec;
use std::vec::Vec;

/// The address of the tables, and the end of addresses.
const BASE: u64 = 0x7fe0_0000;
const LIMIT: u64 = 1 << 36;
const RAM_END: u64 = 0x8000_0000;

/// Memory with tables in it; there is nothing elsewhere.
struct Memory(Vec<u8>);

impl Firmware for Memory {
    fn bytes(&self, at: u64, bytes: usize) -> Option<&[u8]> {
        let start = usize::try_from(at.checked_sub(BASE)?).ok()?;
        self.0.get(start..start.checked_add(bytes)?)
    }
    fn is_ram(&self, at: u64) -> bool {
        at < RAM_END
    }
    fn reaches(&self, at: u64, bytes: u64) -> bool {
        at != 0 && at.checked_add(bytes).is_some_and(|end| end <= LIMIT)
    }
}

impl Memory {
    /// Adds a table with `body` behind its header; returns its address.
    fn add(&mut self, signature: &[u8; 4], body: &[u8]) -> u64 {
        self.add_revision(signature, 1, body)
    }

    fn add_revision(&mut self, signature: &[u8; 4], revision: u8, body: &[u8]) -> u64 {
        let at = BASE + self.0.len() as u64;
        let mut table = signature.to_vec();
        table.extend((36 + body.len() as u32).to_le_bytes());
        table.extend(b"\x01\0BXPC..BXPCTEST\x01\0\0\0BXPC\x01\0\0\0".map(|byte| byte));
        table.resize(36, 0);
        table[8] = revision;
        table.extend(body);
        table[9] = 0_u8.wrapping_sub(table::sum(&table));
        self.0.extend(table);
        at
    }
}

fn put<const N: usize>(bytes: &mut [u8], at: usize, value: [u8; N]) {
    bytes[at - 36..at - 36 + N].copy_from_slice(&value);
}

fn madt_body() -> Vec<u8> {
    let mut body = 0xfee0_0000_u32.to_le_bytes().to_vec();
    body.extend([1, 0, 0, 0]);
    body.extend([0, 8, 7, 0, 1, 0, 0, 0]); // CPU 7 has APIC id 0
    body.extend([0, 8, 8, 2, 1, 0, 0, 0]);
    body.extend([0, 8, 9, 4, 0, 0, 0, 0]); // not enabled
    body.extend([0, 8, 10, 255, 1, 0, 0, 0]); // no id
    body.extend([9, 16, 0, 0, 0x2c, 1, 0, 0, 1, 0, 0, 0, 11, 0, 0, 0]); // id 300
    body.extend([1, 12, 0, 0, 0, 0, 0xc0, 0xfe, 0, 0, 0, 0]);
    body.extend([2, 10, 0, 0, 2, 0, 0, 0, 0, 0]); // timer at line 2
    body.extend([2, 10, 0, 9, 9, 0, 0, 0, 0xd, 0]); // SCI: level, high
    body.extend([4, 6, 0xff, 0, 0, 1]);
    body
}

fn fadt_body(dsdt: u64) -> Vec<u8> {
    let mut body = vec![0; 244 - 36];
    put(&mut body, 56, 0x600_u32.to_le_bytes());
    put(&mut body, 64, 0x604_u32.to_le_bytes());
    put(&mut body, 76, 0x608_u32.to_le_bytes());
    put(&mut body, 112, (1_u32 << 10).to_le_bytes());
    put(&mut body, 116, [1, 8, 0, 1, 0xf9, 0x0c, 0, 0, 0, 0, 0, 0]);
    put(&mut body, 128, [0x0f]);
    put(&mut body, 140, dsdt.to_le_bytes());
    body
}

const S5: &[u8] = b"\x08_S5_\x12\x06\x04\x0a\x05\0\0\0";

/// A machine without faults: its memory and roots.
fn sound() -> (Memory, Roots) {
    let mut memory = Memory(vec![0; 64]);
    let dsdt = memory.add(b"DSDT", b"\x10\x05\\_SB_");
    let tables = [
        memory.add(b"FACP", &fadt_body(dsdt)),
        memory.add(b"APIC", &madt_body()),
        memory.add(b"SSDT", S5),
        memory.add(b"HPET", &{
            let mut body = vec![1, 0xa2, 0x86, 0x80, 0, 64, 0, 0];
            body.extend(0xfed0_0000_u64.to_le_bytes());
            body.extend([0; 4]);
            body
        }),
    ];
    let wide: Vec<u8> = tables.iter().flat_map(|at| at.to_le_bytes()).collect();
    let narrow = tables.iter().flat_map(|at| (*at as u32).to_le_bytes());
    let rsdt = memory.add(b"RSDT", &narrow.collect::<Vec<u8>>());
    let xsdt = memory.add(b"XSDT", &wide);
    let (rsdt, xsdt) = (Some(rsdt), Some(xsdt));
    (memory, Roots { xsdt, rsdt })
}

fn check_all(found: &Found) {
    let cpus: Vec<Processor> = found.madt.cpus.iter().copied().collect();
    let nmi_pins = [None, Some(Trigger::EdgeHigh)];
    let cpu = |id, number| Processor {
        id,
        number,
        nmi_pins,
    };
    assert_eq!(cpus, [cpu(0, 7), cpu(2, 8), cpu(300, 11)]);
    assert_eq!(found.madt.lapic, Some(Maddr(LAPIC_DEFAULT)));
    assert_eq!(found.madt.ioapics[0].at, Maddr(0xfec0_0000));
    assert_eq!(found.madt.overrides[1].trigger, Trigger::LevelHigh);
    assert_eq!(
        (found.hpet, found.pm_timer),
        (Some(0xfed0_0000), Some(0x608))
    );
    let off = SoftOff {
        registers: SleepRegisters::Pm1 {
            control: [Some(0x604), None],
            status: [Some(0x600), None],
        },
        types: Some([5, 0]),
    };
    assert_eq!(found.soft_off, Some(off));
    let register = Address {
        space: PORTS,
        at: 0xcf9,
    };
    assert_eq!(found.reset, Some((register, 0x0f)));
}

#[test]
fn everything_is_found() {
    let (memory, roots) = sound();
    check_all(&find(&memory, roots));
}

/// The XSDT doesn't exist, is another table, leads nowhere, or has an impossible length.
#[test]
fn the_rsdt_stands_in_for_a_broken_xsdt() {
    let (mut memory, roots) = sound();
    let nowhere = memory.add(b"XSDT", &[0xff; 16]);
    let mut broken = vec![
        None,
        Some(1 << 40),
        Some(u64::MAX),
        roots.rsdt,
        Some(nowhere),
    ];
    for length in [0_u32, 35, 1 << 30, u32::MAX] {
        let at = memory.add(b"XSDT", &[0; 8]);
        let start = (at - BASE) as usize;
        memory.0[start + 4..start + 8].copy_from_slice(&length.to_le_bytes());
        broken.push(Some(at));
    }
    for xsdt in broken {
        check_all(&find(&memory, Roots { xsdt, ..roots }));
    }
}

/// The XSDT lacks the list of CPUs, or everything that matters.
#[test]
fn the_rsdt_adds_what_the_xsdt_lacks() {
    let (mut memory, roots) = sound();
    let all = table::places(&memory, roots);
    let at = |name: &[u8]| {
        let start = |place: &Range| (place.start - BASE) as usize;
        let mut places = all.iter();
        let place = places.find(|place| memory.0[start(place)..].starts_with(name));
        place.unwrap().start
    };
    let (fadt, hpet, madt) = (at(b"FACP"), at(b"HPET"), at(b"APIC"));
    for lists in [&[fadt, hpet][..], &[madt], &[hpet, 1 << 40], &[]] {
        let list: Vec<u8> = lists.iter().flat_map(|at| at.to_le_bytes()).collect();
        let xsdt = Some(memory.add(b"XSDT", &list));
        check_all(&find(&memory, Roots { xsdt, ..roots }));
    }
}

/// Each table is found with all its bytes, and nothing is that isn't a table.
#[test]
fn tables_are_found_where_they_lie() {
    let (mut memory, roots) = sound();
    let named = |memory: &Memory, roots| -> Vec<Vec<u8>> {
        let places = table::places(memory, roots).into_iter();
        let bytes = |place: Range| memory.bytes(place.start, (place.end - place.start) as usize);
        places
            .map(|place| bytes(place).unwrap()[..4].to_vec())
            .collect()
    };
    let wide = Roots {
        rsdt: None,
        ..roots
    };
    let expected = [b"XSDT", b"FACP", b"DSDT", b"APIC", b"SSDT", b"HPET"];
    assert_eq!(named(&memory, wide), expected);
    let no_table = memory.add(b"\x01IC\0", &[0; 40]);
    let list = [no_table, BASE + 1, u64::MAX, 0]
        .map(u64::to_le_bytes)
        .concat();
    let xsdt = Some(memory.add(b"XSDT", &list));
    assert_eq!(named(&memory, Roots { xsdt, rsdt: None }), [b"XSDT"]);
}

/// A machine loses nothing by wrong checksums, or by ids that are not text.
#[test]
fn a_wrong_checksum_drops_nothing() {
    let (mut memory, roots) = sound();
    let text = memory.0.clone();
    for name in [b"FACP", b"APIC", b"SSDT", b"HPET", b"XSDT", b"DSDT"] {
        let at = text.windows(4).position(|bytes| bytes == name);
        let header = &mut memory.0[at.unwrap()..][..36];
        header[9] ^= 0x5a;
        header[10..28].fill(0xff);
    }
    check_all(&find(&memory, roots));
}

/// A MADT with one CPU and one I/O APIC, followed by these entries.
fn with_entries(entries: &[u8]) -> Madt {
    let mut body = madt_body();
    body.extend(entries);
    let mut memory = Memory(vec![0; 64]);
    let madt = memory.add(b"APIC", &body);
    let xsdt = memory.add(b"XSDT", &madt.to_le_bytes());
    let (xsdt, rsdt) = (Some(xsdt), None);
    find(&memory, Roots { xsdt, rsdt }).madt
}

#[test]
fn entries_that_cant_be_end_the_walk() {
    for entries in [
        &[0, 0, 0, 0][..],
        &[7, 1, 0],
        &[0, 8, 1, 1, 1],
        &[1, 255, 0, 0],
        &[0],
    ] {
        let (madt, warnings) = machines::with_warnings(|| with_entries(entries));
        assert_eq!((madt.cpus.len(), madt.ioapics.len()), (3, 1), "{entries:?}");
        let about_it = warnings.iter().filter(|line| line.contains("bytes long"));
        assert_eq!(
            about_it.count(),
            usize::from(entries.len() > 1),
            "{entries:?}"
        );
    }
    // An entry that is too short for its type: only this one is left out.
    let madt = with_entries(&[0, 4, 1, 20, 0, 8, 1, 21, 1, 0, 0, 0]);
    assert_eq!(madt.cpus.last().map(|cpu| cpu.id), Some(21));
}

#[test]
fn nmis_reach_the_pins_that_the_table_names() {
    let pins = |madt: Madt, id| madt::nmi_pins(&madt.cpus, id);
    let (high, low) = (Some(Trigger::EdgeHigh), Some(Trigger::EdgeLow));
    assert_eq!(pins(Madt::default(), 0), [None, high]);
    assert_eq!(pins(with_entries(&[]), 300), [None, high]);
    // Number 8, which has APIC id 2, by LINT0, active low; number 11 in the new format.
    let more = [4, 6, 8, 3, 0, 0, 10, 12, 3, 0, 11, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(pins(with_entries(&more), 0), [None, high]);
    assert_eq!(pins(with_entries(&more), 2), [low, high]);
    assert_eq!(pins(with_entries(&more), 300), [low, high]);
    // Before the CPU to which it refers, and for a CPU that doesn't exist.
    let early = [
        4, 6, 77, 3, 0, 0, 4, 6, 12, 3, 0, 0, 0, 8, 12, 30, 1, 0, 0, 0,
    ];
    assert_eq!(pins(with_entries(&early), 30), [low, high]);
    assert_eq!(pins(with_entries(&early), 0), [None, high]);
}

/// Entries that refer to none of the CPUs count as no entries.
#[test]
fn nmis_of_unknown_cpus_are_passed_over() {
    let mut memory = Memory(vec![0; 64]);
    let entries = [
        0, 0, 0xe0, 0xfe, 1, 0, 0, 0, 0, 8, 1, 5, 1, 0, 0, 0, 4, 6, 9, 0, 0, 0,
    ];
    let madt = memory.add(b"APIC", &entries);
    let madt = Madt::read(Table::find(&memory, madt).unwrap());
    let usual = [None, Some(Trigger::EdgeHigh)];
    assert_eq!(madt::nmi_pins(&madt.cpus, 5), usual);
    assert_eq!(madt::nmi_pins(&madt.cpus, 6), usual);
}

#[test]
fn devices_beyond_the_address_bits_are_left_out() {
    let override_far = [5, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    assert_eq!(with_entries(&override_far).lapic, None);
    let odd = [1, 12, 1, 0, 1, 0, 0xc1, 0xfe, 24, 0, 0, 0];
    assert_eq!(with_entries(&odd).ioapics.len(), 1);
}

#[test]
fn devices_in_ram_and_lines_that_cant_be_are_left_out() {
    let in_ram = [1, 12, 1, 0, 0, 0, 0x10, 0, 24, 0, 0, 0];
    let high_line = [1, 12, 1, 0, 0, 0, 0xc1, 0xfe, 0xff, 0xff, 0xff, 0xff];
    let lapic_in_ram = [5, 12, 0, 0, 0, 0, 0x20, 0, 0, 0, 0, 0];
    let madt = with_entries(&[&in_ram[..], &high_line, &lapic_in_ram].concat());
    assert_eq!((madt.ioapics.len(), madt.lapic), (1, None));
}

#[test]
fn an_hpet_that_is_not_in_memory_is_not_used() {
    for (space, at) in [
        (1, 0x1000),
        (0, 0),
        (0, 0x1000),
        (0, LIMIT),
        (0, u64::MAX - 7),
        (0, 0xfed0_0001),
    ] {
        let mut body = vec![1, 0xa2, 0x86, 0x80, space, 64, 0, 0];
        body.extend(u64::to_le_bytes(at));
        let mut memory = Memory(vec![0; 64]);
        let hpet = memory.add(b"HPET", &body);
        let xsdt = memory.add(b"XSDT", &hpet.to_le_bytes());
        let (xsdt, rsdt) = (Some(xsdt), None);
        assert_eq!(find(&memory, Roots { xsdt, rsdt }).hpet, None);
    }
}

#[test]
fn a_fadt_of_the_first_revision_has_no_reset_register() {
    let mut memory = Memory(vec![0; 64]);
    let dsdt = memory.add(b"DSDT", S5);
    let mut body = fadt_body(0);
    put(&mut body, 40, (dsdt as u32).to_le_bytes());
    let fadt = memory.add(b"FACP", &body[..116 - 36]);
    let xsdt = memory.add(b"XSDT", &fadt.to_le_bytes());
    let (xsdt, rsdt) = (Some(xsdt), None);
    let found = find(&memory, Roots { xsdt, rsdt });
    assert_eq!(found.reset, None);
    assert_eq!(found.soft_off.and_then(|off| off.types), Some([5, 0]));
}

/// What is found on a machine that has S5 in its DSDT, with this FADT.
fn with_fadt(fadt: impl FnOnce(&mut Vec<u8>)) -> Found {
    let mut memory = Memory(vec![0; 64]);
    let mut body = fadt_body(memory.add(b"DSDT", S5));
    body.resize(268 - 36, 0);
    fadt(&mut body);
    let fadt = memory.add(b"FACP", &body);
    let xsdt = memory.add(b"XSDT", &fadt.to_le_bytes());
    let (xsdt, rsdt) = (Some(xsdt), None);
    find(&memory, Roots { xsdt, rsdt })
}

/// A hardware-reduced machine has neither PM1 registers nor a PM timer, whatever those fields contain; it has sleep
/// registers of its own. Other machines don't have these.
#[test]
fn a_hardware_reduced_machine_has_registers_of_its_own() {
    let in_memory = |at: u32| {
        let [a, b, c, d] = at.to_le_bytes();
        [0, 8, 0, 1, a, b, c, d, 0, 0, 0, 0]
    };
    let flags = 1_u32 << 20 | 1 << 10;
    let put_sleep = |body: &mut Vec<u8>| {
        put(body, 244, in_memory(0xfea0_0000));
        put(body, 256, in_memory(0xfea0_0001));
    };
    let found = with_fadt(|body| {
        put(body, 112, flags.to_le_bytes());
        put_sleep(body);
    });
    let register = |at| Address { space: MEMORY, at };
    let off = SoftOff {
        registers: SleepRegisters::Reduced {
            control: register(0xfea0_0000),
            status: Some(register(0xfea0_0001)),
        },
        types: Some([5, 0]),
    };
    assert_eq!((found.soft_off, found.pm_timer), (Some(off), None));
    assert!(found.reset.is_some());
    // Without such a register the machine can't be switched off.
    let found = with_fadt(|body| put(body, 112, flags.to_le_bytes()));
    assert_eq!(found.soft_off, None);
    let found = with_fadt(put_sleep);
    let registers = found.soft_off.map(|off| off.registers);
    assert!(matches!(registers, Some(SleepRegisters::Pm1 { .. })));
}

/// Checks what must hold for everything that was found.
fn check_sense(found: &Found) {
    let madt = &found.madt;
    let reaches = |at: u64, bytes: u64| at >= RAM_END && at.saturating_add(bytes) <= LIMIT;
    assert!(madt.ioapics.iter().all(|ioapic| ioapic.first_gsi < 1024));
    assert!(madt.lapic.is_none_or(|at| reaches(at.0, PAGE)));
    assert!(madt.ioapics.iter().all(|ioapic| reaches(ioapic.at.0, PAGE)));
    assert!(found.hpet.is_none_or(|at| reaches(at, HPET_BYTES)));
    let types = found.soft_off.and_then(|off| off.types);
    assert!(types.is_none_or(|types| types.iter().all(|kind| *kind <= 7)));
    for (index, cpu) in madt.cpus.iter().enumerate() {
        let mut before = madt.cpus.iter().take(index);
        assert!(before.all(|other| other.id != cpu.id));
    }
}

/// Typical values of wrong lengths, counts and addresses.
fn nasty() -> impl Strategy<Value = u8> {
    prop_oneof![Just(0), Just(1), Just(0xff), Just(0x7f), any::<u8>()]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Any bytes are changed, and the memory may end early: reading ends, and what is kept is plausible.
    #[test]
    fn damaged_tables_are_read_to_their_end(
        damage in prop::collection::vec((any::<prop::sample::Index>(), nasty()), 0..24),
        cut in any::<prop::sample::Index>(),
        is_cut in any::<bool>(),
        (xsdt, rsdt) in any::<(bool, bool)>(),
    ) {
        let (mut memory, roots) = sound();
        for (place, value) in damage {
            let place = place.index(memory.0.len());
            memory.0[place] = value;
        }
        if is_cut {
            memory.0.truncate(cut.index(memory.0.len()));
        }
        let roots = Roots {
            xsdt: roots.xsdt.filter(|_| xsdt),
            rsdt: roots.rsdt.filter(|_| rsdt),
        };
        check_sense(&find(&memory, roots));
    }

    /// A MADT, a FADT, an HPET and an SSDT that consist of random bytes.
    #[test]
    fn tables_of_noise(
        bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..220), 4),
        pointers in any::<(bool, u64)>(),
    ) {
        let mut memory = Memory(vec![0; 64]);
        let names = [b"APIC", b"FACP", b"HPET", b"SSDT"];
        let mut entries = Vec::new();
        for (name, body) in names.into_iter().zip(&bodies) {
            entries.extend(memory.add(name, body).to_le_bytes());
        }
        if pointers.0 {
            entries.extend(pointers.1.to_le_bytes());
        }
        let xsdt = Some(memory.add(b"XSDT", &entries));
        check_sense(&find(&memory, Roots { xsdt, rsdt: None }));
    }

    /// A root pointer that consists of random bytes.
    #[test]
    fn any_root_pointer(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
        let mut rsdp = b"RSD PTR ".to_vec();
        rsdp.extend(&bytes);
        let (memory, _) = sound();
        if let Some(roots) = Roots::parse(&rsdp) {
            check_sense(&find(&memory, roots));
        }
        prop_assert!(Roots::parse(&bytes).is_none());
    }
}
