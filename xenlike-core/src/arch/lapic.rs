//! The local APIC (APM vol. 2 chapter 16), accessed through its page (xAPIC) or by MSRs (x2APIC).
#![cfg_attr(target_os = "none", expect(unsafe_code, reason = "device registers"))]

use crate::kit::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};

use super::ioapic::Trigger as Wire;
use crate::kit::cell::PerCpu;
use crate::kit::{CpuId, MAX_CPUS, Maddr, Vaddr};

/// Registers by their offset in the page. In x2APIC mode, MSR 0x800 + offset / 16.
mod reg {
    pub const ID: u32 = 0x20;
    pub const VERSION: u32 = 0x30;
    pub const TPR: u32 = 0x80;
    pub const EOI: u32 = 0xb0;
    pub const SVR: u32 = 0xf0;
    pub const ISR: u32 = 0x100;
    pub const ESR: u32 = 0x280;
    #[cfg(target_os = "none")]
    pub const ICR_LOW: u32 = 0x300;
    #[cfg(target_os = "none")]
    pub const ICR_HIGH: u32 = 0x310;
    pub const LVT_CMCI: u32 = 0x2f0;
    pub const LVT_TIMER: u32 = 0x320;
    pub const LVT_THERMAL: u32 = 0x330;
    pub const LVT_PERF: u32 = 0x340;
    pub const LVT_LINT0: u32 = 0x350;
    pub const LVT_LINT1: u32 = 0x360;
    pub const LVT_ERROR: u32 = 0x370;
    pub const TIMER_INITIAL: u32 = 0x380;
    pub const TIMER_CURRENT: u32 = 0x390;
    pub const TIMER_DIVIDE: u32 = 0x3e0;
    /// AMD's extended space (APM vol. 2 §16.3.3): the number of further LVT entries, and the first one.
    pub const EXTENDED_FEATURE: u32 = 0x400;
    pub const EXTENDED_LVT: u32 = 0x500;
}

const LVT_MASKED: u32 = 1 << 16;
const LVT_LOW_ACTIVE: u32 = 1 << 13;
/// Version register bit: the APIC has AMD's extended space.
const EXTENDED_SPACE: u32 = 1 << 31;
/// The highest id that a device's message or an I/O APIC entry can address; 255 means all CPUs.
const MAX_DEVICE_ID: u32 = 254;
const LVT_NMI: u32 = 4 << 8;
#[cfg(target_os = "none")]
const ICR_PENDING: u32 = 1 << 12;
const ICR_ASSERT: u32 = 1 << 14;

/// How the CPUs' APICs are accessed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Mode {
    /// Not set up yet: nothing is sent.
    Off = 0,
    /// By loads and stores in the APIC's page.
    XApic = 1,
    /// By MSRs, with 32-bit APIC ids.
    X2Apic = 2,
}

impl Mode {
    /// The name that the manuals use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Off => "no",
            Self::XApic => "xAPIC",
            Self::X2Apic => "x2APIC",
        }
    }
}

/// The conditions that decide between the modes.
#[derive(Clone, Copy, Debug)]
pub struct Circumstances {
    /// The choice on the command line (`x2apic=`).
    pub wish: Option<bool>,
    /// Whether the CPU has x2APIC mode.
    pub offered: bool,
    /// Whether the firmware left it enabled; some machines can't leave it (SDM vol. 3 §11.12.5).
    pub on_already: bool,
    /// Whether there is a hypervisor below, for which MSR accesses are cheaper to emulate.
    pub hypervisor: bool,
    /// The highest APIC id of the CPUs that are to be used.
    pub highest_id: u32,
}

impl Circumstances {
    /// Chooses the mode. Without interrupt remapping, firmware and devices expect xAPIC mode, so x2APIC mode is used
    /// only for a reason.
    pub fn mode(self) -> Mode {
        let needed = self.highest_id > MAX_DEVICE_ID;
        let wanted = self.wish.unwrap_or(self.hypervisor || needed);
        if self.on_already || self.offered && wanted {
            Mode::X2Apic
        } else {
            Mode::XApic
        }
    }
}

static MODE: AtomicU8 = AtomicU8::new(0);
static PAGE: AtomicU64 = AtomicU64::new(0);
/// The machine address of the xAPIC page.
#[cfg(target_os = "none")]
static MACHINE_PAGE: AtomicU64 = AtomicU64::new(0);
/// The APIC id of each CPU; all ones until it is known.
static IDS: PerCpu<AtomicU32> = PerCpu::new([const { AtomicU32::new(u32::MAX) }; MAX_CPUS]);

