//! `scripts/run` as users and scripts call it.

use anyhow::{Context, Result, ensure};
use std::fs;
use std::io::{Read, Write};
use std::process::{Command, Output, Stdio};
use xenlike_tests::paths::{Scratch, build, root};

/// `scripts/run` with the present build.
fn command(arguments: &[&str]) -> Command {
    let mut run = Command::new("cargo");
    run.args([
        "run",
        "--quiet",
        "--package",
        "xtask",
        "--",
        "run",
        "--no-build",
    ])
    .args(arguments)
    .current_dir(root());
    run
}

fn run(arguments: &[&str]) -> Result<(Output, String)> {
    let output = command(arguments).output()?;
    let both = [&output.stdout[..], &output.stderr[..]].concat();
    let text = String::from_utf8_lossy(&both).into_owned();
    Ok((output, text))
}

/// A user's own configuration and kernel, in any folder; the console is left when the guest ends.
#[test]
#[ignore = "boots QEMU"]
fn boots_a_person_s_own_kernel() -> Result<()> {
    let scratch = Scratch::new("own")?;
    let (config, kernel) = (
        scratch.path().join("my.cfg"),
        scratch.path().join("my-kernel"),
    );
    fs::copy(build("guests/hello"), &kernel)?;
    fs::write(
        &config,
        "name = \"mine\"\nkernel = \"my-kernel\"\nmemory = 4\n",
    )?;
    let mut run = command(&["--cfg", "my.cfg", "--file", "my-kernel"]);
    run.args(["--exec", "create my.cfg --wait; create my.cfg -c; ls"]);
    let output = run.env("XENLIKE_CALLED_FROM", scratch.path()).output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.success(), "{said}");
    ensure!(said.matches("PASS hello").count() == 2, "{said}");
    ensure!(
        said.contains("hello.cfg"),
        "the usual files are there too:\n{said}"
    );
    Ok(())
}

/// When the time is over, the console of a guest that doesn't end is reported.
#[test]
#[ignore = "boots QEMU"]
fn a_console_that_does_not_end_is_named() -> Result<()> {
    let (output, said) = run(&["--exec", "create idle.cfg -c", "--limit", "60"])?;
    ensure!(!output.status.success(), "{said}");
    let sentence = "`create idle.cfg -c` has not ended (--limit is 60 s";
    ensure!(said.contains(sentence), "{said}");
    Ok(())
}

/// A line for Dom0's shell: only its output is printed, and its status is returned. Debian's xl is installed and
/// can create a domain.
#[test]
#[ignore = "boots QEMU"]
fn a_line_for_dom0_s_shell() -> Result<()> {
    let line = "xl create -q hello.cfg 'on_poweroff=\"preserve\"' && sleep 3 && xl list && xenlike list hello\nprintf 'a\\\\b'; exit 7";
    let (output, said) = run(&["--dom0", "debian", "--exec", line])?;
    ensure!(
        output.status.code() == Some(7),
        "{:?}: {said}",
        output.status
    );
    let printed = String::from_utf8_lossy(&output.stdout);
    ensure!(
        printed.starts_with("Name  ") && printed.ends_with("a\\b"),
        "{said}"
    );
    ensure!(printed.matches("\nhello  ").count() == 2, "{said}");
    Ok(())
}

/// Like `a_line_for_dom0_s_shell`, with Debian's root; on demand, as `debian_root_runs_systemd`.
#[test]
#[ignore = "boots QEMU"]
fn a_line_for_debian_root() -> Result<()> {
    if std::env::var_os("XENLIKE_ROOT").is_none() {
        return Ok(());
    }
    let (output, said) = run(&["--dom0", "debian-root", "--exec", "xenlike list; exit 7"])?;
    ensure!(
        output.status.code() == Some(7),
        "{:?}: {said}",
        output.status
    );
    ensure!(
        said.starts_with("Name  ") && said.contains("Domain-0"),
        "{said}"
    );
    Ok(())
}

/// With `--no-build`, the shell has the present guests, not those from when the image was made.
#[test]
#[ignore = "boots QEMU"]
fn the_shell_has_what_is_there() -> Result<()> {
    let name = format!("fresh-{}", std::process::id());
    let guest = build("guests").join(&name);
    fs::copy(build("guests/hello"), &guest)?;
    let mut qemu = command(&["--", "-no-reboot"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut output = qemu.stdout.take().context("its output")?;
    let (mut said, mut bytes) = (Vec::new(), [0; 4096]);
    let mut keys = None;
    while let Ok(count @ 1..) = output.read(&mut bytes) {
        said.extend_from_slice(bytes.get(..count).unwrap_or_default());
        if keys.is_none() && String::from_utf8_lossy(&said).contains("xenlike> ") {
            fs::remove_file(&guest)?;
            let input = keys.insert(qemu.stdin.take().context("its input")?);
            input.write_all(b"ls\rpoweroff\r")?;
            input.flush()?;
        }
    }
    qemu.wait()?;
    let said = String::from_utf8_lossy(&said).into_owned();
    ensure!(said.contains(&name), "{said}");
    Ok(())
}
