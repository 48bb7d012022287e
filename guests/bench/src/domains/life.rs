//! The life of a small domain: created, built, started, destroyed.

use super::children::{Child, Nursery};
use crate::meter::{self, Best, tsc};
use xenlike_rt::hyper;

const ROWS: [&str; 4] = [
    "domain_create",
    "domain_build",
    "domain_start",
    "domain_destroy",
];
const LIVES: usize = 5;

/// Measures all rows of this module.
pub fn measure(nursery: &mut Nursery) {
    if !ROWS.iter().any(|row| meter::wanted(row)) {
        return;
    }
    let [mut create, mut build, mut start, mut destroy] = ROWS.map(Best::of);
    for _ in 0..LIVES {
        let id = create.time(|| nursery.create());
        let child = build.time(|| nursery.build(id, "idle"));
        let before = tsc();
        nursery.start(child);
        start.note(first_instruction(child).wrapping_sub(before));
        destroy.time(|| nursery.destroy(child));
    }
    create.print();
    build.print();
    start.print();
    destroy.print();
}

/// The child's time-stamp counter at its first instruction, which it prints.
fn first_instruction(child: Child) -> u64 {
    loop {
        hyper::yield_now();
        let said = child.said();
        let mut lines = said.lines();
        let number = lines.find_map(|line| line.strip_prefix("bench entry_tsc "));
        // The line is complete once the next one has begun, or it has a newline.
        if let Some(number) = number.filter(|_| said.ends_with('\n')) {
            return number.trim().parse().expect("a number");
        }
    }
}
