//! Tests with kernels that are made here, valid and broken.

use alloc::string::ToString;
use alloc::vec;

use guest_pv_abi::{elfnote, features};
use proptest::prelude::*;

use super::*;

const BASE: u64 = 0xffff_ffff_8000_0000;

/// A note with the owner "Xen".
pub(crate) fn note(kind: u32, value: &[u8]) -> Vec<u8> {
    let mut note = Vec::new();
    for word in [4, value.len() as u32, kind] {
        note.extend_from_slice(&word.to_le_bytes());
    }
    note.extend_from_slice(b"Xen\0");
    note.extend_from_slice(value);
    note.resize(note.len().next_multiple_of(4), 0);
    note
}

pub(crate) fn number(kind: u32, value: u64) -> Vec<u8> {
    note(kind, &value.to_le_bytes())
}

/// The notes of an ordinary Linux.
pub(crate) fn linux_notes() -> Vec<u8> {
    [
        note(elfnote::XEN_ELFNOTE_GUEST_OS, b"linux\0"),
        note(elfnote::XEN_ELFNOTE_XEN_VERSION, b"xen-3.0\0"),
        number(elfnote::XEN_ELFNOTE_VIRT_BASE, BASE),
        number(elfnote::XEN_ELFNOTE_INIT_P2M, 0x80_0000_0000),
        number(elfnote::XEN_ELFNOTE_ENTRY, BASE + 0x10_0000),
        note(
            elfnote::XEN_ELFNOTE_FEATURES,
            b"!writable_page_tables|pae_pgdir_above_4gb\0",
        ),
        note(
            elfnote::XEN_ELFNOTE_SUPPORTED_FEATURES,
            &0x8801_u32.to_le_bytes(),
        ),
        note(elfnote::XEN_ELFNOTE_LOADER, b"generic\0"),
        number(elfnote::XEN_ELFNOTE_PADDR_OFFSET, 0),
        number(elfnote::XEN_ELFNOTE_MOD_START_PFN, 1),
    ]
    .concat()
}

/// An ELF file with one segment at 1 MiB (the text, then the notes) of 0x3000 bytes in memory.
pub(crate) fn kernel(text: &[u8], notes: &[u8]) -> Vec<u8> {
    let mut file = b"\x7fELF\x02\x01\x01".to_vec();
    file.resize(16, 0);
    file.extend_from_slice(&[2, 0, 62, 0, 1, 0, 0, 0]);
    let (text_at, notes_at) = (64 + 2 * 56, 64 + 2 * 56 + text.len() as u64);
    for word in [BASE + 0x10_0000, 64, 0] {
        file.extend_from_slice(&word.to_le_bytes());
    }
    for half in [0_u16, 0, 64, 56, 2, 0, 0, 0] {
        file.extend_from_slice(&half.to_le_bytes());
    }
    let loaded = (text.len() + notes.len()) as u64;
    for (kind, at, paddr, bytes, memory) in [
        (1_u64, text_at, 0x10_0000, loaded, 0x3000_u64.max(loaded)),
        (4, notes_at, 0, notes.len() as u64, notes.len() as u64),
    ] {
        for word in [kind, at, 0, paddr, bytes, memory, 0x1000] {
            file.extend_from_slice(&word.to_le_bytes());
        }
    }
    file.extend_from_slice(text);
    file.extend_from_slice(notes);
    file
}

fn pv(file: &[u8], role: Role) -> Result<PvKernel, String> {
    let image = Image::open("k", file).map_err(|error| error.to_string())?;
    image.pv(role).map_err(|error| error.to_string())
}

#[test]
fn a_usual_kernel() {
    let file = kernel(b"code", &linux_notes());
    let image = Image::open("k", &file).unwrap();
    assert_eq!(image.claims().unwrap().guest_os, "linux");
    assert!(image.parts().next().unwrap().bytes.starts_with(b"code"));
    let kernel = image.pv(Role::Guest).unwrap();
    assert_eq!(
        (kernel.virt_base, kernel.start, kernel.end),
        (BASE, BASE + 0x10_0000, BASE + 0x10_3000)
    );
    assert_eq!(kernel.init_p2m, Some(0x80_0000_0000));
    assert!(kernel.unmapped_initrd);
    assert_eq!(image.pv(Role::Dom0).unwrap(), kernel);
}