/// The mode that all CPUs use.
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
            // SAFETY: `set_mode` got the address of the mapped page.
            Mode::XApic => unsafe { word(register).read_volatile() },
            Mode::X2Apic => msr::read(msr::nr::X2APIC_BASE + (register >> 4)) as u32,
            Mode::Off => 0,
        }
    }
    #[inline]
    pub fn write(register: u32, value: u32) {
        let mode = MODE.load(Ordering::Relaxed);
        if mode == Mode::XApic as u8 {
            // SAFETY: as for `read`; the registers affect interrupts only.
            unsafe { word(register).write_volatile(value) }
        } else if mode == Mode::X2Apic as u8 {
            // SAFETY: the register exists in this mode and affects interrupts only.
            unsafe { msr::write(msr::nr::X2APIC_BASE + (register >> 4), u64::from(value)) }
        }
    }
    /// Writes the interrupt command `low`, addressed to the APIC with id `to`.
    pub fn icr(to: u32, low: u32) {
        match mode() {
            Mode::X2Apic => {
                let value = u64::from(to) << 32 | u64::from(low);
                // SAFETY: fences and an interrupt command. Unlike in xAPIC mode, the write is not ordered after earlier
                // stores without the fences (SDM vol. 3 §11.12.3).
                unsafe {
                    core::arch::asm!("mfence", "lfence", options(nostack, preserves_flags));
                    msr::write(msr::nr::X2APIC_BASE + (reg::ICR_LOW >> 4), value);
                }
            }
            _ => {
                while read(reg::ICR_LOW) & ICR_PENDING != 0 {
                    core::hint::spin_loop();
                }
                // The write to the low half sends the command, so the high half goes first.
                write(reg::ICR_HIGH, to << 24);
                write(reg::ICR_LOW, low);
            }
        }
    }
    /// Enables this CPU's APIC in `mode`, with its page at the one address that is mapped for all CPUs. If the firmware
    /// left the APIC disabled, x2APIC mode can only be entered from xAPIC mode (SDM vol. 3 §11.12.5).
    pub fn enable(mode: Mode) {
        let old = msr::read(msr::nr::APIC_BASE);
        let page = match mode {
            Mode::XApic => MACHINE_PAGE.load(Ordering::Relaxed),
            _ => old & !0xfff,
        };
        let on = page | old & 0xfff | msr::apic_base::ENABLED;
        // SAFETY: the base is that of the mapped page, and the enable bit is set.
        unsafe { msr::write(msr::nr::APIC_BASE, on) };
        if mode == Mode::X2Apic {
            // SAFETY: as above, with x2APIC mode.
            unsafe { msr::write(msr::nr::APIC_BASE, on | msr::apic_base::X2APIC) };
        }
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

/// Sets the mode for all CPUs; where the xAPIC page is, and where it is mapped (used only in xAPIC mode).
pub fn set_mode(mode: Mode, page: Maddr, mapped: Vaddr) {
    #[cfg(target_os = "none")]
    MACHINE_PAGE.store(page.0, Ordering::Relaxed);
    let _ = page;
    PAGE.store(mapped.0, Ordering::Relaxed);
    MODE.store(mode as u8, Ordering::Release);
}

/// The LVT entries of this APIC except the error entry. Firmware may have left any of them unmasked.
fn local_vectors() -> impl Iterator<Item = u32> {
    let version = read(reg::VERSION);
    let last = version >> 16 & 0xff;
    let standard = [
        (reg::LVT_TIMER, 0),
        (reg::LVT_LINT0, 0),
        (reg::LVT_LINT1, 0),
        (reg::LVT_PERF, 4),
        (reg::LVT_THERMAL, 5),
        (reg::LVT_CMCI, 6),
    ];
    let extended = if version & EXTENDED_SPACE != 0 {
        (read(reg::EXTENDED_FEATURE) >> 16 & 0xff).min(4)
    } else {
        0
    };
    standard
        .into_iter()
        .filter(move |(_, needs)| last >= *needs)
        .map(|(register, _)| register)
        .chain((0..extended).map(|n| reg::EXTENDED_LVT + n * 16))
}

/// Enables this CPU's APIC. Everything is masked except the error interrupt and the NMIs, for which `nmi_pins` says how
/// LINT0 and LINT1 of the APIC with this id are wired. No pin is ExtINT, because the 8259s are silent.
pub fn init(cpu: CpuId, nmi_pins: impl Fn(u32) -> [Option<Wire>; 2]) {
    enable(mode());
    write(reg::TPR, 0);
    local_vectors().for_each(|register| write(register, read(register) | LVT_MASKED));
    // While SVR disables the APIC, its LVT entries read as masked, and can't be changed from that (SDM vol. 3
    // §11.4.7.2). So they are masked again once it is enabled.
    write(reg::SVR, 0x100 | super::ipi::Vector::Spurious as u32);
    local_vectors().for_each(|register| write(register, LVT_MASKED));
    for (pin, wire) in [reg::LVT_LINT0, reg::LVT_LINT1]
        .into_iter()
        .zip(nmi_pins(this_id()))
    {
        match wire {
            Some(wire) if wire.is_low_active() => write(pin, LVT_NMI | LVT_LOW_ACTIVE),
            Some(_) => write(pin, LVT_NMI),
            None => {}
        }
    }
    write(reg::ESR, 0);
    write(reg::LVT_ERROR, super::ipi::Vector::Error as u32);
    // An interrupt that the firmware left in service would block all of its priority and below.
    for word in (0..8).rev().map(|n| reg::ISR + n * 16) {
        for _ in 0..read(word).count_ones() {
            write(reg::EOI, 0);
        }
    }
    IDS.of(cpu).store(this_id(), Ordering::Release);
}

/// The APIC id of this CPU.
pub fn this_id() -> u32 {
    match mode() {
        Mode::X2Apic => read(reg::ID),
        _ => read(reg::ID) >> 24,
    }
}

/// The APIC id of `cpu`, or all ones if it has not been started.
pub fn id_of(cpu: CpuId) -> u32 {
    IDS.of(cpu).load(Ordering::Relaxed)
}

/// The APIC id for a device's interrupt to `cpu`: that of `cpu`, or if a device can't address it, that of the first
/// online CPU that it can. `None` if there is none.
pub fn device_target(cpu: CpuId) -> Option<u8> {
    let nameable = |cpu: CpuId| {
        u8::try_from(id_of(cpu))
            .ok()
            .filter(|id| u32::from(*id) <= MAX_DEVICE_ID)
    };
    nameable(cpu).or_else(|| super::percpu::online().iter().find_map(nameable))
}

/// Ends the service of the highest-priority interrupt in service.
#[inline]
pub fn eoi() {
    write(reg::EOI, 0);
}

/// Sends the interrupt `vector` to `cpu`.
#[inline]
pub fn send_fixed(cpu: CpuId, vector: u8) {
    icr(id_of(cpu), ICR_ASSERT | u32::from(vector));
}

/// Sends an NMI to `cpu`.
pub fn send_nmi(cpu: CpuId) {
    icr(id_of(cpu), ICR_ASSERT | LVT_NMI);
}

/// Sends INIT to the APIC with id `to`.
pub fn send_init(to: u32) {
    icr(to, ICR_ASSERT | 5 << 8);
}

/// Sends a start-up IPI: the CPU starts in real mode at page `page`.
pub fn send_startup(to: u32, page: u8) {
    icr(to, ICR_ASSERT | 6 << 8 | u32::from(page));
}

/// Whether `vector` is in service on this CPU: delivered and not acknowledged (ISR).
pub fn is_in_service(vector: u8) -> bool {
    read(reg::ISR + u32::from(vector / 32) * 16) >> (vector % 32) & 1 != 0
}

/// Reads the error status and clears it.
pub fn take_errors() -> u32 {
    write(reg::ESR, 0);
    read(reg::ESR)
}

/// The timer's registers, for [`super::apic_timer`].
pub(super) mod timer {
    use super::*;

    /// Lets the timer interrupt once: at the end of a count, or at a TSC value.
    pub fn set_lvt(deadline: Trigger) {
        let kind = match deadline {
            Trigger::Count => 0,
            Trigger::TscDeadline => 2 << 17,
        };
        write(reg::TIMER_DIVIDE, 0b1011); // divide by 1
        write(
            reg::LVT_TIMER,
            kind | super::super::ipi::Vector::Timer as u32,
        );
    }
    /// Masks the timer's interrupt; it counts nevertheless.
    pub fn mask() {
        write(reg::TIMER_DIVIDE, 0b1011);
        write(reg::LVT_TIMER, LVT_MASKED);
    }
    /// What the timer compares with its deadline.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub enum Trigger {
        /// A count of bus clocks.
        Count,
        /// The TSC, in TSC-deadline mode.
        TscDeadline,
    }
    /// Starts a count, in bus clocks; 0 stops the timer.
    pub fn set_count(count: u32) {
        write(reg::TIMER_INITIAL, count);
    }
    /// The part of the count that is left.
    pub fn count() -> u32 {
        read(reg::TIMER_CURRENT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn x2apic_mode_needs_a_reason() {
        let metal = Circumstances {
            wish: None,
            offered: true,
            on_already: false,
            hypervisor: false,
            highest_id: 254,
        };
        assert_eq!(metal.mode(), Mode::XApic);
        let reasons = [
            Circumstances {
                wish: Some(true),
                ..metal
            },
            Circumstances {
                on_already: true,
                wish: Some(false),
                ..metal
            },
            Circumstances {
                hypervisor: true,
                ..metal
            },
            Circumstances {
                highest_id: 255,
                ..metal
            },
        ];
        for reason in reasons {
            assert_eq!(reason.mode(), Mode::X2Apic, "{reason:?}");
        }
        for not in [
            Circumstances {
                hypervisor: true,
                wish: Some(false),
                ..metal
            },
            Circumstances {
                highest_id: 255,
                offered: false,
                ..metal
            },
        ] {
            assert_eq!(not.mode(), Mode::XApic, "{not:?}");
        }
    }

    /// An id that doesn't fit is never truncated to another CPU's.
    #[test]
    fn a_device_is_given_an_id_that_it_can_name() {
        let (near, far) = (CpuId(0), CpuId(1));
        crate::arch::percpu::set_online(CpuId(0));
        IDS.of(near).store(3, Ordering::Release);
        for id in [255, 256, 0x1_0003, u32::MAX] {
            IDS.of(far).store(id, Ordering::Release);
            assert_eq!(device_target(far), Some(3));
        }
        IDS.of(far).store(254, Ordering::Release);
        assert_eq!(device_target(far), Some(254));
    }
}
