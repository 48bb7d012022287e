//! What the boot loader tells: the information of multiboot2, or of [version 1](super::multiboot1), in
//! a form that outlives it.
#![expect(unsafe_code, reason = "refers to memory that the loader filled")]

use alloc::vec::Vec;
use log::{debug, warn};
use multiboot2::{BootInformation, BootInformationHeader, FramebufferType, MemoryAreaType};

use super::acpi::rsdp::Roots;
use super::acpi::table::{Firmware, places};
use super::map::{self, MEMORY_LIMIT};
use super::{multiboot1, options};
use crate::console::screen::{PixelFormat, Surface};
use crate::kit::{Maddr, Once, PAGE_SIZE};
use crate::mm::layout::DIRECT_MAP;

/// The number of modules that are used.
pub const MAX_MODULES: usize = 128;
/// The number of entries of the memory map that are used.
pub const MAX_REGIONS: usize = 1024;

/// The versions of the protocol between loader and image, by the magic number that the loader passes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Loader {
    /// Multiboot version 1: `qemu -kernel`, older GRUB entries.
    Multiboot1 = 0x2bad_b002,
    /// Multiboot version 2, which GRUB's menu entries use.
    Multiboot2 = 0x36d7_6289,
}

/// A range of machine memory, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Range {
    /// The address of the first byte.
    pub start: u64,
    /// The address behind the last byte.
    pub end: u64,
}

impl Range {
    /// The whole pages that it overlaps.
    const fn pages(&self) -> Self {
        Self {
            start: self.start & !(PAGE_SIZE as u64 - 1),
            end: self.end.next_multiple_of(PAGE_SIZE as u64),
        }
    }

    const fn overlaps(&self, other: &Self) -> bool {
        self.start < other.end && other.start < self.end
    }
}

/// An entry of the firmware's memory map, with the kinds of E820 (1: RAM).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Region {
    /// The memory that it describes.
    pub range: Range,
    /// 1 RAM, 2 reserved, 3 ACPI tables, 4 ACPI non-volatile, 5 defective; any other is reserved too.
    pub kind: u32,
}

/// A file that the boot loader has loaded.
#[derive(Clone, Copy, Debug)]
pub struct Module {
    /// The place of its bytes.
    pub range: Range,
    /// The text behind its name in the loader's configuration.
    pub cmdline: &'static str,
}

/// The screen in the mode that the loader has set.
#[derive(Clone, Copy, Debug)]
pub struct ScreenInfo {
    /// The machine address of its memory.
    pub at: Maddr,
    /// The size of that memory in bytes.
    pub bytes: u64,
    /// How to draw on it: text or pixels.
    pub surface: Surface,
    /// The width, in characters for a text screen, else in pixels.
    pub width: u32,
    /// The height, in characters for a text screen, else in pixels.
    pub height: u32,
}

/// The symbol table of the image.
#[derive(Clone, Copy, Debug)]
pub struct Symbols {
    /// The bytes of its entries, `Elf64_Sym`.
    pub table: &'static [u8],
    /// The string table with the symbols' names.
    pub names: &'static [u8],
}

/// Everything that the boot loader told.
#[derive(Debug)]
pub struct BootInfo {
    /// The command line of the hypervisor.
    pub cmdline: &'static str,
    /// The name of the boot loader.
    pub loader: &'static str,
    /// The modules, in the loader's order.
    pub modules: Vec<Module>,
    /// The memory map, sorted and without overlaps.
    pub map: Vec<Region>,
    /// The screen, if there is one that can be used.
    pub screen: Option<ScreenInfo>,
    /// The symbols of the image, if the loader has kept them.
    pub symbols: Option<Symbols>,
    /// The addresses of the ACPI tables' roots.
    pub acpi: Option<Roots>,
    /// The EFI system table, on a UEFI machine.
    pub efi_system_table: Option<Maddr>,
    /// The address of the information itself, if it is multiboot2's.
    at: Option<Maddr>,
    /// The memory that the information and the symbols occupy.
    pub occupied: Vec<Range>,
    /// Whether modules or regions were dropped because there were too many.
    pub cut: bool,
    /// The number of bytes of RAM that lie too high to be used.
    pub clipped: u64,
    /// The number of ACPI tables that the firmware has left in memory that it reports as free.
    pub tables_in_ram: u32,
}

