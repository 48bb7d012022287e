//! The stop-watch: repeats an operation, takes the best round, prints one line.

#![expect(
    unsafe_code,
    reason = "reads the time-stamp counter, marks what is measured"
)]

use core::arch::{asm, global_asm};
use core::sync::atomic::{AtomicU64, Ordering};

use xenlike_rt::{args, println};

/// Repetitions of a cheap operation in one round.
const LOOPS: u64 = 1000;
/// Rounds; the best one counts.
const ROUNDS: u64 = 5;

/// Operations done between the marks.
static OPERATIONS: AtomicU64 = AtomicU64::new(0);

// A profiler counts the instructions that run between these two (see xtask's `bench profile`).
global_asm!(
    r#"
    .pushsection .text.marks, "ax", @progbits
    .global bench_measured_from
    bench_measured_from:
        ret
    .global bench_measured_to
    bench_measured_to:
        ret
    .popsection
    "#
);

/// The time-stamp counter.
pub fn tsc() -> u64 {
    // SAFETY: reading the counter has no effect.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// Is this row asked for?
pub fn wanted(name: &str) -> bool {
    args::value("only").is_none_or(|only| only == name)
}

/// How long `action`, which does `operations` operations, takes.
fn span(operations: u64, action: impl FnOnce()) -> u64 {
    OPERATIONS.fetch_add(operations, Ordering::Relaxed);
    // SAFETY: the function only returns, with all registers as they were.
    unsafe { asm!("call bench_measured_from") };
    let start = tsc();
    action();
    let end = tsc();
    // SAFETY: as above.
    unsafe { asm!("call bench_measured_to") };
    end.wrapping_sub(start)
}

/// Prints a figure.
fn print(name: &str, ticks: u64) {
    println!("bench {name} {ticks}");
}

/// Measures a cheap operation.
pub fn measure(name: &str, action: impl FnMut()) {
    repeat(name, LOOPS, action);
}

/// Measures an operation by rounds of `loops`.
pub fn repeat(name: &str, loops: u64, mut action: impl FnMut()) {
    batch(name, loops, || {
        for _ in 0..loops {
            action();
        }
    });
}

/// Measures an `action` that does `operations` operations by itself.
pub fn batch(name: &str, operations: u64, mut action: impl FnMut()) {
    if !wanted(name) {
        return;
    }
    let rounds = (0..ROUNDS).map(|_| span(operations, &mut action));
    print(name, rounds.min().unwrap_or_default() / operations);
}

/// Measures two operations that undo each other, each by its best single run of `loops`.
pub fn in_turn(
    [first, second]: [&str; 2],
    loops: u64,
    mut act: impl FnMut(),
    mut undo: impl FnMut(),
) {
    let (wants_first, wants_second) = (wanted(first), wanted(second));
    let (mut best_first, mut best_second) = (u64::MAX, u64::MAX);
    for _ in 0..if wants_first || wants_second {
        loops
    } else {
        0
    } {
        if wants_first {
            best_first = best_first.min(span(1, &mut act));
        } else {
            act();
        }
        if wants_second {
            best_second = best_second.min(span(1, &mut undo));
        } else {
            undo();
        }
    }
    if wants_first {
        print(first, best_first);
    }
    if wants_second {
        print(second, best_second);
    }
}

/// Takes the best of figures that `action` finds out by itself.
pub fn best_of(name: &str, loops: u64, mut action: impl FnMut() -> u64) {
    if !wanted(name) {
        return;
    }
    let mut best = u64::MAX;
    for _ in 0..loops {
        let mut found = 0;
        span(1, || found = action());
        best = best.min(found);
    }
    print(name, best);
}

/// Says how many operations a profile divides by.
pub fn report() {
    println!("bench operations {}", OPERATIONS.load(Ordering::Relaxed));
}
