//! Debian's Linux as Dom0 with a Debian 13 root on a disk: systemd up to a login.

use anyhow::{Result, ensure};
use std::env;
use std::time::Duration;
use xenlike_tests::machine::Machine;
use xenlike_tests::media::{Media, Module};
use xenlike_tests::paths::build;
use xenlike_tests::scenario::find_file;
use xenlike_tests::session::Session;

/// Time limit for each step of systemd.
const SYSTEMD: Duration = Duration::from_secs(900);
const PROMPT: &str = "root@dom0:~# ";

fn run(session: &mut Session, line: &str) -> Result<String> {
    session.send_line(line)?;
    session.expect(r"\n", SYSTEMD)?;
    session.read_until(PROMPT, SYSTEMD)
}

/// Logs in on the hypervisor's console. All units are well and the toolstack works; systemd powers off.
///
/// On demand, since making the disk needs root: `XENLIKE_ROOT=1 scripts/test qemu debian_root`, after `scripts/run
/// --dom0 debian-root`, which makes it.
#[test]
#[ignore = "boots QEMU"]
fn debian_root_runs_systemd() -> Result<()> {
    if env::var_os("XENLIKE_ROOT").is_none() {
        return Ok(());
    }
    let disk = find_file("root.img")?;
    let drive = format!("file={},format=raw,if=virtio,snapshot=on", disk.display());
    let words = "console=hvc0 xenlike.root=/dev/vda";
    let media = Media::test_build()
        .module(Module::with_arguments(find_file("vmlinuz")?, words))
        .module(Module::with_arguments(build("dom0.img"), ""));
    let machine = Machine::default().with("-drive").with(&drive);
    let mut session = Session::boot("debian-root", &media, &machine)?;
    session.expect("dom0 login: ", SYSTEMD)?;
    session.send_line("root")?;
    session.expect(PROMPT, SYSTEMD)?;
    let state = run(&mut session, "systemctl is-system-running --wait")?;
    let failed = run(&mut session, "systemctl --failed --no-legend --no-pager")?;
    ensure!(state.contains("running"), "systemd is {state}:\n{failed}");
    let domains = run(&mut session, "xenlike list")?;
    ensure!(domains.contains("Domain-0"), "xenlike list: {domains}");
    session.send_line("systemctl poweroff")?;
    session.expect_end(SYSTEMD).map(drop)
}
