//! Hand-built files of both vendors, intact and damaged, and a CPU that records what it loads.

use core::cell::{Cell, RefCell};
use std::vec;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;

const SKYLAKE: Identity = Identity {
    vendor: Vendor::Intel,
    signature: 0x506e3,
    platform: 1 << 1,
    revision: 0xb2,
};
const BARCELONA: Identity = Identity {
    vendor: Vendor::Amd,
    signature: 0x0010_0f23,
    platform: 0,
    revision: 0x0100_0083,
};
const ZEN: Identity = Identity {
    signature: 0x0080_0f12,
    ..BARCELONA
};

fn put(bytes: &mut [u8], at: usize, word: u32) {
    bytes[at..at + 4].copy_from_slice(&word.to_le_bytes());
}

/// Sets the word at `at` so that all words of `bytes` add up to 0.
fn balance(bytes: &mut [u8], at: usize) {
    put(bytes, at, 0);
    let words = bytes.chunks(4).map(|w| word(w, 0).unwrap());
    let sum = words.fold(0, u32::wrapping_add);
    put(bytes, at, 0_u32.wrapping_sub(sum));
}

/// Builds an update of Intel's, with a table of further CPUs.
fn intel(revision: u32, signature: u32, platforms: u32, further: &[(u32, u32)]) -> Vec<u8> {
    let table = if further.is_empty() {
        0
    } else {
        20 + 12 * further.len()
    };
    let total = (48 + 512 + table).next_multiple_of(1024);
    let data = total - 48 - table;
    let mut update = vec![0x5a; total];
    let header = [1, revision, 0x0214_2024, signature, 0, 1, platforms];
    let sizes = [data as u32, total as u32, 0, 0, 0];
    for (n, word) in header.into_iter().chain(sizes).enumerate() {
        put(&mut update, 4 * n, word);
    }
    let (own, table) = update.split_at_mut(48 + data);
    balance(own, 16);
    let rest = word(own, 16)
        .unwrap()
        .wrapping_add(signature)
        .wrapping_add(platforms);
    if !table.is_empty() {
        table[..20].fill(0);
        put(table, 0, further.len() as u32);
        for (entry, (signature, platforms)) in table[20..].chunks_mut(12).zip(further) {
            put(entry, 0, *signature);
            put(entry, 4, *platforms);
            put(
                entry,
                8,
                rest.wrapping_sub(*signature).wrapping_sub(*platforms),
            );
        }
        balance(table, 4);
    }
    update
}

/// Builds a container of AMD's: equivalence ids by signature, and updates by id, revision and size.
fn amd(table: &[(u32, u16)], updates: &[(u16, u32, usize)]) -> Vec<u8> {
    let mut file = 0x0041_4d44_u32.to_le_bytes().to_vec();
    file.extend(
        [0, 16 * (table.len() as u32 + 1)]
            .map(u32::to_le_bytes)
            .concat(),
    );
    for (signature, kind) in table.iter().chain(&[(0, 0)]) {
        file.extend(
            [*signature, 0, 0, u32::from(*kind)]
                .map(u32::to_le_bytes)
                .concat(),
        );
    }
    for (kind, revision, bytes) in updates {
        let mut update = vec![0; *bytes];
        put(&mut update, 0, 0x0214_2024);
        put(&mut update, 4, *revision);
        put(&mut update, 24, u32::from(*kind));
        file.extend([1, *bytes as u32].map(u32::to_le_bytes).concat());
        file.extend(update);
    }
    file
}

fn chosen(file: &[u8], cpu: &Identity) -> Result<u32, Refusal> {
    newest(file, cpu).map(|update| update.revision)
}

