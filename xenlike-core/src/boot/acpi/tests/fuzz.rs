//! A fuzzer of all tables at once: seeds are damaged at random, in rounds, for two seconds or for
//! `XENLIKE_FUZZ_SECONDS`. A failure names its round, and `XENLIKE_FUZZ_ROUND` repeats just that round.

use super::*;
use std::time::{Duration, Instant};

const QEMU: [&[u8]; 2] = [
    include_bytes!("../corpus/qemu-pc.bin"),
    include_bytes!("../corpus/qemu-q35.bin"),
];

/// The random numbers of a round (xorshift).
struct Random(u64);

impl Random {
    const fn new(round: u64) -> Self {
        Self(round.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    const fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    /// Typical values of wrong lengths, counts and addresses.
    fn nasty(&mut self) -> u64 {
        match self.below(8) {
            0 => 0,
            1 => u64::MAX,
            2 => 1 << self.below(64),
            3 => (1_u64 << self.below(64)).wrapping_sub(1),
            4 => BASE + self.below(1 << 13) as u64,
            5 => self.below(300) as u64,
            _ => self.next(),
        }
    }
}

/// Memory with the tables of a file in which the FADT precedes its DSDT.
fn from_file(mut file: &[u8]) -> (Memory, Roots) {
    let mut memory = Memory(vec![0; 64]);
    let (mut tables, mut fadt) = (Vec::new(), None);
    while let Some(length) = table::field::<u32>(file, 4) {
        let (table, rest) = file.split_at((length as usize).min(file.len()));
        let at = BASE + memory.0.len() as u64;
        memory.0.extend(table);
        match table.get(..4) {
            Some(b"DSDT") => {
                let pointer: usize = fadt.expect("a FADT");
                memory.0[pointer..pointer + 4].copy_from_slice(&(at as u32).to_le_bytes());
            }
            Some(b"FACP") => {
                fadt = Some((at - BASE) as usize + 40);
                tables.push(at);
            }
            _ => tables.push(at),
        }
        file = rest;
    }
    let wide: Vec<u8> = tables.iter().flat_map(|at| at.to_le_bytes()).collect();
    let narrow = tables.iter().flat_map(|at| (*at as u32).to_le_bytes());
    let rsdt = Some(memory.add(b"RSDT", &narrow.collect::<Vec<u8>>()));
    let xsdt = Some(memory.add(b"XSDT", &wide));
    (memory, Roots { xsdt, rsdt })
}

fn seeds() -> Vec<(Memory, Roots)> {
    let shaped = shapes::all().map(|(body, _)| {
        let (mut memory, roots) = sound();
        let madt = memory.add(b"APIC", &body);
        let xsdt = Some(memory.add(b"XSDT", &madt.to_le_bytes()));
        (memory, Roots { xsdt, ..roots })
    });
    let files = QEMU.into_iter().map(from_file);
    let machines = machines::seeds();
    [sound()]
        .into_iter()
        .chain(files)
        .chain(shaped)
        .chain(machines)
        .collect()
}

fn damage(bytes: &mut Vec<u8>, random: &mut Random) {
    let at = random.below(bytes.len());
    let value = random.nasty().to_le_bytes();
    match random.below(8) {
        0 => bytes[at] ^= 1 << random.below(8),
        1 => bytes[at] = value[0],
        2..5 => {
            let width = [2, 4, 8][random.below(3)];
            let at = at / width * width;
            let end = bytes.len().min(at + width);
            bytes[at..end].copy_from_slice(&value[..end - at]);
        }
        5 | 6 => {
            let (from, count) = (random.below(bytes.len()), random.below(64));
            let piece = bytes[from..]
                .iter()
                .copied()
                .take(count)
                .collect::<Vec<u8>>();
            bytes
                .iter_mut()
                .skip(at)
                .zip(piece)
                .for_each(|(to, from)| *to = from);
        }
        _ if random.below(8) == 0 => bytes.truncate(at + 1),
        _ => {}
    }
}

fn round(number: u64, seeds: &[(Memory, Roots)]) {
    let mut random = Random::new(number);
    let (memory, roots) = &seeds[random.below(seeds.len())];
    let (mut memory, mut roots) = (Memory(memory.0.clone()), *roots);
    for _ in 0..=random.below(8) {
        damage(&mut memory.0, &mut random);
    }
    match random.below(16) {
        0 => roots.xsdt = None,
        1 => roots.rsdt = Some(random.nasty()),
        2 => roots.xsdt = Some(random.nasty()),
        _ => {}
    }
    check_sense(&find(&memory, roots));
    let end = BASE + memory.0.len() as u64;
    let places = table::places(&memory, roots);
    assert!(
        places
            .iter()
            .all(|place| BASE <= place.start && place.start < place.end && place.end <= end)
    );
}

/// Prints the number of a round that fails.
struct Named(u64);

impl Drop for Named {
    fn drop(&mut self) {
        if std::thread::panicking() {
            std::eprintln!("XENLIKE_FUZZ_ROUND={}", self.0);
        }
    }
}

#[test]
fn damaged_seeds() {
    let seeds = seeds();
    let number = |name| {
        std::env::var(name)
            .ok()
            .and_then(|text| text.parse::<u64>().ok())
    };
    if let Some(one) = number("XENLIKE_FUZZ_ROUND") {
        return round(one, &seeds);
    }
    let limit = Duration::from_secs(number("XENLIKE_FUZZ_SECONDS").unwrap_or(2));
    let start = Instant::now();
    let mut rounds = 0;
    while start.elapsed() < limit {
        let _named = Named(rounds);
        round(rounds, &seeds);
        rounds += 1;
    }
    std::println!("{rounds} rounds");
}

/// The seeds themselves are intact.
#[test]
fn qemus_tables_are_read() {
    for file in QEMU {
        let (memory, roots) = from_file(file);
        let found = find(&memory, roots);
        assert_eq!((found.madt.cpus.len(), found.madt.ioapics.len()), (2, 1));
        assert_eq!(found.hpet, Some(0xfed0_0000));
        assert!(found.pm_timer.is_some());
        assert!(found.soft_off.is_some_and(|off| off.types.is_some()));
        // The FADT points to the place of its DSDT here.
        let wrong = found.tables.iter().filter(|table| table.sum != 0);
        assert!(
            wrong
                .map(|table| table.signature)
                .all(|name| name == *b"FACP")
        );
    }
}
