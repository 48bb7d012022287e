//! The stop-watch: repeats an operation, takes the best round, and prints a line.

#![expect(
    unsafe_code,
    reason = "reads the time-stamp counter, marks what is measured"
)]

use core::arch::{asm, global_asm};
use core::sync::atomic::{AtomicU64, Ordering};

use xenlike_rt::{args, hyper, println};

use crate::width;

/// Repetitions of a cheap operation in one round.
const LOOPS: u64 = 1000;
/// Number of rounds, of which the best counts.
const ROUNDS: u64 = 5;

/// Operations performed between the marks.
static OPERATIONS: AtomicU64 = AtomicU64::new(0);

// The profiler counts the instructions that run between these two functions (see xtask's `bench profile`).
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

/// Reads the time-stamp counter.
pub fn tsc() -> u64 {
    // SAFETY: reading the counter has no effect.
    unsafe { width::rdtsc() }
}

/// Gives the hypervisor time to finish work that the boot left: freeing the boot domain's
/// resources, starting new domains.
pub fn settle() {
    for _ in 0..1000 {
        hyper::yield_now();
    }
}

/// Whether the command line asks for this row.
pub fn wanted(name: &str) -> bool {
    args::value("only").is_none_or(|only| only.split(',').any(|it| it == name))
}

/// Measures the ticks of `action`, which performs `operations` operations.
fn span(operations: u64, action: impl FnOnce()) -> u64 {
    OPERATIONS.fetch_add(operations, Ordering::Relaxed);
    // SAFETY: the function only returns, with all registers unchanged.
    unsafe { asm!("call bench_measured_from") };
    let start = tsc();
    action();
    let end = tsc();
    // SAFETY: as above.
    unsafe { asm!("call bench_measured_to") };
    end.wrapping_sub(start)
}

/// Prints a row's figure.
fn print(name: &str, ticks: u64) {
    println!("bench {name} {ticks}");
}

/// Measures a cheap operation.
pub fn measure(name: &str, action: impl FnMut()) {
    repeat(name, LOOPS, action);
}

/// Measures an operation in rounds of `loops` repetitions.
pub fn repeat(name: &str, loops: u64, mut action: impl FnMut()) {
    batch(name, loops, || {
        for _ in 0..loops {
            action();
        }
    });
}

/// Measures an `action` that performs `operations` operations itself.
pub fn batch(name: &str, operations: u64, mut action: impl FnMut()) {
    if !wanted(name) {
        return;
    }
    let rounds = (0..ROUNDS).map(|_| span(operations, &mut action));
    print(name, rounds.min().unwrap_or_default() / operations);
}

/// The best time of a row so far.
pub struct Best {
    name: &'static str,
    wanted: bool,
    ticks: u64,
}

impl Best {
    /// A row without a time yet.
    pub fn of(name: &'static str) -> Self {
        Self {
            name,
            wanted: wanted(name),
            ticks: u64::MAX,
        }
    }

    /// Performs `action`, and measures it if the row is wanted.
    pub fn time<R>(&mut self, action: impl FnOnce() -> R) -> R {
        if !self.wanted {
            return action();
        }
        let mut result = None;
        self.note(span(1, || result = Some(action())));
        result.expect("done")
    }

    /// Records a time that was measured elsewhere.
    pub fn note(&mut self, ticks: u64) {
        self.ticks = self.ticks.min(ticks);
    }

    /// Prints the row, if it is wanted.
    pub fn print(self) {
        if self.wanted {
            print(self.name, self.ticks);
        }
    }
}

/// Measures two operations that undo each other. Each row is the best of `loops` single runs.
pub fn in_turn(
    [first, second]: [&'static str; 2],
    loops: u64,
    mut act: impl FnMut(),
    mut undo: impl FnMut(),
) {
    if !wanted(first) && !wanted(second) {
        return;
    }
    let (mut first, mut second) = (Best::of(first), Best::of(second));
    for _ in 0..loops {
        first.time(&mut act);
        second.time(&mut undo);
    }
    first.print();
    second.print();
}

/// Takes the best of the figures that `action` returns.
pub fn best_of(name: &'static str, loops: u64, mut action: impl FnMut() -> u64) {
    if !wanted(name) {
        return;
    }
    let mut best = Best::of(name);
    for _ in 0..loops {
        let mut found = 0;
        span(1, || found = action());
        best.note(found);
    }
    best.print();
}

/// Prints the number of operations by which a profile is divided.
pub fn report() {
    println!("bench operations {}", OPERATIONS.load(Ordering::Relaxed));
}
