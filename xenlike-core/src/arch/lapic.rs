//! The local APIC, through its page (xAPIC) or its MSRs (x2APIC). APM vol. 2 chapter 16.
#![cfg_attr(target_os = "none", expect(unsafe_code, reason = "device registers"))]

use crate::kit::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};

use crate::kit::cell::PerCpu;
use crate::kit::{CpuId, MAX_CPUS, Vaddr};

/// Registers, by their offset in the page; an x2APIC's MSR is 0x800 + offset / 16.
mod reg {
    pub const ID: u32 = 0x20;
    pub const VERSION: u32 = 0x30;
    pub const TPR: u32 = 0x80;
    pub const EOI: u32 = 0xb0;
    pub const SVR: u32 = 0xf0;
    pub const ISR: u32 = 0x100;
    pub const IRR: u32 = 0x200;
    pub const ESR: u32 = 0x280;
    #[cfg(target_os = "none")]
    pub const ICR_LOW: u32 = 0x300;
    #[cfg(target_os = "none")]
    pub const ICR_HIGH: u32 = 0x310;
    pub const LVT_TIMER: u32 = 0x320;
    pub const LVT_THERMAL: u32 = 0x330;
    pub const LVT_PERF: u32 = 0x340;
    pub const LVT_LINT0: u32 = 0x350;
    pub const LVT_LINT1: u32 = 0x360;
    pub const LVT_ERROR: u32 = 0x370;
    pub const TIMER_INITIAL: u32 = 0x380;
    pub const TIMER_CURRENT: u32 = 0x390;
    pub const TIMER_DIVIDE: u32 = 0x3e0;
}

const LVT_MASKED: u32 = 1 << 16;
const LVT_NMI: u32 = 4 << 8;
#[cfg(target_os = "none")]
const ICR_PENDING: u32 = 1 << 12;
const ICR_ASSERT: u32 = 1 << 14;

/// How the CPUs' APICs are reached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Mode {
    /// Not yet: nothing is sent.
    Off = 0,
    /// Through the page.
    XApic = 1,
    /// Through MSRs.
    X2Apic = 2,
}

static MODE: AtomicU8 = AtomicU8::new(0);
static PAGE: AtomicU64 = AtomicU64::new(0);
/// APIC ids of the CPUs.
static IDS: PerCpu<AtomicU32> = PerCpu::new([const { AtomicU32::new(u32::MAX) }; MAX_CPUS]);

/// The mode in use.
pub fn mode() -> Mode {
    match MODE.load(Ordering::Relaxed) {
        1 => Mode::XApic,
        2 => Mode::X2Apic,
        _ => Mode::Off,
    }
}

#[cfg(target_os = "none")]
mod access {
    use super::*;
    use crate::arch::msr;

    fn word(register: u32) -> *mut u32 {
        (PAGE.load(Ordering::Relaxed) + u64::from(register)) as *mut u32
    }
    #[inline]
    pub fn read(register: u32) -> u32 {
        match mode() {
            // SAFETY: `init` got the address of the mapped page.
            Mode::XApic => unsafe { word(register).read_volatile() },
            Mode::X2Apic => msr::read(msr::nr::X2APIC_BASE + (register >> 4)) as u32,
            Mode::Off => 0,
        }
    }
    #[inline]
    pub fn write(register: u32, value: u32) {
        let mode = MODE.load(Ordering::Relaxed);
        if mode == Mode::XApic as u8 {
            // SAFETY: as `read`; the registers affect interrupts only.
            unsafe { word(register).write_volatile(value) }
        } else if mode == Mode::X2Apic as u8 {
            // SAFETY: likewise.
            unsafe { msr::write(msr::nr::X2APIC_BASE + (register >> 4), u64::from(value)) }
        }
    }
    /// Sends what `low` says to the APIC with this id.
    pub fn icr(to: u32, low: u32) {
        match mode() {
            Mode::X2Apic => {
                let value = u64::from(to) << 32 | u64::from(low);
                // An x2APIC's registers don't order earlier stores (SDM vol. 3 §11.12.3).
                // SAFETY: fences and an interrupt command.
                unsafe {
                    core::arch::asm!("mfence", "lfence", options(nostack, preserves_flags));
                    msr::write(msr::nr::X2APIC_BASE + (reg::ICR_LOW >> 4), value);
                }
            }
            _ => {
                while read(reg::ICR_LOW) & ICR_PENDING != 0 {
                    core::hint::spin_loop();
                }
                write(reg::ICR_HIGH, to << 24);
                write(reg::ICR_LOW, low);
            }
        }
    }
    /// Turns this CPU's APIC on in `mode`.
    pub fn enable(mode: Mode) {
        let bits = if mode == Mode::X2Apic {
            3 << 10
        } else {
            1 << 11
        };
        let old = msr::read(msr::nr::APIC_BASE);
        // SAFETY: keeps the page's address, sets the enable bits.
        unsafe { msr::write(msr::nr::APIC_BASE, old | bits) };
    }
}