static INFO: Once<BootInfo> = Once::new();

/// What the boot loader told; `None` before [`read`].
pub fn get() -> Option<&'static BootInfo> {
    INFO.get()
}

/// Reads the information at `at`, in the version that `loader` stands for. Called once, on the boot tables.
///
/// # Errors
/// A sentence that says what is wrong with the information.
pub fn read(at: Maddr, loader: Loader) -> Result<&'static BootInfo, &'static str> {
    if loader == Loader::Multiboot1 {
        let mut info = multiboot1::parse(&LowMemory, at.0 as u32)?;
        info.keep_tables(&LowMemory);
        return Ok(INFO.call_once(|| info));
    }
    if !at.0.is_multiple_of(8) || at.0 == 0 {
        return Err("the boot loader's information is not where it should be");
    }
    let pointer = (DIRECT_MAP + at.0) as *const BootInformationHeader;
    // SAFETY: GRUB put the information there; it is never written, and its memory is never freed.
    let info = unsafe { BootInformation::load(pointer) };
    let info = info.map_err(|_| "the boot loader's information has no end")?;
    let mut info = copy(at, &info);
    info.keep_tables(&LowMemory);
    Ok(INFO.call_once(|| info))
}

/// The first 4 GiB, which the boot tables map. No loader puts anything above.
struct LowMemory;

impl multiboot1::Memory for LowMemory {
    fn bytes(&self, at: u32, count: usize) -> Option<&[u8]> {
        let fits = at != 0 && u64::from(at) + count as u64 <= 1 << 32;
        let pointer = (DIRECT_MAP + u64::from(at)) as *const u8;
        // SAFETY: mapped, and not written while the loader's information is read.
        fits.then(|| unsafe { core::slice::from_raw_parts(pointer, count) })
    }
}

impl Firmware for LowMemory {
    fn bytes(&self, at: u64, bytes: usize) -> Option<&[u8]> {
        multiboot1::Memory::bytes(self, u32::try_from(at).ok()?, bytes)
    }
    fn reaches(&self, at: u64, bytes: u64) -> bool {
        at.checked_add(bytes).is_some_and(|end| end <= 1 << 32)
    }
    fn is_ram(&self, _at: u64) -> bool {
        true
    }
}

impl ScreenInfo {
    /// The text screen of a BIOS machine.
    pub const TEXT: Self = Self {
        at: Maddr(0xb_8000),
        bytes: 80 * 25 * 2,
        surface: Surface::Text,
        width: 80,
        height: 25,
    };
}

impl BootInfo {
    /// Makes information that contains only the command line and the loader's name.
    pub fn new(cmdline: &'static str, loader: &'static str) -> Self {
        Self {
            cmdline,
            loader,
            modules: Vec::new(),
            map: Vec::new(),
            screen: None,
            symbols: None,
            acpi: None,
            efi_system_table: None,
            at: None,
            occupied: Vec::new(),
            cut: false,
            clipped: 0,
            tables_in_ram: 0,
        }
    }

    /// Adds a module, if there is room and its range is plausible.
    pub fn add_module(&mut self, module: Module) {
        if module.range.end < module.range.start || self.modules.len() == MAX_MODULES {
            self.cut = true;
        } else {
            self.modules.push(module);
        }
    }

    /// Sets the memory map, as far as there is room.
    pub fn set_map(&mut self, regions: &[Region]) {
        self.cut |= regions.len() > MAX_REGIONS;
        let regions = regions.get(..MAX_REGIONS).unwrap_or(regions);
        self.map = map::tidy(regions);
        self.clipped = map::clip(&mut self.map, MEMORY_LIMIT);
    }

