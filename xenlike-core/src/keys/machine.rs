//! What the debug keys show of the machine.

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

/// Each CPU tells what it runs, when it comes to it.
pub(super) fn registers() {
    for cpu in SCHED.online().iter() {
        work::raise(cpu, work::DUMP);
    }
}

/// Asks for an audit, which comes on the way out.
#[cfg(feature = "audit")]
pub(super) fn audit() {
    crate::arch::standstill::request();
}

/// How often each CPU was asked to flush its TLB.
pub(super) fn flushes() {
    for cpu in SCHED.online().iter() {
        info!("{cpu:?}: asked {} times", tlb::times_asked(cpu));
    }
}

/// What system time comes from.
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

/// Free and dirty frames.
pub(super) fn memory() {
    let mib = |frames: u64| frames >> 8;
    info!(
        "{} MiB, {} MiB free, of those {} MiB to be scrubbed",
        mib(alloc::total_frames()),
        mib(alloc::free_frames()),
        mib(alloc::dirty_frames())
    );
}

/// The machine as the core found it: CPUs, clock, memory map, tables, what was decided about speculation.
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

/// The log up to now, as far as the port sends it: each piece has a second.
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

/// How much of its main stack each CPU has used so far.
pub(super) fn stacks() {
    for cpu in percpu::online().iter() {
        if let Some(used) = percpu::stack_used(cpu) {
            info!("{cpu:?}: {used} of {} bytes", percpu::MAIN_STACK_BYTES);
        }
    }
}

/// Interrupts that domains have to do with.
pub(super) fn interrupts() {
    for index in 0.. {
        if !interrupt(index) {
            return;
        }
        breathe();
    }
}

/// One of them, if there are so many. The book is locked meanwhile.
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

/// Interrupts this CPU at each vector that exceptions have, too, and that an APIC takes.
#[cfg(feature = "audit")]
pub(super) fn odd_vectors() {
    for vector in 16..32 {
        lapic::send_fixed(percpu::this_cpu(), vector);
        halt::let_interrupts_in();
    }
}
