//! The end: what the core prints when it has met one of its own bugs, and what it does then.
#![expect(unsafe_code, reason = "switches to the stack for panics")]

use crate::kit::atomic::{AtomicBool, Ordering};
use core::fmt::Write;
use core::panic::PanicInfo;

use super::{info, memory, stack, symbols};
use crate::arch::frame::TrapFrame;
use crate::arch::{percpu, power, stop};
use crate::console;

/// Whether to halt instead of restarting (`noreboot`).
pub static NO_REBOOT: AtomicBool = AtomicBool::new(false);
static PANICKING: AtomicBool = AtomicBool::new(false);

/// The number of addresses in a backtrace.
const MAX_FRAMES: usize = 24;

macro_rules! say {
    ($($arg:tt)*) => { console::panic_print(format_args!("{}\n", format_args!($($arg)*))) };
}

#[panic_handler]
fn on_panic(info: &PanicInfo<'_>) -> ! {
    first_only();
    let here = 0_u64;
    let subject = (info, &raw const here as u64);
    // SAFETY: `first_only` lets a single CPU get here, once.
    unsafe { stack::switch_for_panic(&subject, report_panic) }
}

extern "sysv64" fn report_panic((info, rsp): &(&PanicInfo<'_>, u64)) -> ! {
    stop::stop_others();
    say!("");
    say!(
        "xenlike: panic on {:?}: {}",
        percpu::this_cpu(),
        info.message()
    );
    if let Some(place) = info.location() {
        say!("at {}:{}", place.file(), place.line());
    }
    backtrace(*rsp);
    finish()
}

/// Panics because of an exception in the core's own code, with the registers in `frame`.
pub fn trapped(frame: &TrapFrame, cr2: u64) -> ! {
    first_only();
    // SAFETY: `first_only` lets a single CPU get here, once.
    unsafe { stack::switch_for_panic(&(frame, cr2), report_trap) }
}

extern "sysv64" fn report_trap((f, cr2): &(&TrapFrame, u64)) -> ! {
    stop::stop_others();
    say!("");
    say!(
        "xenlike: panic on {:?}: exception {} ({}), error {:#x}",
        percpu::this_cpu(),
        f.vector,
        name(f.vector),
        f.error
    );
    say!("{f}\ncr2 {cr2:016x}, rip in {}", symbols::Place(f.rip));
    backtrace(f.rsp);
    finish()
}

/// Halts a second CPU that panics, and a CPU that panics while it panics: their reports would only disturb the first.
fn first_only() {
    if PANICKING.swap(true, Ordering::SeqCst) {
        power::halt_cpu();
    }
}

fn finish() -> ! {
    if NO_REBOOT.load(Ordering::Relaxed) {
        say!("Stopped ('noreboot'). Reset the machine by hand.");
        power::halt()
    }
    say!("The machine restarts.");
    power::restart()
}

/// Prints words that look like return addresses, from `rsp` to the end of its stack.
fn backtrace(rsp: u64) {
    if info::get().and_then(|i| i.symbols).is_none() {
        say!("(no symbol table)");
    }
    let text = memory::text();
    // A return address is never a function's first instruction.
    let calls = percpu::stack_words(rsp).filter(|w| text.contains(w) && !symbols::is_start(*w));
    say!("Return addresses on the stack (some may be stale):");
    for word in calls.take(MAX_FRAMES) {
        say!("  {word:016x} {}", symbols::Place(word));
    }
}

/// The name of an exception (APM vol. 2 §8.2).
fn name(vector: u32) -> &'static str {
    match vector {
        0 => "divide error",
        1 => "debug",
        2 => "NMI",
        3 => "breakpoint",
        4 => "overflow",
        5 => "bound range",
        6 => "invalid opcode",
        7 => "device not available",
        8 => "double fault",
        10 => "invalid TSS",
        11 => "segment not present",
        12 => "stack",
        13 => "general protection",
        14 => "page fault",
        16 => "x87 error",
        17 => "alignment check",
        18 => "machine check",
        19 => "SIMD error",
        _ => "unexpected",
    }
}

/// Prints why this machine can't run the hypervisor, and halts.
pub fn refuse(sentence: &str) -> ! {
    let mut text = arrayvec::ArrayString::<256>::new();
    let _ = write!(text, "xenlike can't run here: {sentence}.");
    say!("{text}");
    power::halt()
}
