//! Tests with 32-bit kernels that are made here, and with Debian's if they were fetched.

extern crate std;

use alloc::format;
use alloc::string::ToString;
use alloc::vec;
use std::path::Path;

use guest_pv_abi::elfnote;
use proptest::prelude::*;

use super::bytes::{u16_at, u32_at};
use super::tests::{kernel, linux_notes, note};
use super::*;

pub(crate) const BASE: u64 = 0xc000_0000;

fn number(kind: u32, value: u64) -> Vec<u8> {
    note(kind, &(value as u32).to_le_bytes())
}

/// The notes of a 32-bit kernel with this PAE mode.
pub(crate) fn notes(base: u64, pae: &[u8]) -> Vec<u8> {
    [
        note(elfnote::XEN_ELFNOTE_GUEST_OS, b"linux\0"),
        note(elfnote::XEN_ELFNOTE_XEN_VERSION, b"xen-3.0\0"),
        number(elfnote::XEN_ELFNOTE_VIRT_BASE, base),
        number(elfnote::XEN_ELFNOTE_ENTRY, base + 0x10_0000),
        number(elfnote::XEN_ELFNOTE_HYPERCALL_PAGE, base + 0x10_1000),
        number(elfnote::XEN_ELFNOTE_HV_START_LOW, COMPAT_VIRT_START),
        note(elfnote::XEN_ELFNOTE_PAE_MODE, pae),
        note(elfnote::XEN_ELFNOTE_LOADER, b"generic\0"),
    ]
    .concat()
}

/// Adds header fields of 4 bytes.
fn words(file: &mut Vec<u8>, words: &[u32]) {
    for word in words {
        file.extend_from_slice(&word.to_le_bytes());
    }
}

/// A 32-bit ELF file with one segment at 1 MiB (the text, then the notes) of 0x3000 bytes in memory, and further sections.
fn with_sections(text: &[u8], notes: &[u8], sections: &[(&str, u32, &[u8])]) -> Vec<u8> {
    let mut file = b"\x7fELF\x01\x01\x01".to_vec();
    file.resize(16, 0);
    file.extend_from_slice(&[2, 0, 3, 0, 1, 0, 0, 0]);
    let text_at = 52 + 2 * 32;
    let notes_at = text_at + text.len() as u32;
    let loaded = (text.len() + notes.len()) as u32;
    let mut table = Vec::new();
    let mut names = vec![0];
    let mut contents = Vec::new();
    let contents_at = text_at + loaded;
    for &(name, kind, bytes) in sections {
        let at = contents_at + contents.len() as u32;
        let size = bytes.len() as u32;
        // A symbol table's strings are in the section after it.
        let link = (table.len() / 40 + 1) as u32;
        words(
            &mut table,
            &[names.len() as u32, kind, 0, 0, at, size, link, 0, 1, 0],
        );
        names.extend_from_slice(name.as_bytes());
        names.push(0);
        contents.extend_from_slice(bytes);
    }
    let names_at = contents_at + contents.len() as u32;
    words(
        &mut table,
        &[0, 1, 0, 0, names_at, names.len() as u32, 0, 0, 1, 0],
    );
    let table_at = names_at + names.len() as u32;
    words(&mut file, &[BASE as u32 + 0x10_0000, 52, table_at, 0]);
    let count = (table.len() / 40) as u16;
    for half in [52, 32, 2, 40, count, count - 1] {
        file.extend_from_slice(&half.to_le_bytes());
    }
    words(
        &mut file,
        &[
            1,
            text_at,
            0,
            0x10_0000,
            loaded,
            loaded.max(0x3000),
            7,
            0x1000,
        ],
    );
    let size = notes.len() as u32;
    words(&mut file, &[4, notes_at, 0, 0, size, size, 4, 4]);
    for part in [text, notes, &contents, &names, &table] {
        file.extend_from_slice(part);
    }
    file
}

/// A 32-bit kernel.
pub(crate) fn narrow_kernel(text: &[u8], notes: &[u8]) -> Vec<u8> {
    with_sections(text, notes, &[])
}

fn pv(file: &[u8]) -> Result<PvKernel, String> {
    let image = Image::open("k", file).map_err(|error| error.to_string())?;
    let kernel = image.pv(Role::Guest).map_err(|error| error.to_string())?;
    assert_eq!(image.pv(Role::Dom0).as_ref(), Ok(&kernel));
    Ok(kernel)
}

