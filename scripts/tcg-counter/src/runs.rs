//! Measures how long a CPU stays at some addresses: in ring 0, with interrupts off.

use crate::tally::TALLY;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

/// Maximum number of CPUs.
const CPUS: usize = 64;
/// Instructions between two samples.
const SAMPLE: u64 = 1000;
/// Maximum number of samples that are written, spread over the run.
const TOLD: usize = 40;

/// A translated block.
pub struct Piece {
    address: u64,
    instructions: u64,
    /// Whether it is at the measured addresses.
    inside: bool,
    ends_run: bool,
    begins: bool,
}

struct Run {
    instructions: u64,
    samples: Vec<u64>,
}

static RUNS: [Mutex<Run>; CPUS] = [const {
    Mutex::new(Run {
        instructions: 0,
        samples: Vec::new(),
    })
}; CPUS];
static BEGUN: AtomicBool = AtomicBool::new(false);

/// The properties of a block, if runs are measured.
pub fn piece(address: u64, instructions: u64) -> Option<&'static Piece> {
    let arguments = &TALLY.get()?.arguments;
    let measured = arguments.runs.as_ref()?;
    let block = address..address + 16 * instructions;
    Some(Box::leak(Box::new(Piece {
        address,
        instructions,
        inside: (measured.from..=measured.to).contains(&address),
        ends_run: arguments.ends.contains(&address),
        begins: arguments.from.is_some_and(|from| block.contains(&from)),
    })))
}

/// Records that a CPU executes a block.
pub fn executed(cpu: usize, piece: &Piece) {
    if piece.begins {
        BEGUN.store(true, Ordering::Relaxed);
    }
    let Some(run) = RUNS.get(cpu).filter(|_| BEGUN.load(Ordering::Relaxed)) else {
        return;
    };
    let mut run = run.lock().unwrap_or_else(PoisonError::into_inner);
    if !piece.inside || piece.ends_run {
        run.end();
    }
    if piece.inside {
        let before = run.instructions / SAMPLE;
        run.instructions += piece.instructions;
        if run.instructions / SAMPLE != before {
            run.samples.push(piece.address);
        }
    }
}

impl Run {
    fn end(&mut self) {
        let Some(tally) = TALLY.get() else { return };
        if self.instructions >= tally.arguments.least.max(1) {
            let mut line = format!("run {}", self.instructions);
            let step = self.samples.len().div_ceil(TOLD).max(1);
            for sample in self.samples.iter().step_by(step) {
                line.push_str(&format!(" {sample:#x}"));
            }
            line.push('\n');
            tally.write(&line);
        }
        self.instructions = 0;
        self.samples.clear();
    }
}