#[test]
fn the_old_string() {
    let words = "GUEST_OS=GNU Mach,XEN_VER=xen-3.0,VIRT_BASE=0x40000000,ELF_PADDR_OFFSET=0x40000000,HYPERCALL_PAGE=0x2,LOADER=generic";
    let mut claims = Claims {
        legacy: true,
        ..Claims::default()
    };
    claims.string(words).unwrap();
    assert_eq!(claims.hypercall_page, Some(0x4000_2000));
    assert_eq!(claims.virt_base, Some(0x4000_0000));
    assert_eq!(claims.paddr_offset, Some(0x4000_0000));
}

/// As in XTF: linked at 0, no addresses in the notes, the entry point in the ELF header.
#[test]
fn notes_without_addresses() {
    let notes = [
        note(elfnote::XEN_ELFNOTE_GUEST_OS, b"tester\0"),
        note(elfnote::XEN_ELFNOTE_LOADER, b"generic\0"),
        number(elfnote::XEN_ELFNOTE_HYPERCALL_PAGE, 0x10_1000),
        note(elfnote::XEN_ELFNOTE_XEN_VERSION, b"xen-3.0\0"),
    ]
    .concat();
    let mut file = kernel(b"code", &notes);
    file[24..32].copy_from_slice(&0x10_0004_u64.to_le_bytes());
    let kernel = pv(&file, Role::Dom0).unwrap();
    assert_eq!((kernel.virt_base, kernel.entry), (0, 0x10_0004));
    assert_eq!((kernel.start, kernel.end), (0x10_0000, 0x10_3000));
    assert_eq!(kernel.hypercall_page, Some(0x10_1000));
}

/// The build id has a note segment; Xen's notes have only a section.
#[test]
fn notes_in_sections_beside_a_note_segment() {
    let mut build_id = note(3, &[7; 20]);
    build_id[12..16].copy_from_slice(b"GNU\0");
    let mut file = kernel(b"code", &build_id);
    let (at, notes) = (file.len() as u64, linux_notes());
    file.extend_from_slice(&notes);
    let table = file.len() as u64;
    file[40..48].copy_from_slice(&table.to_le_bytes());
    file[58..62].copy_from_slice(&[64, 0, 1, 0]);
    for word in [7 << 32, 0, 0, at, notes.len() as u64, 0, 4, 0] {
        file.extend_from_slice(&word.to_le_bytes());
    }
    assert_eq!(pv(&file, Role::Guest).unwrap().virt_base, BASE);
}

#[test]
fn words_count_by_their_beginnings() {
    let later = [
        (elfnote::XEN_ELFNOTE_XEN_VERSION, &b"xen-3.0-x86_64\0"[..]),
        (elfnote::XEN_ELFNOTE_LOADER, b"generic,pae\0"),
    ];
    for (kind, value) in later {
        assert!(pv(&more(kind, value), Role::Guest).is_ok());
    }
    // Linux may name any loader.
    let lilo = note(elfnote::XEN_ELFNOTE_LOADER, b"lilo\0");
    assert!(
        pv(
            &kernel(b"code", &[linux_notes(), lilo].concat()),
            Role::Guest
        )
        .is_ok()
    );
}

#[test]
fn numbers_of_every_size() {
    for value in [&[1][..], &[1, 0], &[1, 0, 0, 0], &[1, 0, 0, 0, 0, 0, 0, 0]] {
        let file = more(elfnote::XEN_ELFNOTE_MOD_START_PFN, value);
        assert!(pv(&file, Role::Guest).unwrap().unmapped_initrd, "{value:?}");
    }
}

/// The ordinary kernel with an additional note.
fn more(kind: u32, value: &[u8]) -> Vec<u8> {
    kernel(b"code", &[linux_notes(), note(kind, value)].concat())
}

/// Like `more`, for a system other than Linux.
fn more_of(system: &str, kind: u32, value: &[u8]) -> Vec<u8> {
    let system = note(elfnote::XEN_ELFNOTE_GUEST_OS, system.as_bytes());
    kernel(
        b"code",
        &[linux_notes(), system, note(kind, value)].concat(),
    )
}

