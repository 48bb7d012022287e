//! GNU Mach, Debian's PV builds for amd64 and i386: kernels of either width with the old `__xen_guest` string.

use anyhow::Result;
use xenlike_tests::scenario::{GUEST, SHORT, power_off, shell_with};

#[test]
#[ignore = "boots QEMU"]
fn boots_to_the_end_of_its_messages() -> Result<()> {
    boots("gnumach")
}

#[test]
#[ignore = "boots QEMU"]
fn narrow_boots_to_the_end_of_its_messages() -> Result<()> {
    boots("gnumach-32")
}

fn boots(name: &str) -> Result<()> {
    let config = format!("{name}.cfg");
    let mut session = shell_with(&format!("mach-{name}"), &[name, &config])?;
    session.send_line(&format!("create {config} -c"))?;
    session.expect("(?i)^.*gnu ?mach.*$", GUEST)?;
    session.send("\x1d")?;
    session.expect_prompt(SHORT)?;
    power_off(session)
}
