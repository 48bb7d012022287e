//! The two classes of ELF files, 64-bit and 32-bit: sizes and field offsets of their headers (gABI chapters 4, 5).

use guest_pv_abi::Width;

use super::bytes::{u32_at, u64_at};

/// The layout of one class. Offsets that are not here are the same in both.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Class {
    /// Width of the kernels whose files have this class.
    pub(super) width: Width,
    /// Size of the ELF header.
    pub(super) header_bytes: usize,
    /// Size of a program header.
    pub(super) phdr_bytes: u16,
    /// Size of a section header.
    pub(super) shdr_bytes: u16,
    /// Alignment of a section that a BSD kernel gets.
    pub(super) alignment: u64,
    /// Offsets of `e_phoff` and `e_shoff`.
    pub(super) tables: [usize; 2],
    /// Offset of `e_ehsize`, the first of six 16-bit fields.
    pub(super) sizes: usize,
    /// Offsets of `p_offset`, `p_paddr`, `p_filesz` and `p_memsz`.
    pub(super) segment: [usize; 4],
    /// Offsets of `sh_offset` and `sh_size`.
    pub(super) section: [usize; 2],
    /// Offset of `sh_link`.
    pub(super) link: usize,
}

/// 64-bit files.
pub(super) static WIDE: Class = Class {
    width: Width::Wide,
    header_bytes: 64,
    phdr_bytes: 56,
    shdr_bytes: 64,
    alignment: 8,
    tables: [32, 40],
    sizes: 52,
    segment: [8, 24, 32, 40],
    section: [24, 32],
    link: 40,
};

/// 32-bit files.
pub(super) static NARROW: Class = Class {
    width: Width::Narrow,
    header_bytes: 52,
    phdr_bytes: 32,
    shdr_bytes: 40,
    alignment: 4,
    tables: [28, 32],
    sizes: 40,
    segment: [4, 12, 16, 20],
    section: [16, 20],
    link: 24,
};

impl Class {
    /// Reads an address or an offset at `at`; 0 outside of `bytes`.
    pub(super) fn word(&self, bytes: &[u8], at: usize) -> u64 {
        let word = match self.width {
            Width::Wide => u64_at(bytes, at),
            Width::Narrow => u32_at(bytes, at).map(u64::from),
        };
        word.unwrap_or(0)
    }

    /// Writes an address or an offset by `put`, which takes the offset of the field and its bytes.
    pub(super) fn put_word(&self, at: usize, value: u64, put: &mut impl FnMut(usize, &[u8])) {
        let bytes = value.to_le_bytes();
        match self.width {
            Width::Wide => put(at, &bytes),
            Width::Narrow => put(at, bytes.first_chunk::<4>().map_or(&[], |low| low)),
        }
    }
}