fn all_refused(cases: Vec<(Vec<u8>, Role, &str)>) {
    for (file, role, words) in cases {
        let fault = pv(&file, role).unwrap_err();
        let good = fault.starts_with("kernel k: ") && fault.contains(words);
        assert!(good, "{fault}, not {words}");
    }
}

#[test]
fn refusals_are_sentences() {
    let cases: Vec<(Vec<u8>, Role, &str)> = vec![
        (vec![], Role::Guest, "the file is empty"),
        (
            vec![b'x'; 3000],
            Role::Guest,
            "neither a Linux bzImage nor an ELF file",
        ),
        (
            kernel(b"code", b""),
            Role::Guest,
            "not a Xen PV kernel: no XEN_ELFNOTE_ENTRY note",
        ),
        (
            kernel(b"code", &note(elfnote::XEN_ELFNOTE_PHYS32_ENTRY, &[0; 4])),
            Role::Guest,
            "can only be a PVH guest",
        ),
        (
            more(elfnote::XEN_ELFNOTE_XEN_VERSION, b"xen-4.0\0"),
            Role::Guest,
            "made for \"xen-4.0\"",
        ),
        (
            more_of("gnu", elfnote::XEN_ELFNOTE_LOADER, b"lilo\0"),
            Role::Guest,
            "the loader \"lilo\"",
        ),
        (
            more(elfnote::XEN_ELFNOTE_FEATURES, b"!auto_translated_physmap\0"),
            Role::Guest,
            "it requires auto_translated_physmap, which a PV guest doesn't get",
        ),
        (
            more(elfnote::XEN_ELFNOTE_FEATURES, b"!warp\0"),
            Role::Guest,
            "requires the feature \"warp\"",
        ),
        (
            more(elfnote::XEN_ELFNOTE_FEATURES, b"!dom0\0"),
            Role::Guest,
            "it requires dom0",
        ),
    ];
    all_refused(cases);
}

#[test]
fn bad_addresses_are_refused() {
    all_refused(vec![
        (
            more(elfnote::XEN_ELFNOTE_ENTRY, &[0; 8]),
            Role::Guest,
            "its entry 0x0 is outside",
        ),
        (
            more(elfnote::XEN_ELFNOTE_ENTRY, &[0; 3]),
            Role::Guest,
            "note 1 has 3 bytes",
        ),
        (
            more(elfnote::XEN_ELFNOTE_VIRT_BASE, &[1; 8]),
            Role::Guest,
            "page boundary",
        ),
        (
            more(elfnote::XEN_ELFNOTE_VIRT_BASE, &(1_u64 << 47).to_le_bytes()),
            Role::Guest,
            "canonical",
        ),
        (
            more(
                elfnote::XEN_ELFNOTE_VIRT_BASE,
                &HYPERVISOR_VIRT_START.to_le_bytes(),
            ),
            Role::Guest,
            "reach into the hypervisor's range",
        ),
        (
            more(elfnote::XEN_ELFNOTE_HYPERCALL_PAGE, &[8; 8]),
            Role::Guest,
            "hypercall page",
        ),
        (
            more(elfnote::XEN_ELFNOTE_INIT_P2M, &[9; 8]),
            Role::Guest,
            "frame list can't be at",
        ),
    ]);
}

#[test]
fn a_domu_kernel_is_no_dom0() {
    let no_dom0 = 1_u32 << features::XENFEAT_WRITABLE_PAGE_TABLES;
    let domu_only = kernel(
        b"code",
        &[
            number(elfnote::XEN_ELFNOTE_ENTRY, 0x10_0000),
            note(17, &no_dom0.to_le_bytes()),
        ]
        .concat(),
    );
    assert!(pv(&domu_only, Role::Guest).is_ok());
    assert!(
        pv(&domu_only, Role::Dom0)
            .unwrap_err()
            .contains("lacks dom0")
    );
}

