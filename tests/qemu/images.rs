//! Broken files cause one clear message that names the file and the fault, and the shell continues.

use anyhow::{Result, ensure};
use std::fs;
use std::path::PathBuf;
use xenlike_tests::machine::Machine;
use xenlike_tests::media::{Media, Module};
use xenlike_tests::paths::Scratch;
use xenlike_tests::scenario::{
    GUEST, SHORT, boot_to_prompt, find_file, free_frames, no_frame_is_lost, power_off,
};

/// Broken kernels and configurations, each named after its fault.
fn broken_files(scratch: &Scratch) -> Result<Vec<(String, PathBuf)>> {
    let kernel = fs::read(find_file("vmlinuz")?)?;
    let hello = fs::read(find_file("hello")?)?;
    let half = |bytes: &[u8]| bytes[..bytes.len() / 2].to_vec();
    let mut flipped = kernel.clone();
    for byte in flipped.iter_mut().skip(kernel.len() / 2).take(64) {
        *byte ^= 0x5a;
    }
    let kernels = [
        ("empty", Vec::new()),
        ("text", b"this is not a kernel\n".to_vec()),
        ("half-linux", half(&kernel)),
        ("flipped-linux", flipped),
        ("half-hello", half(&hello)),
        ("stub-hello", hello[..64].to_vec()),
    ];
    let mut files = Vec::new();
    for (name, bytes) in kernels {
        let path = scratch.path().join(name);
        fs::write(&path, bytes)?;
        files.push((name.to_owned(), path));
        let config = scratch.path().join(format!("{name}.cfg"));
        fs::write(
            &config,
            format!("name = \"{name}\"\nkernel = \"{name}\"\nmemory = 64\n"),
        )?;
        files.push((format!("{name}.cfg"), config));
    }
    let configs = [
        ("syntax.cfg", "name = \"unclosed\nkernel = [[[\n"),
        ("nothing.cfg", ""),
        (
            "absent.cfg",
            "name = \"absent\"\nkernel = \"not-there\"\nmemory = 64\n",
        ),
        (
            "huge.cfg",
            "name = \"huge\"\nkernel = \"hello\"\nmemory = 99999999\n",
        ),
        (
            "cpus.cfg",
            "name = \"cpus\"\nkernel = \"hello\"\nmemory = 8\nvcpus = 100000\n",
        ),
    ];
    for (name, text) in configs {
        let path = scratch.path().join(name);
        fs::write(&path, text)?;
        files.push((name.to_owned(), path));
    }
    Ok(files)
}

#[test]
#[ignore = "boots QEMU"]
fn each_broken_file_gets_a_sentence() -> Result<()> {
    let scratch = Scratch::new("broken")?;
    let files = broken_files(&scratch)?;
    let modules = files.iter().map(|(name, path)| Module::file(name, path));
    let hello = Module::file("hello", find_file("hello")?);
    let media = Media::test_build().modules(modules).module(hello);
    let mut session = boot_to_prompt("images", &media, &Machine::default())?;
    let before = free_frames(&mut session)?;
    for (name, _) in files.iter().filter(|(name, _)| name.ends_with(".cfg")) {
        let printed = session.command(&format!("create {name}"), GUEST)?;
        let errors: Vec<&str> = printed
            .lines()
            .filter(|line| line.starts_with("error: "))
            .collect();
        let stem = name.trim_end_matches(".cfg");
        ensure!(errors.len() == 1, "create {name} printed:\n{printed}");
        ensure!(
            errors
                .iter()
                .all(|line| line.contains(stem) || line.contains("not-there")),
            "the file is not named: {printed}"
        );
    }
    no_frame_is_lost(&mut session, before)?;
    let list = session.succeed("list", SHORT)?;
    ensure!(
        list.trim().lines().count() == 2,
        "domains left over:\n{list}"
    );
    power_off(session)
}
