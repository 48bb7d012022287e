//! MADTs as real firmware makes them, with shapes known from public reports.

use super::*;

pub(super) fn cpu(number: u8, id: u8, enabled: u8) -> [u8; 8] {
    [0, 8, number, id, enabled, 0, 0, 0]
}

const IO_APIC: [u8; 12] = [1, 12, 0, 0, 0, 0, 0xc0, 0xfe, 0, 0, 0, 0];
const TIMER: [u8; 10] = [2, 10, 0, 0, 2, 0, 0, 0, 0, 0];

/// AMI's firmware on a board for AMD CPUs: ids with a gap between two halves, then two dozen disabled entries
/// that all have id 0.
fn ami() -> (Vec<u8>, Vec<u32>) {
    let ids = [0, 1, 2, 3, 8, 9, 10, 11];
    let there = (1..).zip(ids).map(|(number, id)| cpu(number, id, 1));
    let missing = (9..33).map(|number| cpu(number, 0, 0));
    let entries = there.chain(missing).flatten().chain(IO_APIC).chain(TIMER);
    (entries.collect(), ids.map(u32::from).to_vec())
}

/// ASRock's firmware for 16 cores with two threads each: the first threads of all cores, then the second ones.
fn threads_apart() -> (Vec<u8>, Vec<u32>) {
    let ids: Vec<u8> = (0..32).step_by(2).chain((1..32).step_by(2)).collect();
    let entries = ids.iter().flat_map(|id| cpu(*id, *id, 1)).chain(IO_APIC);
    (
        entries.collect(),
        ids.iter().map(|id| u32::from(*id)).collect(),
    )
}

/// A hypervisor's: entries that come first elsewhere come last.
fn upside_down() -> (Vec<u8>, Vec<u32>) {
    let cpus = [cpu(0, 0, 1), cpu(1, 2, 1)].concat();
    (
        TIMER.into_iter().chain(IO_APIC).chain(cpus).collect(),
        vec![0, 2],
    )
}

/// Firmware for two Xeons: the CPUs in the old format, empty sockets as id 255, and then all places again in the new
/// format, disabled. Some systems take these for CPUs that can be plugged in later; here they don't count.
fn both_forms() -> (Vec<u8>, Vec<u32>) {
    let there = (0..40).flat_map(|number| cpu(number, number, 1));
    let missing = (40..120).flat_map(|number| cpu(number, 255, 0));
    let again = (0..120_u32).flat_map(|place| {
        let words = [place, 0, place].map(u32::to_le_bytes).concat();
        [&[9, 16, 0, 0], words.as_slice()].concat()
    });
    let entries = there.chain(missing).chain(again).chain(IO_APIC);
    (entries.collect(), (0..40).collect())
}

/// All of these entries, behind the address of the local APICs and the flags.
pub(super) fn all() -> [(Vec<u8>, Vec<u32>); 4] {
    [ami(), threads_apart(), upside_down(), both_forms()].map(|(entries, ids)| {
        let start = [0xfee0_0000_u32, 1].map(u32::to_le_bytes).concat();
        ([start, entries].concat(), ids)
    })
}

#[test]
fn real_shapes_are_read() {
    for (body, ids) in all() {
        let mut memory = Memory(vec![0; 64]);
        let madt = memory.add(b"APIC", &body);
        let xsdt = Some(memory.add(b"XSDT", &madt.to_le_bytes()));
        let madt = find(&memory, Roots { xsdt, rsdt: None }).madt;
        let found: Vec<u32> = madt.cpus.iter().map(|cpu| cpu.id).collect();
        assert_eq!(found, ids);
        assert_eq!((madt.ioapics.len(), madt.more_cpus), (1, false));
    }
}
