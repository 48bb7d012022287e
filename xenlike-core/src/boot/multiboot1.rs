//! The information of multiboot version 1 (specification 0.6.96 §3.3), which older GRUB entries and `qemu -kernel`
//! pass. Its texts are copied, so nothing of it is needed later.

use alloc::string::String;
use alloc::vec::Vec;

use super::acpi::rsdp::Roots;
use super::acpi::table::field;
use super::info::{BootInfo, Module, Range, Region, ScreenInfo};
use crate::console::screen::{PixelFormat, Surface};
use crate::kit::Maddr;

/// The size in bytes of the structure, up to the frame buffer's fields.
const BYTES: usize = 116;
/// The size in bytes of a module's entry, and of an entry of the memory map behind its length field.
const MODULE_BYTES: u32 = 16;
const REGION_BYTES: u32 = 20;
/// The length of the longest text that is read.
const MAX_TEXT: u32 = 4096;

/// Flags that say which fields are valid.
const COMMAND_LINE: u32 = 1 << 2;
const MODULES: u32 = 1 << 3;
const MEMORY_MAP: u32 = 1 << 6;
const LOADER_NAME: u32 = 1 << 9;
const FRAME_BUFFER: u32 = 1 << 12;

/// Machine memory: `None` for an address where the loader can't have put anything.
pub trait Memory {
    /// The `count` bytes at address `at`.
    fn bytes(&self, at: u32, count: usize) -> Option<&[u8]>;
}

/// Reads the information at `at`.
///
/// # Errors
/// A sentence that says what is wrong with the information.
pub fn parse(memory: &impl Memory, at: u32) -> Result<BootInfo, &'static str> {
    let fields = memory.bytes(at, BYTES);
    let fields = fields.ok_or("the boot loader's information is not where it should be")?;
    let flags = field::<u32>(fields, 0).unwrap_or_default();
    // A field that isn't valid counts as 0.
    let word = |flag, offset| {
        let there = flags & flag != 0;
        field(fields, offset).filter(|_| there).unwrap_or(0_u32)
    };
    if flags & MEMORY_MAP == 0 {
        return Err("the boot loader tells no memory map");
    }
    let loader = text(memory, word(LOADER_NAME, 64));
    let line = |at| {
        let line = text(memory, at);
        // Loaders other than GRUB 2 put the file's name before the text.
        let bare = loader.starts_with("GRUB 2");
        let words = line.split_once(' ').map_or("", |(_, words)| words);
        if bare { line } else { words }.trim()
    };
    let mut info = BootInfo::new(line(word(COMMAND_LINE, 16)), loader);
    info.screen = screen(fields, flags);
    info.acpi = acpi_roots(memory);
    let count = word(MODULES, 20).min(1 << 16);
    let entries = (0..count).map_while(|n| {
        let at = word(MODULES, 24).checked_add(n.checked_mul(MODULE_BYTES)?)?;
        memory.bytes(at, MODULE_BYTES as usize)
    });
    for entry in entries {
        let word = |offset| field::<u32>(entry, offset).unwrap_or_default();
        let (start, end) = (word(0).into(), word(4).into());
        let range = Range { start, end };
        let cmdline = line(word(8));
        info.add_module(Module { range, cmdline });
    }
    info.set_map(&regions(memory, word(MEMORY_MAP, 48), word(MEMORY_MAP, 44)));
    Ok(info)
}

fn regions(memory: &impl Memory, mut at: u32, bytes: u32) -> Vec<Region> {
    let end = at.saturating_add(bytes);
    let next = || {
        let size: u32 = field(memory.bytes(at, 4)?, 0)?;
        let entry = memory.bytes(at.checked_add(4)?, REGION_BYTES as usize)?;
        at = at.checked_add(4)?.checked_add(size)?;
        if size < REGION_BYTES || at > end {
            return None;
        }
        let (start, length): (u64, u64) = (field(entry, 0)?, field(entry, 8)?);
        let end = start.saturating_add(length);
        let range = Range { start, end };
        let kind = field(entry, 16)?;
        Some(Region { range, kind })
    };
    core::iter::from_fn(next).collect()
}

/// A text that ends with a zero byte; empty if there is none.
fn text(memory: &impl Memory, at: u32) -> &'static str {
    let byte = |n| memory.bytes(at.checked_add(n)?, 1)?.first().copied();
    let bytes = (0..MAX_TEXT).map_while(byte).take_while(|byte| *byte != 0);
    let text = if at == 0 { Vec::new() } else { bytes.collect() };
    String::from_utf8(text).map_or("", |text| text.leak())
}

fn screen(fields: &[u8], flags: u32) -> Option<ScreenInfo> {
    if flags & FRAME_BUFFER == 0 {
        return Some(ScreenInfo::TEXT);
    }
    let word = |offset| field::<u32>(fields, offset);
    let byte = |offset| field::<u8>(fields, offset);
    let (pitch, width, height) = (word(96)?, word(100)?, word(104)?);
    let channel = |offset| Some((byte(offset)?, byte(offset + 1)?));
    let surface = match byte(109)? {
        1 => Surface::Pixels(PixelFormat {
            pitch: pitch as usize,
            bytes: usize::from(byte(108)?).div_ceil(8),
            channels: [channel(110)?, channel(112)?, channel(114)?],
        }),
        2 => Surface::Text,
        _ => return None,
    };
    Some(ScreenInfo {
        at: Maddr(field(fields, 88)?),
        bytes: u64::from(pitch) * u64::from(height),
        surface,
        width,
        height,
    })
}

