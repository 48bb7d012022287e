//! Rows about pipes: the time for a byte, and for a mebibyte.

use crate::system::child;
use crate::window::timed;
use std::io::{self, Read, Write};

/// Number of bytes written at a time.
const CHUNK: usize = 64 << 10;
const CHUNKS_OF_A_MEBIBYTE: u32 = 16;

/// One process writes a byte into a pipe and reads it.
pub fn alone(operations: u32) -> io::Result<u64> {
    let (mut input, mut output) = io::pipe()?;
    timed(|| {
        for _ in 0..operations {
            output.write_all(&[0])?;
            input.read_exact(&mut [0])?;
        }
        Ok(())
    })
}

/// A byte to another process, and one back.
pub fn there_and_back(operations: u32) -> io::Result<u64> {
    let (mut input, mut reply) = io::pipe()?;
    let (mut request, output) = io::pipe()?;
    let mut output = Some(output);
    let process = child(|| {
        output = None;
        let mut byte = [0];
        while request.read(&mut byte)? == 1 {
            reply.write_all(&byte)?;
        }
        Ok(())
    })?;
    let ticks = timed(|| {
        let output = output.as_mut().ok_or(io::ErrorKind::BrokenPipe)?;
        for _ in 0..operations {
            output.write_all(&[0])?;
            input.read_exact(&mut [0])?;
        }
        Ok(())
    });
    drop(output);
    process.wait()?;
    ticks
}

/// A mebibyte from another process.
pub fn mebibytes(operations: u32) -> io::Result<u64> {
    let (mut input, output) = io::pipe()?;
    let mut output = Some(output);
    let chunks = operations * CHUNKS_OF_A_MEBIBYTE;
    let process = child(|| {
        let data = [1; CHUNK];
        let mut output = output.take().ok_or(io::ErrorKind::BrokenPipe)?;
        (0..chunks).try_for_each(|_| output.write_all(&data))
    })?;
    drop(output);
    let ticks = timed(|| {
        let mut data = [0; CHUNK];
        (0..chunks).try_for_each(|_| input.read_exact(&mut data))
    });
    process.wait()?;
    ticks
}
