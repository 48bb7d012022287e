//! The init process's part: file systems and programs before, the machine off behind.

use crate::system;
use std::fs;
use std::io;
use std::process::{self, Command};
use std::thread;
use std::time::Duration;

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

/// Linux goes on with its start (keys, tests of ciphers) while init runs: waits until it has nothing else to do.
pub fn calm() -> io::Result<()> {
    if !is_init() {
        return Ok(());
    }
    for _ in 0..LONGEST.as_secs() {
        let before = idle()?;
        thread::sleep(Duration::from_secs(1));
        if idle()? - before > NEARLY_ALL {
            return Ok(());
        }
    }
    Err(io::Error::other("Linux is always busy with something"))
}

/// Longest time until Linux must be idle.
const LONGEST: Duration = Duration::from_secs(60);
/// Of a second.
const NEARLY_ALL: f64 = 0.95;

/// Seconds that the CPUs were idle until now.
fn idle() -> io::Result<f64> {
    let times = fs::read_to_string("/proc/uptime")?;
    idle_in(&times).ok_or_else(|| io::Error::other("/proc/uptime says something else"))
}

fn idle_in(times: &str) -> Option<f64> {
    times.split_whitespace().nth(1)?.parse().ok()
}

/// Turns the machine off, as init.
pub fn leave() {
    if is_init() {
        system::power_off();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_time_is_the_second_number() {
        assert_eq!(idle_in("1234.50 17.25\n"), Some(17.25));
        assert_eq!(idle_in("1234.50"), None);
    }
}
