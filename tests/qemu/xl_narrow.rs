//! Debian's `xl` with 32-bit PV guests, in Linux as Dom0.

use super::dom0::power_off;
use super::xl::{boot_with, row, run, shows, succeed};
use anyhow::{Result, ensure};
use std::fs;
use xenlike_tests::machine::Machine;
use xenlike_tests::paths::Scratch;
use xenlike_tests::scenario::find_file;
use xenlike_tests::session::Session;

/// Waits until the console of `guest` has shown these words.
fn says(session: &mut Session, guest: &str, words: &str) -> Result<()> {
    let log = format!("cat /var/log/xen/console/guest-{guest}.log");
    shows(session, &log, words)
}

/// The sample `suspend`, whose kernel is `kernel`, is saved and restored twice, and resumed in place once. In between it
/// checks itself. `xl` also pauses it and dumps its memory. Its end is by `xl shutdown`.
fn is_saved_and_restored(session: &mut Session, kernel: &str, vcpus: u32) -> Result<()> {
    let guest = format!("{kernel}-{vcpus}");
    let create = format!(
        r#"xl create -q hello-32.cfg 'name="{guest}"' 'kernel="{kernel}"' memory=16 vcpus={vcpus}"#
    );
    succeed(session, &create)?;
    says(session, &guest, "round 0: ")?;
    let first = row(session, &guest)?;
    for round in 1..=2 {
        let line = format!("xl save {guest} saved && xl restore saved && rm saved");
        let printed = succeed(session, &line)?;
        let words = format!("round {round}: domain ");
        says(session, &guest, &words).map_err(|error| error.context(printed))?;
    }
    let restored = row(session, &guest)?;
    ensure!(first.get(1) != restored.get(1), "{first:?} {restored:?}");
    ensure!(
        first.get(2..4) == restored.get(2..4),
        "{first:?} {restored:?}"
    );
    succeed(session, &format!("xl save -c {guest} saved && rm saved"))?;
    says(session, &guest, "vCPUs, Some(InPlace)")?;
    succeed(session, &format!("xl pause {guest}"))?;
    shows(session, &format!("xl list {guest}"), "p--")?;
    succeed(
        session,
        &format!("xl dump-core {guest} core && xl unpause {guest}"),
    )?;
    succeed(session, "[ $(wc -c < core) -gt 16000000 ] && rm core")?;
    succeed(session, &format!("xl shutdown -w {guest}"))?;
    says(session, &guest, "PASS suspend")
}

/// Domains are created, saved, restored, resumed in place, paused, dumped, shut down and destroyed.
#[test]
#[ignore = "boots QEMU"]
fn narrow_domains_are_saved_and_restored() -> Result<()> {
    let scratch = Scratch::new("xl-narrow")?;
    let mut files = Vec::new();
    for name in ["suspend", "suspend-32"] {
        files.push((name, fs::read(find_file(name)?)?));
    }
    let mut session = boot_with("xl-narrow", &scratch, &Machine::default(), &files)?;
    let hello = succeed(&mut session, "xl create -q -c hello-32.cfg")?;
    ensure!(hello.contains("PASS hello"), "{hello}");
    // The same sample with 64 bits shows what is a matter of the width.
    is_saved_and_restored(&mut session, "suspend", 2)?;
    is_saved_and_restored(&mut session, "suspend-32", 1)?;
    is_saved_and_restored(&mut session, "suspend-32", 2)?;
    succeed(&mut session, "xl create -q -p hello-32.cfg")?;
    succeed(&mut session, "xl destroy hello-32")?;
    let list = run(&mut session, "xl list")?;
    ensure!(
        !list.contains("suspend") && !list.contains("hello"),
        "{list}"
    );
    succeed(&mut session, "xl debug-keys a; sleep 2")?;
    let log = succeed(&mut session, "xl dmesg | tail -n 5")?;
    ensure!(log.contains("agree in"), "the audit:\n{log}");
    power_off(session)
}
