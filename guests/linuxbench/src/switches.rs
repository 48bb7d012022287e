//! Context switches: a byte goes round a ring of processes, through pipes.

use crate::system::{Child, child};
use crate::window::timed;
use std::io::{self, PipeReader, PipeWriter, Read, Write};

/// One hop in a ring of 2 processes.
pub fn between_2(operations: u32) -> io::Result<u64> {
    hops(2, operations)
}

/// One hop in a ring of 16 processes.
pub fn between_16(operations: u32) -> io::Result<u64> {
    hops(16, operations)
}

fn hops(processes: u32, operations: u32) -> io::Result<u64> {
    let mut ring = Ring::new(processes)?;
    let rounds = operations.div_ceil(processes);
    let ticks = timed(|| (0..rounds).try_for_each(|_| ring.round()))?;
    ring.end()?;
    Ok(ticks)
}

/// This process and its children, connected in a ring.
struct Ring {
    input: PipeReader,
    /// Dropping it ends the ring; present until then.
    output: Option<PipeWriter>,
    others: Vec<Child>,
}

impl Ring {
    fn new(processes: u32) -> io::Result<Self> {
        let (input, output) = io::pipe()?;
        let mut ring = Self {
            input,
            output: Some(output),
            others: Vec::new(),
        };
        for _ in 1..processes {
            ring.add()?;
        }
        Ok(ring)
    }

    /// Inserts a process between the last one and this.
    fn add(&mut self) -> io::Result<()> {
        let (next, mut onward) = io::pipe()?;
        let process = child(|| {
            // The ring ends when its last writer is closed, so the child must not hold one.
            self.output = None;
            pass_on(&mut self.input, &mut onward)
        })?;
        self.others.push(process);
        self.input = next;
        Ok(())
    }

    fn round(&mut self) -> io::Result<()> {
        let output = self.output.as_mut().ok_or(io::ErrorKind::BrokenPipe)?;
        output.write_all(&[0])?;
        self.input.read_exact(&mut [0])
    }

    fn end(mut self) -> io::Result<()> {
        self.output = None;
        self.others.into_iter().try_for_each(Child::wait)
    }
}

/// Passes bytes on until the writer before it has closed.
fn pass_on(input: &mut PipeReader, output: &mut PipeWriter) -> io::Result<()> {
    let mut byte = [0];
    while input.read(&mut byte)? == 1 {
        output.write_all(&byte)?;
    }
    Ok(())
}
