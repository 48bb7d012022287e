//! Hostile guests: each tries to break out and dies or is refused; the hypervisor and a neighbour live,
//! and all memory of the dead comes back.

use anyhow::{Result, ensure};
use xenlike_tests::scenario::{GUEST, SHORT, number_after, power_off, shell_with};
use xenlike_tests::session::Session;

fn free_frames(session: &mut Session) -> Result<u64> {
    number_after("free_frames", &session.succeed("info", SHORT)?)
}

/// Runs a hostile guest; afterwards `hello` still runs and no frame is lost.
fn survives(guest: &str) -> Result<()> {
    let config = format!("{guest}.cfg");
    let files = [guest, &config, "hello", "hello.cfg"];
    let mut session = shell_with(guest, &files)?;
    let before = free_frames(&mut session)?;
    session.send_line(&format!("create {config} -c"))?;
    let printed = session.read_until("^xenlike> ", GUEST)?;
    ensure!(
        !printed.contains(&format!("FAIL {guest}")),
        "the hypervisor let it: {printed}"
    );
    session.send_line("create hello.cfg -c")?;
    session.expect("^PASS hello$", GUEST)?;
    session.expect_prompt(SHORT)?;
    let after = free_frames(&mut session)?;
    ensure!(
        before == after,
        "frames lost: {before} free before, {after} after"
    );
    power_off(session)
}

macro_rules! hostile {
    ($($name:ident: $guest:literal;)*) => {$(
        #[test]
        #[ignore = "boots QEMU"]
        fn $name() -> Result<()> {
            survives($guest)
        }
    )*};
}

hostile! {
    random_calls: "randcall";
}