    /// Marks the memory of ACPI tables that lie in what the firmware reports as free. Where the loader has put
    /// something, it relied on the map, so the table is lost and its memory stays free.
    fn keep_tables(&mut self, firmware: &impl Firmware) {
        let Some(roots) = self.acpi else { return };
        // Only for tests, because no emulator's firmware does that.
        if cfg!(feature = "audit") && options::value(self.cmdline, "tables-in-ram").is_some() {
            let root = roots.xsdt.or(roots.rsdt).unwrap_or_default();
            let holds = |r: &&mut Region| (r.range.start..r.range.end).contains(&root);
            self.map
                .iter_mut()
                .find(holds)
                .into_iter()
                .for_each(|region| region.kind = 1);
        }
        let taken = self.modules.iter().map(|module| module.range);
        let taken: Vec<Range> = taken
            .chain(self.occupied.iter().copied())
            .chain(own_image())
            .collect();
        let mut map = self.map.clone();
        for place in places(firmware, roots) {
            let pages = place.pages();
            let in_ram = |r: &Region| is_ram(r) && r.range.overlaps(&pages);
            if self.map.iter().any(in_ram) && !taken.iter().any(|range| range.overlaps(&pages)) {
                let (range, kind) = (pages, 3);
                map.push(Region { range, kind });
                self.tables_in_ram += 1;
            }
        }
        self.map = map::tidy(&map);
    }

    /// The memory map of UEFI.
    pub fn efi_memory_map(&self) -> Option<&'static multiboot2::EFIMemoryMapTag> {
        let pointer = (DIRECT_MAP + self.at?.0) as *const BootInformationHeader;
        // SAFETY: as in `read`, which has checked it; it is never moved or freed.
        let info: BootInformation<'static> = unsafe { BootInformation::load(pointer) }.ok()?;
        let tag = core::ptr::from_ref(info.efi_memory_map_tag()?);
        // SAFETY: the tag lies in the information, which outlives the object through which it was found.
        Some(unsafe { &*tag })
    }
}

/// The memory of the image; `None` on the host.
#[cfg(target_os = "none")]
fn own_image() -> Option<Range> {
    Some(super::memory::image())
}

#[cfg(not(target_os = "none"))]
const fn own_image() -> Option<Range> {
    None
}

/// A text of the information with its real lifetime, as the information is never freed.
fn keep(text: &str) -> &'static str {
    // SAFETY: the information stays in the direct map (`occupied`) and is never written.
    unsafe {
        core::str::from_utf8_unchecked(core::slice::from_raw_parts(text.as_ptr(), text.len()))
    }
}

fn copy(at: Maddr, info: &BootInformation<'_>) -> BootInfo {
    let text = |found: Option<&str>| found.map(keep).unwrap_or_default();
    let mut occupied = Vec::new();
    occupied.push(Range {
        start: at.0,
        end: at.0 + info.total_size() as u64,
    });
    let cmdline = text(info.command_line_tag().and_then(|t| t.cmdline().ok())).trim();
    let loader = text(info.boot_loader_name_tag().and_then(|t| t.name().ok()));
    let mut result = BootInfo::new(cmdline, loader);
    result.symbols = symbols(info, &mut occupied);
    result.occupied = occupied;
    result.screen = screen(info);
    result.acpi = acpi_roots(info);
    result.efi_system_table = info.efi_sdt64_tag().map(|t| Maddr(t.sdt_address() as u64));
    result.at = Some(at);
    for module in info.module_tags() {
        let range = Range {
            start: u64::from(module.start_address()),
            end: u64::from(module.end_address()),
        };
        let cmdline = text(module.cmdline().ok()).trim();
        result.add_module(Module { range, cmdline });
    }
    let areas = info.memory_map_tag().map(|tag| tag.memory_areas());
    let regions: Vec<Region> = areas.unwrap_or_default().iter().map(region).collect();
    result.set_map(&regions);
    result
}

fn region(area: &multiboot2::MemoryArea) -> Region {
    let start = area.start_address();
    Region {
        range: Range {
            start,
            end: start.saturating_add(area.size()),
        },
        kind: u32::from(area.typ()),
    }
}

