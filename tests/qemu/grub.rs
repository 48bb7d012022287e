//! GRUB's PV builds, which boot kernels from disks: PV kernels of either width that are linked at 0, with console and
//! store.

use anyhow::{Result, ensure};
use xenlike_tests::scenario::{GUEST, SHORT, power_off, shell_with};

#[test]
#[ignore = "boots QEMU"]
fn gives_a_command_line_and_halts() -> Result<()> {
    uses_the_command_line("pvgrub")
}

#[test]
#[ignore = "boots QEMU"]
fn narrow_gives_a_command_line_and_halts() -> Result<()> {
    uses_the_command_line("pvgrub-32")
}

fn uses_the_command_line(name: &str) -> Result<()> {
    let config = format!("{name}.cfg");
    let mut session = shell_with(&format!("grub-{name}"), &[name, &config])?;
    session.send_line(&format!("create {config} -c"))?;
    session.expect("grub> ", GUEST)?;
    session.send("ls\r")?;
    let printed = session.read_until(r"\(proc\)", SHORT)?;
    ensure!(printed.contains("(memdisk)"), "no memdisk in:\n{printed}");
    session.expect("grub> ", SHORT)?;
    session.send("halt\r")?;
    session.expect(&format!(r"^\[{name} has powered off\]$"), GUEST)?;
    session.expect_prompt(SHORT)?;
    power_off(session)
}
