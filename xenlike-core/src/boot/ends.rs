//! For test builds only: ways to end the machine that a test requests by `test-end=` on the command line.
#![expect(unsafe_code, reason = "raises an exception")]

/// Whether the command line requests the end called `name`.
fn is_wanted(cmdline: &str, name: &str) -> bool {
    let wanted = |word: &str| word.strip_prefix("test-end=") == Some(name);
    cmdline.split_whitespace().any(wanted)
}

/// Exhausts the boot CPU's first stack.
pub fn use_up_stack(cmdline: &str) {
    if is_wanted(cmdline, "boot-stack") {
        core::hint::black_box(deeper(0));
    }
}

#[expect(unconditional_recursion, reason = "that is the test")]
#[inline(never)]
fn deeper(level: u64) -> u64 {
    let words = core::hint::black_box([level; 32]);
    deeper(level + 1) + words.iter().sum::<u64>()
}

/// Raises a machine check, which has a stack of its own.
#[inline(never)] // the backtrace must show it
pub fn machine_check(cmdline: &str) {
    if is_wanted(cmdline, "machine-check") {
        // SAFETY: doesn't return, because the handler panics.
        unsafe { core::arch::asm!("int 18") };
    }
}
