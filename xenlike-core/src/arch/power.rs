//! Halting, restarting and switching off the machine. The boot CPU does it on behalf of
//! the CPU that asks ([`super::stop`]).

use super::mmio::Window;
use super::port::{inb, inw, outb, outl, outw};
use super::{pci, stop};
use crate::kit::Once;
use crate::kit::atomic::{AtomicU8, AtomicU16, Ordering};

/// PM1 control (ACPI 6.5 §4.8.3.2.1): the sleep type, and the bit that enters the sleep state.
const SLEEP_TYPE: u16 = 7 << 10;
const SLEEP_ENABLE: u16 = 1 << 13;
/// PM1 status: the machine was woken up. Writing the bit clears it.
const WAKE_STATUS: u16 = 1 << 15;

/// The sleep control register of hardware-reduced machines (ACPI 6.5 §4.8.3.7): the bit that enters the sleep state.
/// And the bit of the sleep status register that reports a wake-up.
const REDUCED_ENABLE: u8 = 1 << 5;
const REDUCED_WAKE_STATUS: u8 = 1 << 7;

/// A byte-wide register, in any of the address spaces that ACPI knows.
#[derive(Clone, Copy, Debug)]
pub enum Register {
    /// A register at an I/O port.
    Port(u16),
    /// A register in memory, at the start of the window.
    Memory(Window),
    /// A register in the configuration space of a function on bus 0.
    Pci {
        /// The device and function number.
        devfn: u8,
        /// The offset in configuration space.
        at: u8,
    },
}

/// The registers that put the machine into a sleep state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SleepRegisters<R> {
    /// The PM1a and PM1b blocks (ACPI 6.5 §4.8.3).
    Pm1 {
        /// The ports of the control registers.
        control: [Option<u16>; 2],
        /// The ports of the status registers.
        status: [Option<u16>; 2],
    },
    /// The registers of a hardware-reduced machine.
    Reduced {
        /// The sleep control register.
        control: R,
        /// The sleep status register.
        status: Option<R>,
    },
}

/// What is known of ACPI's state S5, soft off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SoftOff<R = Register> {
    /// The registers by which it is entered.
    pub registers: SleepRegisters<R>,
    /// The sleep types for PM1a and PM1b, if the tables reveal them without executing AML.
    pub types: Option<[u8; 2]>,
}

/// A way to restart the machine (`reboot=` on the command line).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Method {
    /// ACPI's reset register, which [`set_reset`] sets.
    Acpi,
    /// The reset line of the keyboard controller.
    Keyboard,
    /// The chipset's reset control register, port 0xcf9.
    Pci,
    /// As [`Self::Pci`], with a power cycle.
    PowerCycle,
    /// An exception for which there are no handlers.
    TripleFault,
}

/// What becomes of the machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
enum End {
    Halt = 1,
    Off = 2,
    Restart = 3,
}

static SOFT_OFF: Once<SoftOff> = Once::new();
static RESET: Once<(Register, u8)> = Once::new();
static METHOD: AtomicU8 = AtomicU8::new(Method::Acpi as u8);
/// The sleep types that domain 0 passed, one word for each of PM1a and PM1b. [`SLEEP_ENABLE`] is set once it has.
static TOLD_TYPES: [AtomicU16; 2] = [const { AtomicU16::new(0) }; 2];
/// The [`End`] that was requested; 0 before.
static END: AtomicU8 = AtomicU8::new(0);

/// Sets how this machine is switched off. Called once, at boot.
pub fn set_off(off: SoftOff) {
    SOFT_OFF.call_once(|| off);
}

/// Sets the reset register of this machine and the value that resets it. Called once, at boot.
pub fn set_reset(register: Register, value: u8) {
    RESET.call_once(|| (register, value));
}

/// Sets the way to restart that is tried first.
pub fn set_method(method: Method) {
    METHOD.store(method as u8, Ordering::Relaxed);
}

/// Takes what domain 0, which executes AML, would write to PM1a and PM1b control for S5. It is used if the core has
/// found no sleep types itself. Returns whether the machine can be switched off now.
pub fn take_sleep_types(words: [u16; 2]) -> bool {
    for (told, word) in TOLD_TYPES.iter().zip(words) {
        told.store(word & SLEEP_TYPE | SLEEP_ENABLE, Ordering::Relaxed);
    }
    SOFT_OFF.get().is_some()
}