#[test]
fn wrappings_come_off() {
    let plain = kernel(&[7; 5000], &linux_notes());
    let wanted = pv(&plain, Role::Guest).unwrap();
    let size = (plain.len() as u32).to_le_bytes();
    let deflated = miniz_oxide::deflate::compress_to_vec(&plain, 6);
    let gzip = [
        b"\x1f\x8b\x08\x08\0\0\0\0\0\0name\0",
        &deflated[..],
        &crc32fast::hash(&plain).to_le_bytes(),
        &size,
    ]
    .concat();
    let block = lz4_block(&plain);
    let lz4 = [
        &[2, 0x21, 0x4c, 0x18],
        &(block.len() as u32).to_le_bytes()[..],
        &block,
        &size,
    ]
    .concat();
    for packed in [&gzip, &lz4, &plain] {
        let file = bzimage::tests::wrap(packed);
        assert_eq!(pv(&file, Role::Guest).as_ref(), Ok(&wanted));
        for cut in [1, 5, 100] {
            let file = bzimage::tests::wrap(&packed[..packed.len() - cut]);
            let error = pv(&file, Role::Guest).unwrap_err();
            assert!(packed == &plain || error.contains("truncated"), "{error}");
        }
    }
    let mut damaged = gzip.clone();
    let sum = damaged.len() - 8;
    damaged[sum] ^= 1;
    let error = pv(&damaged, Role::Guest).unwrap_err();
    assert!(error.contains("the checksum is wrong"), "{error}");
    for (start, name) in [
        (&b"\xfd7zXZ\0"[..], "xz"),
        (b"BZh9", "bzip2"),
        (b"\x5d\0\0\0", "lzma"),
    ] {
        let error = pv(&[start, &plain].concat(), Role::Guest).unwrap_err();
        assert!(
            error.contains(&alloc::format!("packed by {name}")),
            "{error}"
        );
    }
    assert_eq!(pv(&gzip, Role::Guest), Ok(wanted));
    let bzip2 = bzimage::tests::wrap(b"BZh91AY&SYxxxxxxxx");
    assert!(
        pv(&bzip2, Role::Guest)
            .unwrap_err()
            .contains("packed by bzip2, which is not supported")
    );
}

/// An lz4 block that consists of literals only.
fn lz4_block(bytes: &[u8]) -> Vec<u8> {
    let mut block = vec![0xf0];
    let mut rest = bytes.len() - 15;
    while rest >= 255 {
        block.push(255);
        rest -= 255;
    }
    block.push(rest as u8);
    block.extend_from_slice(bytes);
    block
}

#[test]
fn every_truncation_is_a_sentence() {
    let file = kernel(b"code", &linux_notes());
    for len in 0..file.len() {
        let fault = pv(&file[..len], Role::Guest).unwrap_err();
        assert!(fault.starts_with("kernel k: "), "{len}: {fault}");
    }
}

proptest! {
    #[test]
    fn damage_never_panics(changes in proptest::collection::vec((0_usize..600, any::<u8>()), 1..8)) {
        let mut file = kernel(b"code", &linux_notes());
        for (at, byte) in changes {
            if let Some(place) = file.get_mut(at) {
                *place = byte;
            }
        }
        let _ = pv(&file, Role::Guest);
    }

    #[test]
    fn noise_in_payloads_never_panics(
        magic in proptest::sample::select(vec![
            &b"\x1f\x8b\x08\0\0\0\0\0\0\0"[..],
            b"\xfd7zXZ\0\0\x01\x69\x22\xde\x36",
            b"\x28\xb5\x2f\xfd\x04\x00",
            b"\x02\x21\x4c\x18",
        ]),
        noise in proptest::collection::vec(any::<u8>(), 0..300),
        size in 0_u32..100_000,
    ) {
        let payload = [magic, &noise, &size.to_le_bytes()].concat();
        let fault = pv(&bzimage::tests::wrap(&payload), Role::Guest).unwrap_err();
        prop_assert!(fault.starts_with("kernel k: the kernel inside is ") || fault.contains("neither"), "{}", fault);
    }

    #[test]
    fn old_strings_never_panic(words in "\\PC{0,100}|([A-Z_]{1,12}=(0x)?[0-9a-f]{0,18},){0,6}") {
        let mut claims = Claims::default();
        let _ = claims.string(&words);
    }
}
