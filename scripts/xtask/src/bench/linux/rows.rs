//! The rows of `guests/linuxbench`, and their targets.

/// A row of the table.
#[derive(Debug)]
pub struct Row {
    /// Its name in the program's output.
    pub name: &'static str,
    /// What the row measures.
    pub what: &'static str,
    /// Maximum ratio of xenlike's figure to Xen's.
    pub target: f64,
}

/// The target for system calls and faults is a quarter less than Xen; no row may need more than Xen.
const FASTER: f64 = 0.75;
const AS_FAST: f64 = 1.0;

const fn row(name: &'static str, what: &'static str, target: f64) -> Row {
    Row { name, what, target }
}

/// All rows, in the order of the table.
pub const ROWS: [Row; 18] = [
    row("linux_syscall", "null system call (getppid)", FASTER),
    row(
        "linux_fault_anonymous",
        "page fault, anonymous memory",
        FASTER,
    ),
    row("linux_fault_shared", "page fault, shared file", FASTER),
    row(
        "linux_fault_copy",
        "page fault that copies, behind a fork",
        FASTER,
    ),
    row(
        "linux_fault_signal",
        "protection fault to a signal handler, twice mprotect",
        FASTER,
    ),
    row("linux_mmap", "mmap and munmap, 16 pages untouched", AS_FAST),
    row(
        "linux_mmap_touch",
        "mmap, 256 pages touched, munmap",
        AS_FAST,
    ),
    row(
        "linux_mprotect",
        "mprotect there and back, 16 pages",
        AS_FAST,
    ),
    row("linux_fork_exit", "fork, exit, wait", AS_FAST),
    row("linux_fork_exec", "fork, exec, exit, wait", AS_FAST),
    row(
        "linux_switch_2",
        "context switch, 2 processes, by pipe",
        AS_FAST,
    ),
    row(
        "linux_switch_16",
        "context switch, 16 processes, by pipe",
        AS_FAST,
    ),
    row("linux_signal", "signal to itself, handler", AS_FAST),
    row(
        "linux_pipe_self",
        "a byte into a pipe and out, no switch",
        AS_FAST,
    ),
    row(
        "linux_pipe_latency",
        "a byte to another process and back",
        AS_FAST,
    ),
    row(
        "linux_pipe_mebibyte",
        "a mebibyte from another process",
        AS_FAST,
    ),
    row("linux_file", "file made and deleted in tmpfs", AS_FAST),
    row(
        "linux_compile",
        "a load like a compiler's, by busybox",
        AS_FAST,
    ),
];
