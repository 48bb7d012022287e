//! The init process's part: file systems and programs before, the machine off behind.

use crate::system;
use std::fs;
use std::io;
use std::process::{self, Command};

fn is_init() -> bool {
    process::id() == 1
}

/// Mounts what the rows need and names busybox's programs, where nobody has.
pub fn prepare() -> io::Result<()> {
    if !is_init() {
        return Ok(());
    }
    for folder in ["/proc", "/tmp", "/bin"] {
        fs::create_dir_all(folder)?;
    }
    system::mount(c"proc", c"/proc")?;
    system::mount(c"tmpfs", c"/tmp")?;
    let mut install = Command::new("/bin/busybox");
    let status = install
        .args(["--install", "-s", "/bin"])
        .env("PATH", "/bin");
    if !status.status()?.success() {
        return Err(io::Error::other("busybox names no programs"));
    }
    Ok(())
}

/// Turns the machine off, as init.
pub fn leave() {
    if is_init() {
        system::power_off();
    }
}