#[test]
fn a_kernel_with_notes() {
    for (mode, low_root) in [
        ("yes", false),
        ("bimodal", false),
        ("yes[extended-cr3]", false),
    ] {
        let kernel = pv(&narrow_kernel(b"code", &notes(BASE, mode.as_bytes()))).unwrap();
        assert_eq!((kernel.width, kernel.low_root), (Width::Narrow, low_root));
        assert_eq!(kernel.virt_base, BASE);
        assert_eq!(
            (kernel.start, kernel.end),
            (BASE + 0x10_0000, BASE + 0x10_3000)
        );
        assert_eq!((kernel.entry, kernel.init_p2m), (BASE + 0x10_0000, None));
        assert_eq!(kernel.hypercall_page, Some(BASE + 0x10_1000));
    }
}

/// A 32-bit kernel with the section `__xen_guest`.
pub(crate) fn with_string(words: &str) -> Vec<u8> {
    with_sections(b"code", b"", &[("__xen_guest", 1, words.as_bytes())])
}

#[test]
fn the_old_string_must_say_that_the_root_may_be_high() {
    let common = "XEN_VER=xen-3.0,VIRT_BASE=0xC0000000,ELF_PADDR_OFFSET=0x0,LOADER=generic";
    for (mode, low_root) in [
        ("yes", true),
        ("yes[extended-cr3]", false),
        ("bimodal", false),
    ] {
        let kernel = pv(&with_string(&format!("{common},PAE={mode}"))).unwrap();
        assert_eq!(kernel.low_root, low_root, "{mode}");
        assert_eq!(kernel.entry, BASE + 0x10_0000);
    }
    for mode in ["", ",PAE=no"] {
        let error = pv(&with_string(&format!("{common}{mode}"))).unwrap_err();
        assert!(
            error.contains("only 32-bit kernels with PAE can run"),
            "{error}"
        );
    }
}

#[test]
fn refusals_are_sentences() {
    let with = |kind, value: u64| {
        let notes = [notes(BASE, b"yes\0"), number(kind, value)].concat();
        narrow_kernel(b"code", &notes)
    };
    let mut wide_machine = narrow_kernel(b"code", &notes(BASE, b"yes"));
    wide_machine[18] = 62;
    let mut narrow_machine = kernel(b"code", &linux_notes());
    narrow_machine[18] = 3;
    let mut big_endian = narrow_kernel(b"code", &notes(BASE, b"yes"));
    big_endian[5] = 2;
    for (file, words) in [
        (
            narrow_kernel(b"code", &notes(BASE, b"no\0")),
            "the PAE mode \"no\"; only 32-bit kernels with PAE",
        ),
        (narrow_kernel(b"code", b""), "not a Xen PV kernel"),
        (wide_machine, "class and machine contradict"),
        (narrow_machine, "class and machine contradict"),
        (big_endian, "unknown class or byte order"),
        (
            with(
                elfnote::XEN_ELFNOTE_HV_START_LOW,
                COMPAT_VIRT_START + 0x20_0000,
            ),
            "only the addresses from 0xf5a00000 (HV_START_LOW), which needs them from 0xf5800000",
        ),
        (
            narrow_kernel(b"code", &notes(COMPAT_VIRT_START - 0x10_2000, b"yes")),
            "reach into the hypervisor's range",
        ),
        (
            narrow_kernel(b"code", &notes(0xffff_f000, b"yes")),
            "exceed 32 bits",
        ),
        (
            with(elfnote::XEN_ELFNOTE_ENTRY, 0),
            "its entry 0x0 is outside",
        ),
        (
            with(elfnote::XEN_ELFNOTE_HYPERCALL_PAGE, 8),
            "hypercall page",
        ),
        (with(elfnote::XEN_ELFNOTE_VIRT_BASE, 8), "page boundary"),
    ] {
        let error = pv(&file).unwrap_err();
        assert!(
            error.starts_with("kernel k: ") && error.contains(words),
            "{error}, not {words}"
        );
    }
    assert!(pv(&with(elfnote::XEN_ELFNOTE_HV_START_LOW, 0xf000_0000)).is_ok());
    let edge = notes(COMPAT_VIRT_START - 0x10_3000, b"yes");
    assert!(pv(&narrow_kernel(b"code", &edge)).is_ok());
}

#[test]
fn wrappings_come_off() {
    let plain = narrow_kernel(&[7; 5000], &notes(BASE, b"yes"));
    let file = bzimage::tests::wrap(&plain);
    assert_eq!(pv(&file), pv(&plain));
    assert!(pv(&plain).is_ok());
}

