//! Interrupt controllers and clocks: those of the machine, once, and those of each CPU.
#![expect(unsafe_code, reason = "makes windows on device registers")]

use alloc::vec::Vec;
use arrayvec::ArrayVec;
use log::{info, warn};

use super::acpi::Machine;
use super::acpi::madt::{self, Processor};
use super::memory::map_device;
use super::options::{self, Options};
use crate::arch::calibrate::Reference;
use crate::arch::ioapic::Trigger;
use crate::arch::ipi::Vector;
use crate::arch::lapic::{self, Mode};
use crate::arch::mmio::Window;
use crate::arch::msr::apic_base;
use crate::arch::{
    apic_timer, calibrate, cmos, cpu, fpu, ioapic, msr, paging, platform_clock, time,
};
use crate::console;
use crate::irq;
use crate::kit::{CpuId, MAX_CPUS, Maddr, Mfn, Once, PAGE_SIZE, Vaddr};
use crate::life::hardware_domain::Kept;

static PROCESSORS: Once<ArrayVec<Processor, MAX_CPUS>> = Once::new();

/// The APIC_BASE register of this CPU, as the firmware left it.
fn apic_base() -> u64 {
    msr::read(msr::nr::APIC_BASE)
}

/// Sets up the interrupt controllers that all CPUs share, and the mode of the local APICs.
///
/// # Errors
/// A sentence that says what is missing.
pub fn init(machine: &Machine, options: &Options) -> Result<(), &'static str> {
    ioapic::silence_pics();
    if apic_base() & apic_base::ENABLED == 0 {
        warn!("the firmware left the local APIC off; it is switched on");
    }
    let no_memory = "there is too little memory to map devices";
    PROCESSORS.call_once(|| machine.cpus.clone());
    let mode = lapic::Circumstances {
        wish: options.x2apic,
        offered: cpu::features().x2apic,
        on_already: apic_base() & apic_base::X2APIC != 0,
        hypervisor: cpu::features().hypervisor,
        highest_id: machine.cpus.iter().map(|cpu| cpu.id).max().unwrap_or(0),
    }
    .mode();
    let mapped = match mode {
        Mode::XApic => {
            map_device(machine.lapic, PAGE_SIZE as u64, paging::DEVICE).ok_or(no_memory)?
        }
        _ => Vaddr::default(),
    };
    lapic::set_mode(mode, machine.lapic, mapped);
    info!("local APICs in {} mode", mode.name());
    for found in &machine.ioapics {
        let at = map_device(found.at, PAGE_SIZE as u64, paging::DEVICE).ok_or(no_memory)?;
        // SAFETY: mapped for good just now; the MADT says that these are the registers.
        ioapic::add(
            unsafe { Window::new(at, PAGE_SIZE) },
            found.at,
            found.first_gsi,
        );
    }
    Ok(())
}

/// Starts system time. The TSC's rate is measured by the clock that the options name, if it moves; else CPUID states
/// it, or the best clock that moves measures it. The wall clock comes from the battery-backed clock.
///
/// # Errors
/// A sentence if no clock moves.
pub fn start_time(machine: &Machine, options: &Options) -> Result<(), &'static str> {
    let measure = |clock: &Reference| Some((clock.tsc_hz()?, clock.name()));
    let is_wanted = |clock: &&Reference| Some(clock.name()) == options.clock;
    let wanted = machine.clocks.iter().find(is_wanted).and_then(measure);
    let by_cpuid = || calibrate::tsc_hz_by_cpuid().map(|hz| (hz, "CPUID"));
    let by_clock = || machine.clocks.iter().find_map(measure);
    let found = wanted.or_else(by_cpuid).or_else(by_clock);
    let (hz, by) =
        found.ok_or("this machine has no clock that moves: neither HPET, ACPI PM timer nor PIT")?;
    // A test can make a test build use a wrong rate, in percent of the right one.
    let percent = super::smp::number_from_test("wrong-tsc-rate").unwrap_or(100);
    let hz = hz * percent.unsigned_abs() / 100;
    time::start(hz, cmos::seconds());
    info!(
        "time: TSC at {}.{:03} MHz by {by}",
        hz / 1_000_000,
        hz / 1000 % 1000
    );
    if machine.clocks.iter().any(|clock| is_wanted(&clock)) {
        time::set_unstable();
    }
    Ok(())
}

/// Chooses the source of system time, once all CPUs have been compared: the TSC if it can be trusted or the options
/// name it; else the platform clock that the options name, or the best one.
pub fn choose_clock(machine: &Machine, options: &Options) {
    let is_named = |clock: &&Reference| Some(clock.name()) == options.clock;
    if time::tsc_scale().stable || options.clock == Some(options::TSC) {
        return info!("time: the TSC is the clock");
    }
    let named = machine.clocks.iter().filter(is_named);
    let mut clocks = named.chain(&machine.clocks);
    match clocks.find(|clock| clock.can_run()) {
        Some(clock) => {
            platform_clock::use_clock(clock);
            info!(
                "time: the {} is the clock, by which TSCs are corrected",
                clock.name()
            );
        }
        None => warn!(
            "time: the TSC is the clock, and isn't invariant or differs between CPUs: without an HPET or ACPI PM timer, time runs wrong if its rate changes"
        ),
    }
}

/// Sets up the local APIC, the APIC timer and the FPU of this CPU.
pub fn init_cpu(cpu: CpuId) {
    let processors = PROCESSORS.get().map_or(&[][..], |cpus| cpus);
    lapic::init(cpu, |id| madt::nmi_pins(processors, id));
    apic_timer::init();
    fpu::init_cpu();
}

/// Measures the rate of the APIC timer. Called once, on the boot CPU.
pub fn calibrate_timer() {
    match apic_timer::calibrate() {
        Some(hz) => info!(
            "time: APIC timer at {}.{:03} MHz",
            hz / 1_000_000,
            hz / 1000 % 1000
        ),
        None => info!("time: APIC timer takes TSC values"),
    }
    apic_timer::init();
}

/// Makes the book of the interrupts that domains can use.
pub fn open_book(machine: &Machine, kept: &Kept) {
    let wires: Vec<(u32, Trigger)> = machine
        .overrides
        .iter()
        .map(|wire| (wire.gsi, wire.trigger))
        .collect();
    let own = kept.pages.iter().map(|page| Maddr(*page).mfn()).collect();
    irq::machine::open(&wires, own, map_table);
}

/// Maps a page of an MSI-X table for good.
fn map_table(page: Mfn) -> Option<Window> {
    let at = map_device(page.maddr(), PAGE_SIZE as u64, paging::DEVICE)?;
    // SAFETY: mapped for good just now; `irq::machine` only asks for pages outside of RAM.
    Some(unsafe { Window::new(at, PAGE_SIZE) })
}

/// Lets the serial port interrupt the boot CPU when there is input, from now on.
pub fn route_serial(machine: &Machine, options: &Options) {
    if let Some(irq) = options.serial.map(|s| s.irq).filter(|irq| *irq != 0) {
        let (gsi, trigger) = machine.isa(irq);
        let (vector, gate) = (Vector::Serial as u8, ioapic::Gate::Open);
        if ioapic::route(gsi, vector, CpuId(0), trigger, gate).is_none() {
            info!("console: no interrupt for the serial port; it is polled");
        }
    }
    console::stop_waiting();
}