fn screen(info: &BootInformation<'_>) -> Option<ScreenInfo> {
    let Some(tag) = info.framebuffer_tag() else {
        // Without a tag, a BIOS machine is in text mode, and a UEFI machine has no screen.
        let is_bios = info.efi_sdt64_tag().is_none();
        return is_bios.then_some(ScreenInfo::TEXT);
    };
    let tag = tag.ok()?;
    let surface = match tag.buffer_type().ok()? {
        FramebufferType::Text => Surface::Text,
        FramebufferType::RGB { red, green, blue } => Surface::Pixels(PixelFormat {
            pitch: tag.pitch() as usize,
            bytes: usize::from(tag.bpp()).div_ceil(8),
            channels: [red, green, blue].map(|c| (c.position, c.size)),
        }),
        FramebufferType::Indexed { .. } => return None,
    };
    Some(ScreenInfo {
        at: Maddr(tag.address()),
        bytes: u64::from(tag.pitch()) * u64::from(tag.height()),
        surface,
        width: tag.width(),
        height: tag.height(),
    })
}

/// The ACPI roots that GRUB passes on: those of a later revision's root pointer, and those of the first revision's.
fn acpi_roots(info: &BootInformation<'_>) -> Option<Roots> {
    let later = info.rsdp_v2_tag().map(content);
    let first = info.rsdp_v1_tag().map(content);
    match (later.and_then(Roots::parse), first.and_then(Roots::parse)) {
        (Some(later), Some(first)) => Some(later.or(first)),
        (later, first) => later.or(first),
    }
}

/// The bytes of a tag behind its header.
fn content<T>(tag: &T) -> &[u8] {
    const HEADER_BYTES: usize = 8;
    // SAFETY: the bytes of the tag, all of which the loader has initialised.
    let bytes =
        unsafe { core::slice::from_raw_parts(core::ptr::from_ref(tag).cast(), size_of::<T>()) };
    bytes.get(HEADER_BYTES..).unwrap_or_default()
}

fn symbols(info: &BootInformation<'_>, occupied: &mut Vec<Range>) -> Option<Symbols> {
    let mut piece = |name: &str| -> Option<&'static [u8]> {
        let section = info
            .elf_sections_tag()?
            .sections()
            .find(|s| s.name() == Ok(name))?;
        let (start, bytes) = (section.start_address(), section.size());
        if start == 0 || start.checked_add(bytes)? > 1 << 32 {
            return None;
        }
        occupied.push(Range {
            start,
            end: start + bytes,
        });
        // SAFETY: GRUB put the section there; `occupied` keeps its memory from any other use.
        Some(unsafe {
            core::slice::from_raw_parts((DIRECT_MAP + start) as *const u8, bytes as usize)
        })
    };
    Some(Symbols {
        table: piece(".symtab")?,
        names: piece(".strtab")?,
    })
}

/// Whether a region is RAM.
pub fn is_ram(region: &Region) -> bool {
    MemoryAreaType::from(multiboot2::MemoryAreaTypeId::from(region.kind))
        == MemoryAreaType::Available
}

/// Logs the memory map and the modules (`loglvl=debug`), and warns of what could not be used.
pub fn describe(info: &BootInfo) {
    for Region { range, kind } in &info.map {
        debug!(
            "map: {:#014x} to {:#014x} kind {kind}",
            range.start, range.end
        );
    }
    for Module { range, cmdline } in &info.modules {
        debug!("module: {:#x} to {:#x} {cmdline}", range.start, range.end);
    }
    if info.cut {
        warn!("the boot loader's lists are longer than what is kept of them");
    }
    if info.tables_in_ram != 0 {
        warn!(
            "ACPI: {} tables lie in memory that the firmware says is free; they are kept",
            info.tables_in_ram
        );
    }
    if info.clipped != 0 {
        warn!(
            "{} MiB of RAM are not used: the hypervisor reaches the first {} TiB of addresses",
            info.clipped >> 20,
            MEMORY_LIMIT >> 40
        );
    }
}