/// Finds the root pointer where a BIOS puts it (ACPI 6.5 §5.2.5.1): in the first KiB of its extended data
/// area, or below 1 MiB.
fn acpi_roots(memory: &impl Memory) -> Option<Roots> {
    const BYTES: u32 = 36;
    let extended =
        field::<u16>(memory.bytes(0x40e, 2)?, 0).map_or(0, |segment| u32::from(segment) << 4);
    let places = (extended..extended + 1024).step_by(16);
    let places = places.chain((0xe_0000..0x10_0000 - BYTES).step_by(16));
    places
        .filter_map(|at| memory.bytes(at, BYTES as usize))
        .find_map(Roots::parse)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;

    /// The first MiB of a machine, and a little more.
    struct Fake(Vec<u8>);

    impl Fake {
        fn new() -> Self {
            Self(vec![0; 0x11_0000])
        }
        fn put(&mut self, at: usize, bytes: &[u8]) {
            self.0[at..at + bytes.len()].copy_from_slice(bytes);
        }
        fn words(&mut self, at: usize, words: &[u32]) {
            for (n, word) in words.iter().enumerate() {
                self.put(at + 4 * n, &word.to_le_bytes());
            }
        }
    }

    impl Memory for Fake {
        fn bytes(&self, at: u32, count: usize) -> Option<&[u8]> {
            self.0.get(at as usize..at as usize + count)
        }
    }

    /// Information as QEMU passes it: a command line and two modules with file names, a map of two regions.
    fn qemu() -> Fake {
        let mut memory = Fake::new();
        memory.put(0x9000, b"xenlike32 console=com1 noreboot\0");
        memory.put(0x9040, b"vmlinuz root=/dev/xvda1\0");
        memory.put(0x9080, b"initrd\0");
        memory.put(0x90c0, b"qemu\0");
        memory.words(0x9100, &[0x40_0000, 0x40_1000, 0x9040, 0]);
        memory.words(0x9110, &[0x50_0000, 0x50_2000, 0x9080, 0]);
        memory.words(0x9200, &[20, 0, 0, 0x9_fc00, 0, 1]);
        memory.words(0x9218, &[20, 0x10_0000, 0, 0, 1, 1]);
        let flags = COMMAND_LINE | MODULES | MEMORY_MAP | LOADER_NAME;
        memory.words(0x8000, &[flags, 0, 0, 0, 0x9000, 2, 0x9100]);
        memory.words(0x802c, &[48, 0x9200]);
        memory.words(0x8040, &[0x90c0]);
        memory
    }

    #[test]
    fn what_qemu_tells() {
        let info = parse(&qemu(), 0x8000).unwrap();
        assert_eq!(
            (info.cmdline, info.loader),
            ("console=com1 noreboot", "qemu")
        );
        let lines: Vec<_> = info.modules.iter().map(|m| m.cmdline).collect();
        assert_eq!(lines, ["root=/dev/xvda1", ""]);
        assert_eq!(
            info.modules[1].range,
            Range {
                start: 0x50_0000,
                end: 0x50_2000
            }
        );
        let high = Range {
            start: 0x10_0000,
            end: 0x1_0010_0000,
        };
        assert_eq!(
            info.map[1],
            Region {
                range: high,
                kind: 1
            }
        );
        assert!(matches!(
            info.screen,
            Some(ScreenInfo {
                surface: Surface::Text,
                ..
            })
        ));
    }

    #[test]
    fn grub_2_tells_no_file_names() {
        let mut memory = qemu();
        memory.put(0x90c0, b"GRUB 2.12\0");
        let info = parse(&memory, 0x8000).unwrap();
        assert_eq!(info.cmdline, "xenlike32 console=com1 noreboot");
    }

    #[test]
    fn a_frame_buffer_and_acpi() {
        let mut memory = qemu();
        let flags = MEMORY_MAP | FRAME_BUFFER;
        memory.words(0x8000, &[flags]);
        memory.words(0x8058, &[0xe000_0000, 0, 4096, 1024, 768]);
        memory.put(0x806c, &[32, 1, 16, 8, 8, 8, 0, 8]);
        memory.put(0x40e, &[0x00, 0x9f]);
        memory.put(0xf_1230, b"RSD PTR ");
        memory.words(0xf_1240, &[0x7fe0_0000]);
        let info = parse(&memory, 0x8000).unwrap();
        let screen = info.screen.unwrap();
        assert_eq!((screen.at.0, screen.width), (0xe000_0000, 1024));
        assert_eq!(info.acpi.unwrap().rsdt, Some(0x7fe0_0000));
        assert!(info.modules.is_empty() && info.cmdline.is_empty());
    }

    #[test]
    fn hostile_information_is_bounded() {
        let mut memory = qemu();
        // A map whose entries have no length; modules and texts beyond the end of memory.
        memory.words(0x9200, &[0]);
        memory.words(0x8014, &[u32::MAX, 0xffff_fff0]);
        memory.words(0x8010, &[0x10_fff0]);
        let info = parse(&memory, 0x8000).unwrap();
        assert!(info.map.is_empty() && info.modules.is_empty());
        assert!(parse(&memory, 0x20_0000).is_err());
        memory.words(0x8000, &[0]);
        assert!(parse(&memory, 0x8000).is_err());
    }
}
