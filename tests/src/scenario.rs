//! The common beginning of most tests: a medium with some files, a machine, the shell's prompt.

use crate::machine::Machine;
use crate::media::{Media, Module};
use crate::paths::{build, root};
use crate::session::Session;
use anyhow::{Result, bail, ensure};
use std::path::PathBuf;
use std::time::Duration;

/// Time limit from power-on to the shell's prompt, emulated on a busy host.
pub const BOOT: Duration = Duration::from_secs(120);
/// Time limit for a command that only prints.
pub const SHORT: Duration = Duration::from_secs(30);
/// Time limit for the whole life of a small guest.
pub const GUEST: Duration = Duration::from_secs(120);
/// Time limit for each step of a Linux guest.
pub const LINUX: Duration = Duration::from_secs(300);

/// Finds a file that is also in the standard image: a sample guest (`NAME-32` for 32 bits), a configuration, one of
/// Debian's kernels.
///
/// # Errors
/// If `scripts/build` hasn't made it.
pub fn find_file(name: &str) -> Result<PathBuf> {
    let folders = [
        build("guests"),
        root().join("guests/configs"),
        build("debian"),
    ];
    let narrow = name
        .strip_suffix("-32")
        .map(|name| build("guests32").join(name));
    let mut paths = folders.iter().map(|folder| folder.join(name)).chain(narrow);
    match paths.find(|path| path.is_file()) {
        Some(path) => Ok(path),
        None => bail!("{name}: neither a built guest, nor a configuration, nor a Debian part"),
    }
}

/// A medium of the test build whose shell has these files.
///
/// # Errors
/// As for [`find_file`].
pub fn media_with(files: &[&str]) -> Result<Media> {
    with_files(Media::test_build(), files)
}

/// Like [`media_with`], for `build/xenlike` itself: for tests of the released program or of its speed.
///
/// # Errors
/// As for [`find_file`].
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
/// If the prompt doesn't appear.
pub fn boot_to_prompt(name: &str, media: &Media, machine: &Machine) -> Result<Session> {
    let mut session = Session::boot(name, media, machine)?;
    session.expect_prompt(BOOT)?;
    Ok(session)
}

/// Boots the default machine with these files up to the prompt.
///
/// # Errors
/// If a file is missing or the prompt doesn't appear.
pub fn shell_with(name: &str, files: &[&str]) -> Result<Session> {
    boot_to_prompt(name, &media_with(files)?, &Machine::default())
}

/// The number after `name` and a colon in a command's output, such as that of `info`.
///
/// # Errors
/// If there is no such line.
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

/// Powers the machine off at the prompt and waits for its end. The test build audits itself first.
///
/// # Errors
/// If the machine stays on, or the audit finds something.
pub fn power_off(mut session: Session) -> Result<()> {
    session.audit()?;
    session.send_line("poweroff")?;
    session.expect_end(SHORT).map(drop)
}

/// Number of free frames, as shown by the shell's `info`.
///
/// # Errors
/// If the shell doesn't show it.
pub fn free_frames(session: &mut Session) -> Result<u64> {
    number_after("free_frames", &session.succeed("info", SHORT)?)
}

/// Checks that as many frames are free as `before`.
///
/// # Errors
/// If they are not, or the shell doesn't show it.
pub fn no_frame_is_lost(session: &mut Session, before: u64) -> Result<()> {
    let after = free_frames(session)?;
    ensure!(
        before == after,
        "frames lost: {before} free before, {after} after"
    );
    Ok(())
}
