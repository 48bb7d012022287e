//! GRUB's PV build, which boots kernels from disks: a PV64 kernel that is linked at 0, with console and store.

use anyhow::{Result, ensure};
use xenlike_tests::scenario::{GUEST, SHORT, power_off, shell_with};

#[test]
#[ignore = "boots QEMU"]
fn gives_a_command_line_and_halts() -> Result<()> {
    let mut session = shell_with("grub", &["pvgrub", "pvgrub.cfg"])?;
    session.send_line("create pvgrub.cfg -c")?;
    session.expect("grub> ", GUEST)?;
    session.send("ls\r")?;
    let printed = session.read_until(r"\(proc\)", SHORT)?;
    ensure!(printed.contains("(memdisk)"), "no memdisk in:\n{printed}");
    session.expect("grub> ", SHORT)?;
    session.send("halt\r")?;
    session.expect(r"^\[pvgrub has powered off\]$", GUEST)?;
    session.expect_prompt(SHORT)?;
    power_off(session)
}