#[cfg(not(target_os = "none"))]
mod access {
    use super::Mode;
    pub fn read(_register: u32) -> u32 {
        0
    }
    pub fn write(_register: u32, _value: u32) {}
    pub fn icr(_to: u32, _low: u32) {}
    pub fn enable(_mode: Mode) {}
}
use access::{enable, icr, read, write};

/// Sets the mode for all CPUs, and where the page is mapped (used in xAPIC mode alone).
pub fn set_mode(mode: Mode, page: Vaddr) {
    PAGE.store(page.0, Ordering::Relaxed);
    MODE.store(mode as u8, Ordering::Release);
}

/// Turns on this CPU's APIC with everything masked but the error interrupt and LINT1's NMI.
pub fn init(cpu: CpuId) {
    enable(mode());
    write(reg::TPR, 0);
    for lvt in [reg::LVT_TIMER, reg::LVT_LINT0] {
        write(lvt, LVT_MASKED);
    }
    let entries = read(reg::VERSION) >> 16 & 0xff;
    if entries >= 4 {
        write(reg::LVT_PERF, LVT_MASKED);
    }
    if entries >= 5 {
        write(reg::LVT_THERMAL, LVT_MASKED);
    }
    write(reg::LVT_LINT1, LVT_NMI);
    write(reg::SVR, 0x100 | super::ipi::Vector::Spurious as u32);
    write(reg::ESR, 0);
    write(reg::LVT_ERROR, super::ipi::Vector::Error as u32);
    // What the firmware left in service would block everything of its priority.
    for word in (0..8).rev().map(|n| reg::ISR + n * 16) {
        for _ in 0..read(word).count_ones() {
            write(reg::EOI, 0);
        }
    }
    IDS.of(cpu).store(this_id(), Ordering::Release);
}

/// This CPU's APIC id.
pub fn this_id() -> u32 {
    match mode() {
        Mode::X2Apic => read(reg::ID),
        _ => read(reg::ID) >> 24,
    }
}

/// The APIC id of `cpu`.
pub fn id_of(cpu: CpuId) -> u32 {
    IDS.of(cpu).load(Ordering::Relaxed)
}

/// Ends the interrupt of the highest priority in service.
#[inline]
pub fn eoi() {
    write(reg::EOI, 0);
}

/// Sends an interrupt to one CPU.
#[inline]
pub fn send_fixed(cpu: CpuId, vector: u8) {
    icr(id_of(cpu), ICR_ASSERT | u32::from(vector));
}

/// Sends an NMI to one CPU.
pub fn send_nmi(cpu: CpuId) {
    icr(id_of(cpu), ICR_ASSERT | LVT_NMI);
}

/// Sends INIT to the APIC with id `to`.
pub fn send_init(to: u32) {
    icr(to, ICR_ASSERT | 5 << 8);
}

/// Sends a start-up IPI: the CPU starts in real mode at page `page` (below 256).
pub fn send_startup(to: u32, page: u8) {
    icr(to, ICR_ASSERT | 6 << 8 | u32::from(page));
}

/// Whether `vector` waits to be delivered to this CPU.
pub fn is_requested(vector: u8) -> bool {
    read(reg::IRR + u32::from(vector / 32) * 16) >> (vector % 32) & 1 != 0
}

/// Whether this CPU has been interrupted with `vector` and has not acknowledged it.
pub fn is_in_service(vector: u8) -> bool {
    read(reg::ISR + u32::from(vector / 32) * 16) >> (vector % 32) & 1 != 0
}

/// The error status, cleared.
pub fn take_errors() -> u32 {
    write(reg::ESR, 0);
    read(reg::ESR)
}

/// The timer's registers, for [`super::apic_timer`].
pub(super) mod timer {
    use super::*;

    /// One shot down from a count, or at a TSC value.
    pub fn set_lvt(deadline: Trigger) {
        let kind = match deadline {
            Trigger::Count => 0,
            Trigger::TscDeadline => 2 << 17,
        };
        write(reg::TIMER_DIVIDE, 0b1011); // by 1
        write(
            reg::LVT_TIMER,
            kind | super::super::ipi::Vector::Timer as u32,
        );
    }
    /// No interrupt from the timer; it counts.
    pub fn mask() {
        write(reg::TIMER_DIVIDE, 0b1011);
        write(reg::LVT_TIMER, LVT_MASKED);
    }
    /// What the timer counts.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub enum Trigger {
        /// Bus clocks.
        Count,
        /// The TSC.
        TscDeadline,
    }
    /// Starts the count; 0 stops it.
    pub fn set_count(count: u32) {
        write(reg::TIMER_INITIAL, count);
    }
    /// What is left of the count.
    pub fn count() -> u32 {
        read(reg::TIMER_CURRENT)
    }
}
