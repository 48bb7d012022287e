//! GNU Mach, Debian's PV builds for amd64 and i386: kernels of either width with the old `__xen_guest` string. They are
//! read, built and started, but end before they print anything. So does the amd64 build on Xen 4.20 (`cargo run -p xtask
//! -- oracle --guest guests/configs/gnumach.cfg`). The i386 build stores into an L2 that it has pinned, and panics. It
//! passes a pointer as the reason of its shutdown, which is therefore unknown.

use anyhow::Result;
use xenlike_tests::scenario::{GUEST, SHORT, power_off, shell_with};

#[test]
#[ignore = "boots QEMU"]
fn is_started_and_ends_as_on_xen() -> Result<()> {
    starts_and_ends("gnumach")
}

#[test]
#[ignore = "boots QEMU"]
fn narrow_is_started_and_ends() -> Result<()> {
    starts_and_ends("gnumach-32")
}

fn starts_and_ends(name: &str) -> Result<()> {
    let config = format!("{name}.cfg");
    let mut session = shell_with(&format!("mach-{name}"), &[name, &config])?;
    session.send_line(&format!("create {config} -c"))?;
    let ending = format!(r"^\[{name} has ended with the unknown code [0-9]+\]$");
    session.expect(&ending, GUEST)?;
    session.expect_prompt(SHORT)?;
    power_off(session)
}