/// The PM1 control value for a sleep type; bits that have nothing to do with sleep are kept.
fn sleep_word(old: u16, kind: u8) -> u16 {
    old & !(SLEEP_TYPE | SLEEP_ENABLE) | u16::from(kind) << 10 & SLEEP_TYPE
}

/// The sleep control value for a sleep type on a hardware-reduced machine.
fn reduced_sleep_byte(kind: u8) -> u8 {
    (kind & 7) << 2 | REDUCED_ENABLE
}

/// The sleep types of S5: those that the core found, else domain 0's.
fn types(off: &SoftOff) -> Option<[u8; 2]> {
    let told = TOLD_TYPES
        .each_ref()
        .map(|word| word.load(Ordering::Relaxed));
    let told = (told[0] & SLEEP_ENABLE != 0).then(|| told.map(|word| (word >> 10 & 7) as u8));
    off.types.or(told)
}

/// Enters S5. Returns if the core doesn't know how, or if the machine stays on.
fn enter_off() {
    let Some(off) = SOFT_OFF.get() else { return };
    let Some(types) = types(off) else { return };
    match off.registers {
        SleepRegisters::Pm1 { control, status } => {
            for port in status.into_iter().flatten() {
                outw(port, WAKE_STATUS);
            }
            // First the types of both blocks, then the bit that acts on them (ACPI 6.5 §4.8.3.2).
            for enable in [0, SLEEP_ENABLE] {
                for (port, kind) in control.into_iter().zip(types) {
                    if let Some(port) = port {
                        outw(port, sleep_word(inw(port), kind) | enable);
                    }
                }
            }
        }
        SleepRegisters::Reduced { control, status } => {
            if let Some(status) = status {
                status.write(REDUCED_WAKE_STATUS);
            }
            control.write(reduced_sleep_byte(types[0]));
        }
    }
    stop::wait_until(|| false);
}

/// Tries one way to restart. Returns if the machine doesn't.
fn try_restart(method: u8) {
    const ACPI: u8 = Method::Acpi as u8;
    const KEYBOARD: u8 = Method::Keyboard as u8;
    const PCI: u8 = Method::Pci as u8;
    const POWER_CYCLE: u8 = Method::PowerCycle as u8;
    match method {
        ACPI => match RESET.get() {
            Some((register, value)) => register.write(*value),
            None => return,
        },
        KEYBOARD => {
            // The controller accepts a command once its input buffer is empty; this one pulses the reset line.
            stop::wait_until(|| inb(0x64) & 2 == 0);
            outb(0x64, 0xfe);
        }
        PCI | POWER_CYCLE => {
            // Bit 1 selects a hard reset, bit 3 a power cycle, and the rising edge of bit 2 performs it.
            let kind = if method == PCI { 0x02 } else { 0x0a };
            let kept = inb(0xcf9) & !0x0e;
            outb(0xcf9, kept | kind);
            outb(0xcf9, kept | kind | 0x04);
        }
        _ => real::triple_fault(),
    }
    stop::wait_until(|| false);
}

impl Register {
    /// Writes the register, while the machine ends.
    fn write(self, value: u8) {
        match self {
            Self::Port(port) => outb(port, value),
            Self::Memory(window) => window.write8(0, value),
            // Without the lock of `pci`, because a stopped CPU may hold it.
            Self::Pci { devfn, at } => {
                outl(0xcf8, pci::address(0, devfn, at));
                outb(0xcfc | u16::from(at & 3), value);
            }
        }
    }
}

/// All ways to restart: first the requested one, then in Xen's order ACPI and the keyboard controller, twice
/// each, and the remaining ones.
fn all_ways() -> impl Iterator<Item = u8> {
    use Method::{Acpi, Keyboard, Pci, TripleFault};
    let others = [Acpi, Keyboard, Acpi, Keyboard, Pci, TripleFault].map(|way| way as u8);
    core::iter::once(METHOD.load(Ordering::Relaxed)).chain(others)
}

