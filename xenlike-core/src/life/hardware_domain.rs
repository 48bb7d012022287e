//! Domain 0, the control and hardware domain. It may access every port, frame and interrupt of the machine,
//! except those that the core uses itself.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::RangeInclusive;

use guest_pv_abi::xen::VgaConsoleInfo;

use crate::arch::cpu;
use crate::cpuid;
use crate::domain::{Domain, Rights, registry};
use crate::kit::{DomId, Maddr, Once, PAGE_SHIFT, PAGE_SIZE};
use crate::mm::memory_map::{self, Region};
use crate::pagetype::{self, machine};

/// The architecture's limit of physical address bits (APM vol. 2 §5.1).
const MAX_ADDRESS_BITS: u32 = 52;
/// The E820 type of reserved addresses.
const RESERVED: u32 = 2;
/// The first and the last interrupt number of domain 0. Line 0 is the PC's timer, which belongs to the core.
const FIRST_IRQ: u64 = 1;
const LAST_IRQ: u64 = 1023;
/// Ports of the PC's interrupt controllers and timer: the core has masked the controllers, and may have
/// measured the TSC by the timer. And the PCI data register, whose address register the core shares.
const CORE_PORTS: [RangeInclusive<u64>; 5] = [
    0x20..=0x21,
    0xa0..=0xa1,
    0x40..=0x43,
    0x61..=0x61,
    0xcfc..=0xcff,
];

/// What UEFI has left for domain 0.
#[derive(Clone, Debug)]
pub struct Efi {
    /// The revision of the system table.
    pub revision: u32,
    /// The revision of the runtime services.
    pub runtime_revision: u32,
    /// The vendor's name in UTF-16, without a NUL.
    pub vendor: Vec<u16>,
    /// The vendor's own revision number.
    pub vendor_revision: u32,
    /// The address of the configuration tables.
    pub config_tables: Maddr,
    /// The number of configuration tables.
    pub config_count: u32,
    /// The firmware's memory map.
    pub regions: Vec<EfiRegion>,
}

/// An entry of UEFI's memory map.
#[derive(Clone, Copy, Debug)]
pub struct EfiRegion {
    /// The address of the first byte.
    pub start: u64,
    /// The address after the last byte.
    pub end: u64,
    /// The type of the memory, `EFI_MEMORY_TYPE`.
    pub kind: u32,
    /// The attributes of the memory, `EFI_MEMORY_*`.
    pub attributes: u64,
}

impl Efi {
    /// Returns the region that contains the byte at `at`.
    pub fn region_of(&self, at: Maddr) -> Option<EfiRegion> {
        let holds = |region: &&EfiRegion| (region.start..region.end).contains(&at.0);
        self.regions.iter().find(holds).copied()
    }
}

/// The resources of the machine that the core keeps for itself, and facts that boot has found.
#[derive(Clone, Debug, Default)]
pub struct Kept {
    /// The I/O ports of the core's serial port. ACPI's registers are not among them: domain 0 takes them over
    /// from the firmware, and asks for sleep states by a hypercall.
    pub ports: Vec<RangeInclusive<u64>>,
    /// The machine addresses of pages with registers of devices that the core drives: local APIC, I/O APICs.
    pub pages: Vec<u64>,
    /// The interrupt lines that the core uses.
    pub irqs: Vec<u64>,
    /// The screen, which the core leaves to domain 0.
    pub screen: Option<VgaConsoleInfo>,
    /// UEFI's tables, which the core leaves to domain 0.
    pub efi: Option<Efi>,
    /// ACPI's tables, for reports.
    pub tables: Vec<AcpiTable>,
    /// The decision about speculation, for reports.
    pub speculation: String,
}

/// What a report says about an ACPI table.
#[derive(Clone, Copy, Debug)]
pub struct AcpiTable {
    /// The table's signature of four letters.
    pub signature: [u8; 4],
    /// The length in bytes.
    pub bytes: usize,
    /// The sum of the bytes; 0 if the firmware has made no mistake.
    pub sum: u8,
}

static KEPT: Once<Kept> = Once::new();

