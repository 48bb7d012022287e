//! Runs other programs, with errors that name them.

use anyhow::{Context, Result, bail};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

/// Runs `command` on this terminal.
///
/// # Errors
/// If it doesn't start or fails.
pub fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| line(command))?;
    if !status.success() {
        bail!("{} failed ({status})", line(command));
    }
    Ok(())
}

/// Replaces this process by `command`, which then gets the signals and the terminal.
///
/// # Errors
/// If it doesn't start; otherwise this doesn't return.
pub fn become_command(command: &mut Command) -> Result<()> {
    Err(command.exec()).with_context(|| line(command))
}

/// Runs `command` and returns its standard output. Its standard error is shown if it fails.
///
/// # Errors
/// If it doesn't start or fails.
pub fn output(command: &mut Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| line(command))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{} failed ({}):\n{said}", line(command), output.status);
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A command that runs as root, by sudo if needed. Packages' scripts ask no questions.
///
/// # Errors
/// If there is no sudo.
pub fn as_root(program: &str) -> Result<Command> {
    let id = output(Command::new("id").arg("-u"))?;
    let mut command = if id.trim() == "0" {
        Command::new(program)
    } else if exists("sudo") {
        let mut sudo = Command::new("sudo");
        sudo.args(["env", "DEBIAN_FRONTEND=noninteractive", program]);
        sudo
    } else {
        bail!("{program} needs root or sudo");
    };
    command.env("DEBIAN_FRONTEND", "noninteractive");
    Ok(command)
}

/// Whether a program of that name can be started.
pub fn exists(program: &str) -> bool {
    std::env::var_os("PATH").is_some_and(|path| {
        std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
    })
}

fn line(command: &Command) -> String {
    let mut text = command.get_program().to_string_lossy().into_owned();
    for argument in command.get_args() {
        text.push(' ');
        text.push_str(&argument.to_string_lossy());
    }
    text
}