/// Ends the machine. Returns if it keeps running.
fn perform(end: u8) {
    const OFF: u8 = End::Off as u8;
    const RESTART: u8 = End::Restart as u8;
    match end {
        OFF => enter_off(),
        RESTART => all_ways().for_each(try_restart),
        _ => {}
    }
}

/// The loop of the boot CPU once it is stopped: waits for the CPU that ends the machine,
/// and performs what that requests.
pub(super) fn act_when_told() -> ! {
    loop {
        match END.load(Ordering::SeqCst) {
            0 => core::hint::spin_loop(),
            end => {
                perform(end);
                halt_cpu()
            }
        }
    }
}

/// Lets the boot CPU end the machine, or does so here if this is the boot CPU or that doesn't answer. Returns
/// if the machine keeps running.
fn end(end: End) {
    END.store(end as u8, Ordering::SeqCst);
    if stop::boot_cpu_waits() && end != End::Halt {
        // As long as the boot CPU may take to try everything.
        (0..10).for_each(|_| stop::wait_until(|| false));
    }
    perform(end as u8);
}

/// Halts this CPU for good, and the boot CPU too if it is waiting.
pub fn halt() -> ! {
    end(End::Halt);
    halt_cpu()
}

/// Switches the machine off. Returns if the core doesn't know how, or if the machine stays on.
pub fn off() {
    end(End::Off);
}

/// Restarts the machine; halts this CPU if no way to restart works.
pub fn restart() -> ! {
    end(End::Restart);
    halt_cpu()
}

#[cfg(target_os = "none")]
mod real {
    #![expect(unsafe_code, reason = "hlt, cli and the last triple fault")]
    use core::arch::asm;

    /// Halts this CPU for good.
    pub fn halt_cpu() -> ! {
        loop {
            // SAFETY: nothing else runs on this CPU any more.
            unsafe { asm!("cli", "hlt", options(nomem, nostack)) };
        }
    }

    /// Resets the machine by an exception that can't be delivered.
    pub fn triple_fault() -> ! {
        let none = [0_u64; 2];
        // SAFETY: with an empty IDT the next exception ends in a reset.
        unsafe {
            asm!("lidt [{}]", "ud2", in(reg) &raw const none, options(noreturn));
        }
    }
}

#[cfg(not(target_os = "none"))]
mod real {
    /// Panics, which ends the test.
    pub fn halt_cpu() -> ! {
        panic!("halt")
    }
    /// Panics, which ends the test.
    pub fn triple_fault() -> ! {
        panic!("restart")
    }
}

pub use real::halt_cpu;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_that_are_not_about_sleep_stay() {
        for old in [0, 1, 0x0003, 0xffff, 0x2400] {
            for kind in 0..=u8::MAX {
                let new = sleep_word(old, kind);
                let ours = SLEEP_TYPE | SLEEP_ENABLE;
                assert_eq!(new & !ours, old & !ours);
                assert_eq!(new & ours, u16::from(kind & 7) << 10);
            }
        }
    }

    #[test]
    fn what_the_tables_say_goes_before_what_domain_0_says() {
        let mut off = SoftOff {
            registers: SleepRegisters::Pm1 {
                control: [None; 2],
                status: [None; 2],
            },
            types: None,
        };
        assert!(
            !take_sleep_types([5 << 10 | 1, 7 << 10]),
            "no port is known"
        );
        assert_eq!(types(&off), Some([5, 7]));
        off.types = Some([0, 0]);
        assert_eq!(types(&off), Some([0, 0]));
    }

    #[test]
    fn a_hardware_reduced_machine_has_its_sleep_type_elsewhere() {
        assert_eq!(reduced_sleep_byte(5), 0x34);
        assert_eq!(reduced_sleep_byte(0xff), 0x3c);
    }

    #[test]
    fn every_way_to_restart_is_tried() {
        let ways: std::vec::Vec<u8> = all_ways().collect();
        for way in [
            Method::Acpi,
            Method::Keyboard,
            Method::Pci,
            Method::TripleFault,
        ] {
            assert!(ways.contains(&(way as u8)));
        }
        assert_eq!(ways.last(), Some(&(Method::TripleFault as u8)));
    }
}
