//! Stopping and restarting the machine.

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