/// Records what the core keeps. Called once, at boot.
pub fn keep(kept: Kept) {
    KEPT.call_once(|| kept);
}

/// Returns what the core keeps, once boot has recorded it.
pub fn kept() -> Option<&'static Kept> {
    KEPT.get()
}

/// Returns the screen as the boot loader has left it, if there is one.
pub fn screen() -> Option<VgaConsoleInfo> {
    KEPT.get()?.screen
}

/// Returns what UEFI has left, or `None` on a PC without UEFI.
pub fn efi() -> Option<&'static Efi> {
    KEPT.get()?.efi.as_ref()
}

/// Whether the core uses interrupt line `gsi` itself.
pub fn keeps_line(gsi: u32) -> bool {
    u64::from(gsi) < FIRST_IRQ
        || KEPT
            .get()
            .is_some_and(|kept| kept.irqs.contains(&u64::from(gsi)))
}

/// Returns the machine's memory map for domain 0: the firmware's map, with the pages of the interrupt
/// controllers as reserved, so that domain 0 assigns no device to them.
pub fn memory_map() -> Vec<Region> {
    let mut map = memory_map::get().to_vec();
    let pages = KEPT.get().map(|kept| kept.pages.as_slice());
    for &page in pages.unwrap_or_default() {
        let bytes = PAGE_SIZE as u64;
        let apart = |region: &Region| {
            region.start.saturating_add(region.bytes) <= page
                || page.saturating_add(bytes) <= region.start
        };
        if map.iter().all(apart) {
            map.push(Region {
                start: page,
                bytes,
                kind: RESERVED,
            });
        }
    }
    map.sort_unstable_by_key(|region| region.start);
    map
}

/// Returns the last frame that the machine can address. In page tables, address bits above it are reserved.
fn last_frame() -> u64 {
    let bits = u32::from(cpu::features().phys_bits);
    let bits = bits.clamp(PAGE_SHIFT + 1, MAX_ADDRESS_BITS);
    u64::MAX.unbounded_shr((u64::BITS + PAGE_SHIFT).saturating_sub(bits))
}

/// Makes `dom` the control and hardware domain.
pub fn give(dom: &Domain) {
    dom.set_rights(Rights::Control);
    pagetype::give_device_rights(dom.id());
    *dom.cpuid.lock() = cpuid::machine().hardware_domain();
    dom.pages.io_memory.lock().insert(0..=last_frame());
    let mut rights = dom.io_rights.lock();
    rights.ports.insert(0..=0xffff);
    rights.irqs.insert(FIRST_IRQ..=LAST_IRQ);
    for range in CORE_PORTS {
        rights.ports.remove(range);
    }
    let Some(kept) = KEPT.get() else { return };
    for range in &kept.ports {
        rights.ports.remove(range.clone());
    }
    for &irq in &kept.irqs {
        rights.irqs.remove(irq..=irq);
    }
    drop(rights);
    let mut io_memory = dom.pages.io_memory.lock();
    for page in &kept.pages {
        let frame = page >> PAGE_SHIFT;
        io_memory.remove(frame..=frame);
    }
}

/// Why the boot domain could not become domain 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// There already is a domain 0.
    Exists,
    /// It has an event channel or a grant, which other domains know by its old id.
    InUse,
}

/// Makes the boot domain, which runs on this CPU, domain 0.
///
/// # Errors
/// See [`Refused`].
pub fn become_dom0(dom: &Arc<Domain>) -> Result<(), Refused> {
    if registry::lookup(DomId::DOM0).is_some() {
        return Err(Refused::Exists);
    }
    if !dom.events.is_empty() || dom.grants.size().0 > 1 {
        return Err(Refused::InUse);
    }
    if !registry::rename(dom.id(), DomId::DOM0) {
        return Err(Refused::Exists);
    }
    let old = dom.pages.id();
    machine().rename(&dom.pages, DomId::DOM0);
    pagetype::register(Arc::clone(&dom.pages)).map_err(|_| Refused::Exists)?;
    pagetype::forget(old, &dom.pages);
    give(dom);
    Ok(())
}
