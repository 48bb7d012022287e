//! GNU Mach, Debian's PV build for amd64: a PV64 kernel with the old `__xen_guest` string.

use anyhow::Result;
use xenlike_tests::scenario::{GUEST, SHORT, power_off, shell_with};

#[test]
#[ignore = "boots QEMU"]
fn boots_to_the_end_of_its_messages() -> Result<()> {
    let mut session = shell_with("mach", &["gnumach", "gnumach.cfg"])?;
    session.send_line("create gnumach.cfg -c")?;
    session.expect("(?i)^.*gnu ?mach.*$", GUEST)?;
    session.send("\x1d")?;
    session.expect_prompt(SHORT)?;
    power_off(session)
}
