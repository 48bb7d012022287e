//! Stopping, restarting and switching off the machine.

use crate::kit::Once;

/// The ports and values of ACPI's state S5: PM1a and PM1b control (ACPI 6 §4.8.3.2).
#[derive(Clone, Copy, Debug)]
pub struct SoftOff {
    /// The control ports.
    pub ports: [Option<u16>; 2],
    /// The sleep type for each.
    pub types: [u8; 2],
}

static SOFT_OFF: Once<SoftOff> = Once::new();

/// Tells how this machine is switched off; once, at boot.
pub fn set_off(off: SoftOff) {
    SOFT_OFF.call_once(|| off);
}

/// The control ports by which the machine can be switched off: the core's alone.
pub fn off_ports() -> impl Iterator<Item = u16> {
    SOFT_OFF
        .get()
        .into_iter()
        .flat_map(|off| off.ports)
        .flatten()
}

/// Switches the machine off, if it is known how; else stops it.
pub fn off() -> ! {
    const SLEEP_ENABLE: u16 = 1 << 13;
    if let Some(off) = SOFT_OFF.get() {
        for (port, kind) in off.ports.iter().zip(off.types) {
            if let Some(port) = *port {
                crate::arch::port::outw(port, u16::from(kind) << 10 | SLEEP_ENABLE);
            }
        }
    }
    halt()
}

#[cfg(target_os = "none")]
mod real {
    #![expect(unsafe_code, reason = "hlt, cli and the last triple fault")]
    use core::arch::asm;

    use crate::arch::port::{inb, outb};
    use crate::arch::{lapic, percpu};

    /// Stops this CPU for good.
    pub fn halt() -> ! {
        loop {
            // SAFETY: nothing runs on this CPU any more.
            unsafe { asm!("cli", "hlt", options(nomem, nostack)) };
        }
    }

    /// Makes the other CPUs stop where they are: an NMI reaches them whatever they do, and its
    /// handler halts when a panic is under way.
    pub fn stop_others() {
        let me = percpu::this_cpu();
        for cpu in percpu::online().without(me).iter() {
            lapic::send_init(lapic::id_of(cpu));
        }
    }

    /// Restarts the machine: reset control register, keyboard controller, triple fault.
    pub fn restart() -> ! {
        outb(0xcf9, 0x02);
        outb(0xcf9, 0x06);
        pause();
        for _ in 0..0x10000 {
            if inb(0x64) & 2 == 0 {
                break;
            }
        }
        outb(0x64, 0xfe);
        pause();
        let none = [0_u64; 2];
        // SAFETY: an empty IDT turns the next exception into a reset.
        unsafe {
            asm!("lidt [{}]", "ud2", in(reg) &raw const none, options(noreturn));
        }
    }

    fn pause() {
        for _ in 0..1_000_000 {
            core::hint::spin_loop();
        }
    }

    /// Waits for an interrupt with interrupts on, then turns them off again: the idle loop's step.
    #[inline]
    pub fn wait_for_interrupt() {
        // SAFETY: an interrupt arrives between `sti; hlt` and `cli`, on this stack, by the IDT.
        unsafe { asm!("sti", "hlt", "cli", options(nostack)) };
    }
}

#[cfg(not(target_os = "none"))]
mod real {
    /// Ends the test.
    pub fn halt() -> ! {
        panic!("halt")
    }
    /// There are none.
    pub fn stop_others() {}
    /// Ends the test.
    pub fn restart() -> ! {
        panic!("restart")
    }
    /// Interrupts come at once.
    pub fn wait_for_interrupt() {}
}

pub use real::{halt, restart, stop_others, wait_for_interrupt};
