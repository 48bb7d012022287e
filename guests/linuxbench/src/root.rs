//! The duties of the init process: file systems and programs before the measurement, powering off after it.

use crate::system;
use std::fs;
use std::io;
use std::process::{self, Command};
use std::thread;
use std::time::Duration;

fn is_init() -> bool {
    process::id() == 1
}

/// Mounts what the rows need and links busybox's programs, unless this isn't init.
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

/// Waits until Linux is idle: it continues its start (keys, tests of ciphers) while init runs.
pub fn calm() -> io::Result<()> {
    if !is_init() {
        return Ok(());
    }
    for _ in 0..MAX_WAIT.as_secs() {
        let before = idle()?;
        thread::sleep(Duration::from_secs(1));
        if idle()? - before > NEARLY_ALL {
            return Ok(());
        }
    }
    Err(io::Error::other("Linux is always busy with something"))
}

/// Maximum time until Linux must be idle.
const MAX_WAIT: Duration = Duration::from_secs(60);
/// Fraction of a second that counts as idle.
const NEARLY_ALL: f64 = 0.95;

/// Seconds that the CPUs have been idle since the start.
fn idle() -> io::Result<f64> {
    let times = fs::read_to_string("/proc/uptime")?;
    idle_in(&times).ok_or_else(|| io::Error::other("/proc/uptime says something else"))
}

fn idle_in(times: &str) -> Option<f64> {
    times.split_whitespace().nth(1)?.parse().ok()
}

/// Powers the machine off, if this is init.
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
