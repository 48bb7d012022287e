//! Measures the performance of a Linux process: system calls, faults, switches, signals, pipes, files.
//!
//! Alone in an initramfs, it is the init process (`rdinit=/bin/linuxbench -- only=ROW`). It prints a line `bench ROW
//! NUMBER` for each row, with the TSC ticks of one operation, and powers off.

mod files;
mod memory;
mod pipes;
mod process;
mod root;
mod switches;
mod system;
mod window;

use std::env;
use std::io;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

/// Performs this many operations; returns the ticks that they took.
type Run = fn(u32) -> io::Result<u64>;

/// Name, number of operations in a batch, function that runs them.
const ROWS: [(&str, u32, Run); 18] = [
    ("linux_syscall", 10_000, process::null_system_call),
    ("linux_fork_exit", 50, process::fork_exit),
    ("linux_fork_exec", 25, process::fork_exec),
    ("linux_switch_2", 2000, switches::between_2),
    ("linux_switch_16", 4000, switches::between_16),
    ("linux_fault_anonymous", 1024, memory::anonymous_faults),
    ("linux_fault_shared", 1024, memory::shared_faults),
    ("linux_fault_copy", 512, memory::copying_faults),
    ("linux_fault_signal", 1000, memory::faults_to_a_handler),
    ("linux_mmap", 1000, memory::map_and_unmap),
    ("linux_mmap_touch", 20, memory::map_touch_and_unmap),
    ("linux_mprotect", 1000, memory::protect),
    ("linux_signal", 2000, process::signal),
    ("linux_pipe_self", 5000, pipes::alone),
    ("linux_pipe_latency", 2000, pipes::there_and_back),
    ("linux_pipe_mebibyte", 4, pipes::mebibytes),
    ("linux_file", 1000, files::create_and_delete),
    ("linux_compile", 1, files::compile),
];

/// Batches of a row. The least time is printed, since the timer disturbed that batch least.
const BATCHES: u32 = 3;

fn main() -> ExitCode {
    let words: Vec<String> = env::args().skip(1).collect();
    if words.iter().any(|word| word == process::NOTHING) {
        return ExitCode::SUCCESS;
    }
    let only = words.iter().find_map(|word| word.strip_prefix("only="));
    let done = root::prepare()
        .and_then(|()| root::calm())
        .and_then(|()| measure(only));
    match &done {
        Ok(()) => println!("PASS linuxbench"),
        Err(error) => println!("FAIL linuxbench: {error}"),
    }
    root::leave();
    if done.is_ok() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn measure(only: Option<&str>) -> io::Result<()> {
    for (name, operations, run) in ROWS {
        if only.is_some_and(|wanted| wanted != name) {
            continue;
        }
        // Another domain may still print the previous row.
        thread::sleep(Duration::from_millis(500));
        // The first run is not counted, since touching memory for the first time costs more.
        run(operations)?;
        let mut least = u64::MAX;
        for _ in 0..BATCHES {
            least = least.min(run(operations)?);
        }
        println!("bench {name} {}", least / u64::from(operations));
        if only.is_some() {
            println!("bench operations {}", (BATCHES + 1) * operations);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{BATCHES, ROWS};

    #[test]
    fn rows_run_and_take_time() {
        // These two start programs: this one, which isn't the test binary, and busybox's.
        let others = ["linux_fork_exec", "linux_compile"];
        for (name, _, run) in ROWS.iter().filter(|row| !others.contains(&row.0)) {
            let ticks = run(BATCHES).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert!(ticks > 0, "{name}");
        }
    }
}
