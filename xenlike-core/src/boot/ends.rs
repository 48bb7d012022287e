//! Test builds alone: ways to the end that a test asks for by `test-end=` on the command line.
#![expect(unsafe_code, reason = "raises an exception")]

/// Whether the command line asks for the end called `name`.
fn is_wanted(cmdline: &str, name: &str) -> bool {
    let wanted = |word: &str| word.strip_prefix("test-end=") == Some(name);
    cmdline.split_whitespace().any(wanted)
}

/// Uses up the boot CPU's first stack.
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

/// A machine check, which has a stack of its own.
#[inline(never)] // the backtrace is to show it
pub fn machine_check(cmdline: &str) {
    if is_wanted(cmdline, "machine-check") {
        // SAFETY: never comes back: the handler panics.
        unsafe { core::arch::asm!("int 18") };
    }
}