#[test]
fn intels_newest_update_for_the_platform_is_chosen() {
    let files = [
        intel(0xc0, 0x506e3, 1 << 1, &[]),
        intel(0xd0, 0x506e3, 1 << 1 | 1 << 5, &[]),
        intel(0xe0, 0x506e3, 1 << 2, &[]),
        intel(0xf0, 0x906ea, 1 << 1, &[]),
    ];
    assert_eq!(chosen(&files.concat(), &SKYLAKE), Ok(0xd0));
    assert_eq!(chosen(&files[2], &SKYLAKE), Err(Refusal::NoneFits));
    assert_eq!(chosen(&[], &SKYLAKE), Err(Refusal::NoneFits));
    let further = intel(0xf4, 0x906ea, 1, &[(0x906eb, 2), (0x506e3, 2)]);
    assert_eq!(chosen(&further, &SKYLAKE), Ok(0xf4));
    assert_eq!(newest(&further, &SKYLAKE).unwrap().bytes, further);
    // Updates before the damage count.
    let cut = [&files[0][..], &files[1][..700]].concat();
    assert_eq!(chosen(&cut, &SKYLAKE), Ok(0xc0));
}

#[test]
fn amds_newest_update_for_the_kind_is_chosen() {
    let table = [(0x0010_0f22, 0x1020), (0x0010_0f23, 0x1022)];
    let updates = [
        (0x1020, 0x0100_0099, 512),
        (0x1022, 0x0100_0084, 960),
        (0x1022, 0x0100_0095, 960),
        (0x1022, 0x0100_0097, 2049),
    ];
    let other = amd(&[(0x0060_0f12, 0x6012)], &[(0x6012, 0x0600_063d, 2592)]);
    let file = [other.clone(), amd(&table, &updates)].concat();
    assert_eq!(chosen(&file, &BARCELONA), Ok(0x0100_0095));
    assert_eq!(chosen(&other, &BARCELONA), Err(Refusal::NoneFits));
    assert_eq!(
        chosen(&amd(&table, &[]), &BARCELONA),
        Err(Refusal::NoneFits)
    );
    assert!(matches!(
        chosen(b"no file", &BARCELONA),
        Err(Refusal::Damaged(_))
    ));
    // An update for one chipset only.
    let mut special = amd(&table, &updates[1..2]);
    let end = special.len();
    put(&mut special, end - 960 + 16, 0x1022_1200);
    assert_eq!(chosen(&special, &BARCELONA), Err(Refusal::NoneFits));
}

#[test]
fn updates_that_cant_be_proven_need_trust() {
    assert_eq!(offered(&ZEN, Trust::CpusAlone), Err(Refusal::Unproven));
    assert_eq!(offered(&ZEN, Trust::File), Ok(()));
    assert_eq!(offered(&BARCELONA, Trust::CpusAlone), Ok(()));
    assert_eq!(offered(&SKYLAKE, Trust::CpusAlone), Ok(()));
    let last = Identity {
        revision: 0x0100_009f,
        ..BARCELONA
    };
    assert_eq!(
        offered(&last, Trust::File),
        Err(Refusal::Final(0x0100_009f))
    );
    for none in [
        Identity {
            revision: u32::MAX,
            ..SKYLAKE
        },
        Identity {
            vendor: Vendor::Other,
            ..SKYLAKE
        },
        Identity {
            signature: 0x0006_0fb1,
            ..BARCELONA
        },
    ] {
        assert_eq!(offered(&none, Trust::File), Err(Refusal::NotOffered));
    }
}

proptest! {
    /// If a file is cut off or has bytes changed, no update is chosen whose checksum is wrong, and nothing panics.
    #[test]
    fn damage_is_noticed(
        changes in prop::collection::vec((any::<prop::sample::Index>(), 1_u8..), 0..6),
        cut in any::<prop::sample::Index>(),
        is_cut in any::<bool>(),
    ) {
        let whole = [
            intel(0xc0, 0x506e3, 2, &[]),
            intel(0xf4, 0x906ea, 1, &[(0x906eb, 2), (0x506e3, 2)]),
        ];
        let mut file = whole.concat();
        for (at, change) in &changes {
            let at = at.index(file.len());
            file[at] = file[at].wrapping_add(*change);
        }
        if is_cut {
            file.truncate(cut.index(file.len()));
        }
        if let Ok(update) = newest(&file, &SKYLAKE) {
            let sum = update.bytes.chunks(4).map(|w| word(w, 0).unwrap()).fold(0, u32::wrapping_add);
            prop_assert_eq!(sum, 0);
        }
    }

    #[test]
    fn no_bytes_of_amds_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut file = amd(&[(0x0010_0f23, 0x1022)], &[(0x1022, 1, 64), (0x1022, 2, 200)]);
        for (at, byte) in &changes {
            let at = at.index(file.len());
            file[at] = *byte;
        }
        file.truncate(cut.index(file.len() + 1));
        if let Ok(update) = newest(&file, &BARCELONA) {
            prop_assert!(update.bytes.len() >= 64 && update.bytes.len() <= 2048);
        }
    }

    #[test]
    fn noise_is_no_file(noise in prop::collection::vec(any::<u8>(), 1..3000)) {
        for cpu in [SKYLAKE, BARCELONA] {
            prop_assert!(newest(&noise, &cpu).is_err());
        }
    }
}

