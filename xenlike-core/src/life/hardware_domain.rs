//! Domain 0: the control and hardware domain. It may touch every port, frame and interrupt of the
//! machine but what the core uses itself.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::RangeInclusive;

use guest_pv_abi::xen::VgaConsoleInfo;

use crate::arch::cpu;
use crate::cpuid;
use crate::domain::{Domain, Rights, registry};
use crate::kit::{DomId, Maddr, Mfn, Once, PAGE_SHIFT, PAGE_SIZE};
use crate::mm::memory_map::{self, Region};
use crate::pagetype::{self, machine};

/// The architecture's limit (APM vol. 2 §5.1).
const MAX_ADDRESS_BITS: u32 = 52;
/// E820's kind of what is no RAM.
const RESERVED: u32 = 2;
/// Interrupt numbers begin and end here: line 0 is the timer of the PC, which the core has.
const FIRST_IRQ: u64 = 1;
const LAST_IRQ: u64 = 1023;
/// The interrupt controllers and the timer of the PC: the core has masked the first and may have
/// measured the TSC by the second. PCI data, behind an address register that it shares.
const CORE_PORTS: [RangeInclusive<u64>; 5] = [
    0x20..=0x21,
    0xa0..=0xa1,
    0x40..=0x43,
    0x61..=0x61,
    0xcfc..=0xcff,
];

/// What UEFI left for domain 0 to find.
#[derive(Clone, Debug)]
pub struct Efi {
    /// Of the system table.
    pub revision: u32,
    /// Of the runtime services.
    pub runtime_revision: u32,
    /// UTF-16, without NUL.
    pub vendor: Vec<u16>,
    /// The vendor's own count.
    pub vendor_revision: u32,
    /// Where the configuration tables are.
    pub config_tables: Maddr,
    /// How many.
    pub config_count: u32,
    /// The firmware's memory map.
    pub regions: Vec<EfiRegion>,
}

/// An entry of UEFI's memory map.
#[derive(Clone, Copy, Debug)]
pub struct EfiRegion {
    /// First byte.
    pub start: u64,
    /// Behind the last byte.
    pub end: u64,
    /// `EFI_MEMORY_TYPE`.
    pub kind: u32,
    /// `EFI_MEMORY_*`.
    pub attributes: u64,
}

impl Efi {
    /// The region that a byte lies in.
    pub fn region_of(&self, at: Maddr) -> Option<EfiRegion> {
        let holds = |region: &&EfiRegion| (region.start..region.end).contains(&at.0);
        self.regions.iter().find(holds).copied()
    }
}

/// What the core keeps for itself, by what it found of the machine.
#[derive(Clone, Debug, Default)]
pub struct Kept {
    /// I/O ports of its serial port. ACPI's registers are domain 0's: it takes them over from the firmware, and asks
    /// for sleep states by a hypercall.
    pub ports: Vec<RangeInclusive<u64>>,
    /// Pages of devices that it drives: local APIC, I/O APICs; machine addresses.
    pub pages: Vec<u64>,
    /// The HPET's, which domain 0 may read.
    pub hpet: Option<Mfn>,
    /// Its interrupts.
    pub irqs: Vec<u64>,
    /// The screen, which it leaves to domain 0.
    pub screen: Option<VgaConsoleInfo>,
    /// UEFI's tables, likewise.
    pub efi: Option<Efi>,
    /// ACPI's tables.
    pub tables: Vec<AcpiTable>,
    /// What was decided about speculation.
    pub speculation: String,
}

/// What a report tells of a table.
#[derive(Clone, Copy, Debug)]
pub struct AcpiTable {
    /// Its four letters.
    pub signature: [u8; 4],
    /// How long it is.
    pub bytes: usize,
    /// The sum of its bytes: 0 if the firmware made no mistake.
    pub sum: u8,
}

static KEPT: Once<Kept> = Once::new();

/// Tells what the core keeps; once, at boot.
pub fn keep(kept: Kept) {
    KEPT.call_once(|| kept);
}

/// What was kept.
pub fn kept() -> Option<&'static Kept> {
    KEPT.get()
}

/// The screen as the loader left it, if there is one.
pub fn screen() -> Option<VgaConsoleInfo> {
    KEPT.get()?.screen
}

/// What UEFI left; nothing on a PC without.
pub fn efi() -> Option<&'static Efi> {
    KEPT.get()?.efi.as_ref()
}

/// Whether `mfn` has the registers of the HPET.
pub fn is_hpet(mfn: Mfn) -> bool {
    KEPT.get().is_some_and(|kept| kept.hpet == Some(mfn))
}

/// Whether interrupt line `gsi` is the core's own.
pub fn keeps_line(gsi: u32) -> bool {
    u64::from(gsi) < FIRST_IRQ
        || KEPT
            .get()
            .is_some_and(|kept| kept.irqs.contains(&u64::from(gsi)))
}

/// The machine's memory for domain 0: the firmware's map, and pages of interrupt controllers, so that it puts
/// no device there.
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

/// The last frame that the machine can address: bits above are reserved in page tables.
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
    let mut rights = dom.io_rights.lock();
    rights.ports.insert(0..=0xffff);
    rights.iomem.insert(0..=last_frame());
    rights.irqs.insert(FIRST_IRQ..=LAST_IRQ);
    for range in CORE_PORTS {
        rights.ports.remove(range);
    }
    let Some(kept) = KEPT.get() else { return };
    for range in &kept.ports {
        rights.ports.remove(range.clone());
    }
    for page in &kept.pages {
        let frame = page >> PAGE_SHIFT;
        rights.iomem.remove(frame..=frame);
    }
    for &irq in &kept.irqs {
        rights.irqs.remove(irq..=irq);
    }
}

/// Why the boot domain could not become domain 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// There is a domain 0.
    Exists,
    /// It has an event channel or a grant, which others know by its old id.
    InUse,
}

/// The boot domain, which runs on this CPU, is domain 0 from now on.
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
