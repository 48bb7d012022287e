//! Rows about system calls, processes and signals.

use crate::system::{self, child};
use crate::window::timed;
use std::hint::black_box;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// With this argument, the program ends at once.
pub const NOTHING: &str = "--nothing";

/// A null system call, `getppid`.
pub fn null_system_call(operations: u32) -> io::Result<u64> {
    timed(|| {
        for _ in 0..operations {
            black_box(system::parent());
        }
        Ok(())
    })
}

/// Forks a process that ends at once, and waits for its end.
pub fn fork_exit(operations: u32) -> io::Result<u64> {
    timed(|| {
        for _ in 0..operations {
            child(|| Ok(()))?.wait()?;
        }
        Ok(())
    })
}

/// Forks a process that executes this static program, which ends at once.
pub fn fork_exec(operations: u32) -> io::Result<u64> {
    let mut command = Command::new("/proc/self/exe");
    command.arg(NOTHING);
    timed(|| {
        for _ in 0..operations {
            child(|| Err(command.exec()))?.wait()?;
        }
        Ok(())
    })
}

/// A signal to the process itself, with its handler.
pub fn signal(operations: u32) -> io::Result<u64> {
    system::on_signal()?;
    timed(|| {
        for _ in 0..operations {
            system::signal()?;
        }
        Ok(())
    })
}
