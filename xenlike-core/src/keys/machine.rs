//! Debug keys that print the state of the machine.

use log::info;

use super::breathe;
#[cfg(feature = "audit")]
use crate::arch::halt;
use crate::arch::microcode::{Hardware, Registers};
use crate::arch::{cpu, lapic, percpu, platform_clock, time, tlb, work};
use crate::console;
use crate::domain::notify::SCHED;
use crate::irq::line::{Line, Source};
use crate::irq::machine::book;
use crate::kit;
use crate::life::hardware_domain;
use crate::mm::{alloc, memory_map};

/// Makes each CPU print the registers of what it runs, when it next handles its work.
pub(super) fn registers() {
    for cpu in SCHED.online().iter() {
        work::raise(cpu, work::DUMP);
    }
}

/// Requests an audit, which takes place on the exit path.
#[cfg(feature = "audit")]
pub(super) fn audit() {
    crate::arch::standstill::request();
}

/// Prints how often each CPU was asked to flush its TLB.
pub(super) fn flushes() {
    for cpu in SCHED.online().iter() {
        info!("{cpu:?}: asked {} times", tlb::times_asked(cpu));
    }
}

/// Prints the source of system time.
pub(super) fn clocks() {
    let scale = time::tsc_scale();
    let sort = if scale.stable {
        "invariant"
    } else {
        "not invariant"
    };
    info!(
        "clock: {}; TSC {} kHz, {sort}; system time {} ns",
        platform_clock::name().unwrap_or("TSC"),
        scale.khz,
        time::now_ns()
    );
}

/// Prints the numbers of free frames and of frames to be scrubbed.
pub(super) fn memory() {
    let mib = |frames: u64| frames >> 8;
    info!(
        "{} MiB, {} MiB free, of those {} MiB to be scrubbed",
        mib(alloc::total_frames()),
        mib(alloc::free_frames()),
        mib(alloc::dirty_frames())
    );
}

/// Prints what the core has found in the machine: CPUs, clock, memory map, ACPI's tables, and the
/// decision about speculation.
pub(super) fn report() {
    info!("command line: {}", kit::command_line());
    let own = Hardware.identity();
    let cpu::Signature {
        family,
        model,
        stepping,
    } = cpu::signature(own.signature);
    info!(
        "{:?} family {family:#x} model {model:#x} stepping {stepping:#x} microcode {:#x}",
        own.vendor, own.revision
    );
    for cpu in SCHED.online().iter() {
        info!("{cpu:?}: APIC id {}", lapic::id_of(cpu));
    }
    clocks();
    memory();
    for region in memory_map::get() {
        let end = region.start.saturating_add(region.bytes);
        info!(
            "map: {:#014x} to {end:#014x} kind {}",
            region.start, region.kind
        );
        breathe();
    }
    let Some(kept) = hardware_domain::kept() else {
        return;
    };
    for table in &kept.tables {
        let name = table.signature.escape_ascii();
        info!("ACPI: {name} {} bytes, sum {:#04x}", table.bytes, table.sum);
        breathe();
    }
    info!("speculation: {}", kept.speculation);
}

/// Sends the log to the serial port again, up to its present end. Gives up if the port takes longer than a
/// second for one piece.
pub(super) fn log() {
    const PATIENCE_NS: u64 = 1_000_000_000;
    let (mut at, end) = (0, console::ring_end());
    let mut piece = [0; 128];
    loop {
        let (start, count) = console::ring_read(at, &mut piece);
        let piece = piece.get(..count).unwrap_or_default();
        if piece.is_empty() || start >= end {
            return;
        }
        let until = time::now_ns().saturating_add(PATIENCE_NS);
        while !console::show_again(piece) {
            if time::now_ns() > until {
                return;
            }
            breathe();
        }
        at = start.saturating_add(count as u64);
    }
}

/// Prints how much of its main stack each CPU has used so far.
pub(super) fn stacks() {
    for cpu in percpu::online().iter() {
        if let Some(used) = percpu::stack_used(cpu) {
            info!("{cpu:?}: {used} of {} bytes", percpu::MAIN_STACK_BYTES);
        }
    }
}

/// Prints the interrupts that domains use.
pub(super) fn interrupts() {
    for index in 0.. {
        if !interrupt(index) {
            return;
        }
        breathe();
    }
}

/// Prints interrupt number `index` of the book. False if there are fewer. The book is locked meanwhile.
fn interrupt(index: usize) -> bool {
    let Some(book) = book() else { return false };
    let Some(line) = book.lines().get(index) else {
        return false;
    };
    info!("{}", Shown(line));
    for holder in &line.holders {
        let owes = if holder.owes_end { ", not ended" } else { "" };
        info!(
            "  for {:?} as {}, {:?}{owes}",
            holder.dom, holder.pirq, holder.port
        );
    }
    true
}

struct Shown<'a>(&'a Line);

impl core::fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let Self(line) = self;
        write!(
            f,
            "vector {:#x} to {:?}, {} times: ",
            line.vector, line.cpu, line.count
        )?;
        match line.source {
            Source::Line { gsi, trigger } => write!(f, "line {gsi}, {trigger:?}"),
            Source::Msi(msi, index) => write!(
                f,
                "MSI {index} of {:02x}:{:02x}.{}",
                msi.function.bus,
                msi.function.devfn >> 3,
                msi.function.devfn & 7
            ),
            Source::Msix(msix) => write!(
                f,
                "MSI-X {} of {:02x}:{:02x}.{}",
                msix.index,
                msix.function.bus,
                msix.function.devfn >> 3,
                msix.function.devfn & 7
            ),
        }
    }
}

/// Sends this CPU an interrupt at each vector that is an exception's and that an APIC accepts.
#[cfg(feature = "audit")]
pub(super) fn odd_vectors() {
    for vector in 16..32 {
        lapic::send_fixed(percpu::this_cpu(), vector);
        halt::let_interrupts_in();
    }
}