/// A CPU that accepts an update or doesn't.
struct Fake {
    own: Cell<Identity>,
    takes: Option<u32>,
    loaded: RefCell<Vec<u64>>,
}

impl Fake {
    fn new(own: Identity, takes: Option<u32>) -> Self {
        Self {
            own: Cell::new(own),
            takes,
            loaded: RefCell::default(),
        }
    }
}

impl Registers for Fake {
    fn identity(&self) -> Identity {
        self.own.get()
    }
    fn load(&self, address: u64) -> bool {
        self.loaded.borrow_mut().push(address);
        let own = self.own.get();
        self.own.set(Identity {
            revision: self.takes.unwrap_or(own.revision),
            ..own
        });
        self.takes.is_some()
    }
}

/// A single test, because the announced update is global.
#[test]
fn all_cpus_of_a_kind_follow_the_first() {
    let file = intel(0xd0, 0x506e3, 2, &[]);
    let order = |version| Order::new(&newest(&file, &SKYLAKE).unwrap(), &SKYLAKE, version).unwrap();
    let newer = order(Version::Newer);
    let first = Fake::new(SKYLAKE, Some(0xd0));
    assert_eq!(lead(&first, &newer), Ok(()));
    // The address is that of the data behind the header, aligned.
    let address = newer.address();
    assert_eq!(*first.loaded.borrow(), [address]);
    assert!(address.is_multiple_of(16));
    assert_eq!(newer.blocks[3].to_ne_bytes(), [0x5a; 16]);
    assert_eq!(lead(&first, &newer), Err(Refusal::NotNewer(0xd0, 0xd0)));
    assert_eq!(lead(&first, &order(Version::Any)), Ok(()));
    let deaf = Fake::new(SKYLAKE, None);
    assert_eq!(lead(&deaf, &newer), Err(Refusal::NotTaken(0xb2, 0xd0)));

    assert_eq!(
        follow(&Fake::new(SKYLAKE, None)),
        Ok(()),
        "nothing announced"
    );
    newer.announce();
    let second = Fake::new(SKYLAKE, Some(0xd0));
    assert_eq!(follow(&second), Ok(()));
    // By then a sibling has loaded it.
    assert_eq!(follow(&second), Ok(()));
    assert_eq!(*second.loaded.borrow(), [address]);
    assert_eq!(follow(&deaf), Err(Refusal::NotTaken(0xb2, 0xd0)));
    let other = Identity {
        signature: 0x906ea,
        ..SKYLAKE
    };
    assert_eq!(
        follow(&Fake::new(other, Some(0xd0))),
        Err(Refusal::NoneFits)
    );
    order(Version::Any).announce();
    assert_eq!(follow(&second), Ok(()));
    assert_eq!(second.loaded.borrow().len(), 2, "by force");

    // On AMD each thread loads it.
    let file = amd(&[(0x0010_0f23, 0x1022)], &[(0x1022, 0x0100_0095, 960)]);
    let update = newest(&file, &BARCELONA).unwrap();
    let order = Order::new(&update, &BARCELONA, Version::Newer).unwrap();
    order.announce();
    let sibling = Identity {
        revision: 0x0100_0095,
        ..BARCELONA
    };
    let sibling = Fake::new(sibling, Some(0x0100_0095));
    assert_eq!(follow(&sibling), Ok(()));
    assert_eq!(*sibling.loaded.borrow(), [order.blocks.as_ptr() as u64]);
    withdraw();
}