/// The bytes of a module; `None` if they aren't all in RAM. Only until the first domain is built, which gets them.
#[cfg(target_os = "none")]
pub fn module_bytes(range: Range) -> Option<&'static [u8]> {
    let ram = |r: &Region| is_ram(r) && r.range.start <= range.start && range.end <= r.range.end;
    let inside = range.start != 0 && get()?.map.iter().any(ram);
    let bytes = range.end.checked_sub(range.start)? as usize;
    let at = (DIRECT_MAP + range.start) as *const u8;
    // SAFETY: the direct map contains all RAM; the module's frames have no other use yet.
    inside.then(|| unsafe { core::slice::from_raw_parts(at, bytes) })
}

/// The end of memory that is never allocated: firmware and the start-up code of other CPUs live below.
pub const LOW_MEMORY: u64 = 1 << 20;

/// Copies from RAM below [`LOW_MEMORY`], which no allocator manages; `None` if it is not RAM.
pub fn read_low(at: Maddr, out: &mut [u8]) -> Option<()> {
    let end = at.0.checked_add(out.len() as u64)?;
    let ram = |r: &Region| is_ram(r) && r.range.start <= at.0 && end <= r.range.end;
    let inside = end <= LOW_MEMORY && get()?.map.iter().any(ram);
    if inside {
        // SAFETY: the direct map contains all RAM; this part has not been written since GRUB did.
        let bytes =
            unsafe { core::slice::from_raw_parts((DIRECT_MAP + at.0) as *const u8, out.len()) };
        out.copy_from_slice(bytes);
    }
    inside.then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;

    const BASE: u64 = 0x80_0000;

    struct Tables(Vec<u8>);

    impl Firmware for Tables {
        fn bytes(&self, at: u64, bytes: usize) -> Option<&[u8]> {
            let start = usize::try_from(at.checked_sub(BASE)?).ok()?;
            self.0.get(start..start.checked_add(bytes)?)
        }
        fn reaches(&self, _at: u64, _bytes: u64) -> bool {
            true
        }
        fn is_ram(&self, _at: u64) -> bool {
            true
        }
    }

    const fn region(start: u64, end: u64, kind: u32) -> Region {
        let range = Range { start, end };
        Region { range, kind }
    }

    /// ACPI tables in memory that the firmware reports as free get their own kind, except those
    /// that the loader has overwritten.
    #[test]
    fn tables_are_no_free_memory() {
        let mut memory = vec![0; 0x4000];
        let mut put = |at: usize, signature: &[u8], length: u32, entries: &[u64]| {
            memory[at..at + 4].copy_from_slice(signature);
            memory[at + 4..at + 8].copy_from_slice(&length.to_le_bytes());
            let entries = entries.iter().flat_map(|entry| entry.to_le_bytes());
            let to = memory[at + 36..].iter_mut();
            to.zip(entries).for_each(|(to, from)| *to = from);
        };
        put(0x10, b"XSDT", 52, &[BASE + 0x1ff0, BASE + 0x3000]);
        put(0x1ff0, b"APIC", 44, &[]);
        put(0x3000, b"SSDT", 64, &[]);
        let mut info = BootInfo::new("", "");
        info.acpi = Some(Roots {
            xsdt: Some(BASE + 0x10),
            rsdt: None,
        });
        info.set_map(&[region(0x10_0000, 0x100_0000, 1)]);
        let range = Range {
            start: BASE + 0x3800,
            end: BASE + 0x3900,
        };
        info.add_module(Module { range, cmdline: "" });
        info.keep_tables(&Tables(memory));
        let expected = [
            region(0x10_0000, BASE, 1),
            region(BASE, BASE + 0x1000, 3),
            region(BASE + 0x1000, BASE + 0x1000, 1),
            region(BASE + 0x1000, BASE + 0x3000, 3),
            region(BASE + 0x3000, 0x100_0000, 1),
        ];
        let expected: Vec<Region> = map::tidy(&expected);
        assert_eq!((info.map, info.tables_in_ram), (expected, 2));
    }
}
