//! `scripts/run --exec`: runs a few commands instead of a terminal.

use super::{Dom0, Options};
use anyhow::{Context, Result, bail};
use std::time::Duration;
use std::{fs, process};
use xenlike_tests::media::Module;
use xenlike_tests::paths::Scratch;
use xenlike_tests::session::Session;

/// Runs commands in the shell: it runs a file named `autoexec`, reports each command's status, and powers off.
pub(super) fn in_shell(options: &Options, commands: &str, scratch: &Scratch) -> Result<()> {
    let lines: Vec<&str> = commands
        .split([';', '\n'])
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    if lines.is_empty() {
        bail!("--exec: no command given");
    }
    let script = scratch.path().join("autoexec");
    fs::write(&script, lines.join("\n") + "\n")?;
    let media = options.shell_media()?.and(&options.append);
    let media = media.module(Module::file("autoexec", script));
    let mut session = Session::boot("run", &media, &options.machine())?;
    let limit = Duration::from_secs(options.limit);

    let boot = session.read_until("^xenlike> ", limit)?;
    if options.verbose {
        print!("{boot}");
    }
    let mut failed = 0;
    for line in &lines {
        let printed = session
            .read_until(r"^\[exec\] status ", limit)
            .with_context(|| too_long(line, options))?;
        let status = session.expect(r"\d+\n", limit)?;
        print!("> {}", printed.trim_start_matches("xenlike> "));
        if status.trim() != "0" {
            eprintln!("error: `{line}` failed");
            failed += 1;
        }
    }
    // Most machines power off; otherwise the end of the session ends QEMU.
    let _ = session.expect_end(Duration::from_secs(5));
    session.kill().context("QEMU")?;
    match failed {
        0 => Ok(()),
        count => bail!("{count} of {} commands failed", lines.len()),
    }
}

/// Runs a line in Dom0's shell as root; prints its output and returns its status.
pub(super) fn in_dom0(options: &Options, dom0: Dom0, line: &str) -> Result<()> {
    let media = dom0.media().and(&options.append);
    let mut session = Session::boot("run", &media, &options.machine())?;
    let limit = Duration::from_secs(options.limit);
    let mut boot = String::new();
    if dom0 == Dom0::DebianRoot {
        boot += &session.read_until("login: ", limit)?;
        session.send_line("root")?;
    }
    boot += &session.read_until("# $", limit)?;
    if options.verbose {
        print!("{boot}");
    }
    // The line is sent after echo was disabled, and read without a line editor. The quotes distinguish the answer
    // from the echo of the request.
    session.send_line(
        "stty -echo; echo \"[exec]\" ready; read -r line; sh -c \"$(printf %b \"$line\")\"; printf '\\n[exec] %s\\n' $?",
    )?;
    session.expect(r"^\[exec\] ready\n", limit)?;
    session.send(&format!("{}\n", one_line(line)))?;
    let printed = session
        .read_until(r"\n\[exec\] ", limit)
        .with_context(|| too_long(line, options))?;
    let status = session.expect(r"\d+", limit)?;
    print!("{printed}");
    session.kill().context("QEMU")?;
    match status.trim().parse() {
        Ok(0) => Ok(()),
        Ok(status) => {
            eprintln!("error: `{line}` ended with status {status}");
            process::exit(status)
        }
        Err(_) => bail!("`{line}` ended with status {status}"),
    }
}

/// Why a command may not have ended, for the error message.
fn too_long(line: &str, options: &Options) -> String {
    format!(
        "`{line}` has not ended (--limit is {} s; a console is left when its domain ends)",
        options.limit
    )
}

/// Encodes a text on one line, which `printf %b` decodes.
fn one_line(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_kept() {
        assert_eq!(
            one_line("if true\nthen printf 'a\\n'; fi"),
            r"if true\nthen printf 'a\\n'; fi"
        );
    }
}