/// As in GRUB's 32-bit image, the last note says that it is longer than its segment.
#[test]
fn the_last_note_may_be_cut_off() {
    let mut notes = [
        notes(BASE, b"no\0"),
        note(elfnote::XEN_ELFNOTE_PAE_MODE, b"yes\0"),
    ]
    .concat();
    let size_at = notes.len() - 16;
    notes[size_at] = 12;
    let file = narrow_kernel(b"code", &notes);
    let file = &file[..file.len() - 41];
    assert!(pv(file).is_ok());
}

#[test]
fn symbols_are_an_elf_file_of_the_same_class() {
    let wish = note(elfnote::XEN_ELFNOTE_BSD_SYMTAB, b"yes\0");
    let symbols: &[u8] = &[7; 48];
    let names: &[u8] = b"\0main\0x\0";
    let sections = [(".symtab", 2, symbols), (".strtab", 3, names)];
    let file = with_sections(b"code", &[notes(BASE, b"yes"), wish].concat(), &sections);
    let image = Image::open("k", &file).unwrap();
    let last = image.parts().last().unwrap();
    assert_eq!(last.paddr, 0x10_3000);
    assert_eq!(
        image.pv(Role::Guest).unwrap().end,
        BASE + last.paddr + last.memory_bytes
    );
    assert_eq!(u32_at(last.bytes, 0), Some(last.bytes.len() as u32 - 4));
    let elf = &last.bytes[4..];
    assert!(elf.starts_with(b"\x7fELF\x01\x01"));
    assert_eq!((u32_at(elf, 28), u32_at(elf, 32)), (Some(0), Some(52)));
    let halves: Vec<_> = (0..6).map(|n| u16_at(elf, 40 + 2 * n).unwrap()).collect();
    assert_eq!(halves, [52, 0, 0, 40, 3, 0]);
    for (at, kind, bytes) in [(92, 2, symbols), (132, 3, names)] {
        let [offset, size] = [16, 20].map(|field| u32_at(elf, at + field).unwrap() as usize);
        assert_eq!(u32_at(elf, at + 4), Some(kind));
        assert_eq!(&elf[offset..offset + size], bytes);
    }
    assert_eq!(u32_at(elf, 92 + 24), Some(2));
}

/// One of Debian's kernels, if `scripts/setup` or a test has fetched it.
fn debian(name: &str) -> Option<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../build/debian");
    std::fs::read(folder.join(name)).ok()
}

#[test]
fn debians_kernels() {
    for (name, wanted) in [
        ("pvgrub-32", (0, 0, None)),
        ("gnumach-32", (BASE, BASE, Some(BASE + 0x2000))),
    ] {
        let Some(file) = debian(name) else {
            std::println!("{name} is not there");
            continue;
        };
        let kernel = pv(&file).unwrap();
        assert_eq!((kernel.width, kernel.low_root), (Width::Narrow, false));
        assert_eq!(
            (kernel.virt_base, kernel.entry, kernel.hypercall_page),
            wanted
        );
        for len in (0..file.len()).step_by(file.len() / 100) {
            assert!(pv(&file[..len]).is_err(), "{name}: {len}");
        }
    }
}

#[test]
fn every_truncation_is_a_sentence() {
    let file = narrow_kernel(b"code", &notes(BASE, b"yes\0"));
    // The file's end is the section table, which loading doesn't need.
    let needed = file.len() - 41 - notes(BASE, b"").len();
    for len in 0..file.len() {
        match pv(&file[..len]) {
            Ok(_) => assert!(len > needed, "{len}"),
            Err(error) => assert!(error.starts_with("kernel k: "), "{len}: {error}"),
        }
    }
}

proptest! {
    #[test]
    fn damage_never_panics(changes in proptest::collection::vec((0_usize..700, any::<u8>()), 1..8)) {
        let sections = [(".symtab", 2, &[7; 48][..]), (".strtab", 3, b"\0main\0x\0")];
        let wish = note(elfnote::XEN_ELFNOTE_BSD_SYMTAB, b"yes\0");
        let mut file = with_sections(b"code", &[notes(BASE, b"yes"), wish].concat(), &sections);
        for (at, byte) in changes {
            if let Some(place) = file.get_mut(at) {
                *place = byte;
            }
        }
        if let Ok(image) = Image::open("k", &file) {
            let _ = image.pv(Role::Guest).map_err(|error| error.to_string());
            let loaded: usize = image.parts().map(|part| part.bytes.len()).sum();
            prop_assert!(loaded <= 3 * file.len() + 1024);
        }
    }
}
