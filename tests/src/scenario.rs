//! What most tests begin with: a medium with some files, a machine, the shell's prompt.

use crate::machine::Machine;
use crate::media::{Media, Module};
use crate::paths::{build, root};
use crate::session::Session;
use anyhow::{Result, bail, ensure};
use std::path::PathBuf;
use std::time::Duration;

/// Longest time from power-on to the shell's prompt. Emulated, on a busy machine.
pub const BOOT: Duration = Duration::from_secs(120);
/// Longest time for a command that only prints.
pub const SHORT: Duration = Duration::from_secs(30);
/// Longest time for a small guest's whole life.
pub const GUEST: Duration = Duration::from_secs(120);
/// Longest time for a Linux guest to get somewhere.
pub const LINUX: Duration = Duration::from_secs(300);

/// Finds a file that the standard image has too: a sample guest, a configuration, one of Debian's.
///
/// # Errors
/// When `scripts/build` did not make it.
pub fn find_file(name: &str) -> Result<PathBuf> {
    let folders = [
        build("guests"),
        root().join("guests/configs"),
        build("debian"),
    ];
    let mut paths = folders.iter().map(|folder| folder.join(name));
    match paths.find(|path| path.is_file()) {
        Some(path) => Ok(path),
        None => bail!("{name}: neither a built guest, nor a configuration, nor a Debian part"),
    }
}

/// A medium of the test build whose shell has these files.
///
/// # Errors
/// As [`find_file`].
pub fn media_with(files: &[&str]) -> Result<Media> {
    with_files(Media::test_build(), files)
}

/// The same of `build/xenlike` itself: for tests of what a user gets, or of how fast that is.
///
/// # Errors
/// As [`find_file`].
pub fn artefact_with(files: &[&str]) -> Result<Media> {
    with_files(Media::xenlike(), files)
}

fn with_files(mut media: Media, files: &[&str]) -> Result<Media> {
    for name in files {
        media = media.module(Module::file(name, find_file(name)?));
    }
    Ok(media)
}

/// Boots `media` on `machine` up to the shell's prompt.
///
/// # Errors
/// When the prompt doesn't come.
pub fn boot_to_prompt(name: &str, media: &Media, machine: &Machine) -> Result<Session> {
    let mut session = Session::boot(name, media, machine)?;
    session.expect_prompt(BOOT)?;
    Ok(session)
}

/// Boots the usual machine with these files up to the prompt.
///
/// # Errors
/// When a file is missing or the prompt doesn't come.
pub fn shell_with(name: &str, files: &[&str]) -> Result<Session> {
    boot_to_prompt(name, &media_with(files)?, &Machine::default())
}

/// The number behind `name` and a colon in what a command printed, as `info` does.
///
/// # Errors
/// When there is no such line.
pub fn number_after(name: &str, printed: &str) -> Result<u64> {
    for line in printed.lines() {
        if let Some((key, value)) = line.split_once(':')
            && key.trim() == name
        {
            let digits: String = value
                .trim()
                .chars()
                .take_while(char::is_ascii_digit)
                .collect();
            return Ok(digits.parse()?);
        }
    }
    bail!("no `{name}: NUMBER` in:\n{printed}")
}

/// Powers the machine off at the prompt and waits for its end. The test build audits itself before.
///
/// # Errors
/// When it stays on, or the audit finds something.
pub fn power_off(mut session: Session) -> Result<()> {
    session.audit()?;
    session.send_line("poweroff")?;
    session.expect_end(SHORT).map(drop)
}

/// Frames that nobody has, as the shell's `info` tells.
///
/// # Errors
/// When the shell does not tell.
pub fn free_frames(session: &mut Session) -> Result<u64> {
    number_after("free_frames", &session.succeed("info", SHORT)?)
}

/// As many frames are free as `before`.
///
/// # Errors
/// When they are not, or the shell does not tell.
pub fn no_frame_is_lost(session: &mut Session, before: u64) -> Result<()> {
    let after = free_frames(session)?;
    ensure!(
        before == after,
        "frames lost: {before} free before, {after} after"
    );
    Ok(())
}
