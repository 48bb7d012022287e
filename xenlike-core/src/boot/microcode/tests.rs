//! Microcode is found among modules and in archives as GRUB hands them over.

use super::*;
use crate::boot::info::{Module, Range};
use proptest::prelude::*;
use std::format;
use std::vec::Vec;

const INTEL: &str = "kernel/x86/microcode/GenuineIntel.bin";

fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, content) in files.iter().chain(&[("TRAILER!!!", &[][..])]) {
        let sizes = [content.len(), 0, 0, 0, 0, name.len() + 1, 0];
        let fields = [0; 6].into_iter().chain(sizes);
        bytes.extend(b"070701");
        fields.for_each(|field| bytes.extend(format!("{field:08x}").bytes()));
        bytes.extend(name.bytes().chain([0]));
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes.extend(*content);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    bytes
}

#[test]
fn options() {
    let read = |value| parse(value, Wish::default());
    let default = Wish::default();
    assert_eq!(
        read("scan"),
        Some(Wish {
            scan: true,
            ..default
        })
    );
    assert_eq!(read("scan=no,nmi=no"), Some(default));
    assert_eq!(
        read("-1,no-nmi"),
        Some(Wish {
            module: Some(-1),
            ..default
        })
    );
    let trusting = Wish {
        trust: Trust::File,
        scan: true,
        ..default
    };
    assert_eq!(read("scan,digest-check=no"), Some(trusting));
    assert_eq!(read("scan=maybe"), None);
    assert_eq!(read("foo"), None);
    let index = |module, count| {
        module_index(
            &Wish {
                module: Some(module),
                ..default
            },
            count,
        )
    };
    assert_eq!(
        [index(2, 3), index(-1, 3), index(-2, 3)],
        [Some(2), Some(2), Some(1)]
    );
    assert_eq!(
        [index(0, 3), index(3, 3), index(-3, 3), index(-4, 3)],
        [None; 4]
    );
    assert_eq!(index(i32::MIN, 3), None);
}

#[test]
fn a_file_is_found_where_initrds_have_it() {
    let with = archive(&[("kernel", b""), ("early_cpio", b"1"), (INTEL, b"microcode")]);
    let modules = [
        b"bzImage".to_vec(),
        archive(&[("init", b"#!")]),
        with.clone(),
    ];
    let mut info = BootInfo::new("", "");
    for _ in &modules {
        info.add_module(Module {
            range: Range { start: 0, end: 1 },
            cmdline: "",
        });
    }
    let bytes = |n: usize| modules.get(n).map(Vec::as_slice);
    let found = |wish, vendor| find(&info, bytes, &wish, vendor);
    let scan = Wish {
        scan: true,
        ..Wish::default()
    };
    assert_eq!(found(scan, Vendor::Intel), Some(&b"microcode"[..]));
    assert_eq!(found(scan, Vendor::Amd), None);
    assert_eq!(found(Wish::default(), Vendor::Intel), None);
    let named = |module| Wish {
        module: Some(module),
        ..scan
    };
    assert_eq!(found(named(1), Vendor::Intel), bytes(1));
    assert_eq!(found(named(7), Vendor::Intel), Some(&b"microcode"[..]));
}

proptest! {
    #[test]
    fn damaged_archives_end(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        digits in prop::collection::vec((any::<prop::sample::Index>(), b'a'..=b'f'), 0..20),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = archive(&[("a", b"12345"), (INTEL, b"microcode"), ("b", b"")]);
        for (at, byte) in changes.iter().chain(&digits) {
            let at = at.index(bytes.len());
            bytes[at] = *byte;
        }
        bytes.truncate(cut.index(bytes.len() + 1));
        if let Some(file) = in_archive(&bytes, INTEL) {
            prop_assert!(file.len() < bytes.len());
        }
    }
}
