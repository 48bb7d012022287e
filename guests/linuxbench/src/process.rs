//! System calls, processes, signals.

use crate::system::{self, child};
use crate::window::timed;
use std::hint::black_box;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// The argument with which this program ends at once.
pub const NOTHING: &str = "--nothing";

/// `getppid`.
pub fn null_system_call(operations: u32) -> io::Result<u64> {
    timed(|| {
        for _ in 0..operations {
            black_box(system::parent());
        }
        Ok(())
    })
}

/// A process that ends at once, and its end waited for.
pub fn fork_exit(operations: u32) -> io::Result<u64> {
    timed(|| {
        for _ in 0..operations {
            child(|| Ok(()))?.wait()?;
        }
        Ok(())
    })
}

/// A process that starts this static program again, which ends at once.
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

/// A signal to itself, and its handler.
pub fn signal(operations: u32) -> io::Result<u64> {
    system::on_signal()?;
    timed(|| {
        for _ in 0..operations {
            system::signal()?;
        }
        Ok(())
    })
}
