//! Debian's own unmodified Xen tools (xl, xenstored, xenconsoled), in Linux as Dom0, and our toolstack beside them.

use super::dom0::power_off;
use anyhow::{Context, Result, bail, ensure};
use std::collections::BTreeSet;
use std::fs;
use xenlike_tests::cpio::{Archive, Entry};
use xenlike_tests::machine::Machine;
use xenlike_tests::media::{Media, Module};
use xenlike_tests::paths::{Scratch, build, root};
use xenlike_tests::scenario::{LINUX, SHORT, find_file};
use xenlike_tests::session::Session;

pub const PROMPT: &str = "^dom0# ";
/// Waits until the init of the guest `debian` has started this often; prints how often it has.
const STARTS: &str = r"#!/bin/sh
log=/var/log/xen/console/guest-debian.log
for i in $(seq 300); do
    [ $(grep -c '^init: Linux' $log) = $1 ] && break
    sleep 1
done
grep -c '^init: Linux' $log
";

/// Waits until each of Dom0's two CPUs has printed a backtrace. Linux requests the other CPU's by an NMI, as
/// when a CPU stalls.
const BACKTRACES: &str = r"echo l > /proc/sysrq-trigger; for i in $(seq 60); do [ $(dmesg | grep -c 'NMI backtrace for cpu') = 2 ] && break; sleep 1; done; dmesg | grep -c 'NMI backtrace for cpu' | grep -x 2";

/// Waits until the guest `debian` reports an NMI.
const NMI: &str = r"log=/var/log/xen/console/guest-debian.log; for i in $(seq 60); do grep -q 'NMI received' $log && break; sleep 1; done; grep -q 'NMI received' $log";

/// The paths are absolute, since the xl process that restarts a domain doesn't stay in `/root`.
const CREATE: &str =
    r#"xl create -q debian.cfg 'kernel="/root/vmlinuz"' 'ramdisk="/root/initrd.img"'"#;

pub fn run(session: &mut Session, line: &str) -> Result<String> {
    session.send_line(line)?;
    session.expect(r"\n", SHORT)?;
    session.read_until(PROMPT, LINUX)
}

/// Runs a command that must succeed; returns its output. The command line may be echoed in two pieces, so it doesn't
/// contain the words that report success.
pub fn succeed(session: &mut Session, line: &str) -> Result<String> {
    let printed = run(session, &format!("{line} && echo 'it is' done"))?;
    ensure!(printed.contains("it is done"), "{line}:\n{printed}");
    Ok(printed)
}

/// Boots up to the shell of a Dom0 with Debian's tools.
fn boot(name: &str, scratch: &Scratch) -> Result<Session> {
    boot_with(name, scratch, &Machine::default(), &[])
}

/// Like [`boot`], on another machine, with further files.
pub fn boot_with(
    name: &str,
    scratch: &Scratch,
    machine: &Machine,
    files: &[(&str, Vec<u8>)],
) -> Result<Session> {
    boot_appended(name, scratch, machine, files, Vec::new())
}

/// Like [`boot_with`], with another archive appended to Dom0's root.
pub fn boot_appended(
    name: &str,
    scratch: &Scratch,
    machine: &Machine,
    files: &[(&str, Vec<u8>)],
    appended: Vec<u8>,
) -> Result<Session> {
    let mut archive = Archive::default();
    for (name, content) in files {
        archive.add(&format!("root/{name}"), &Entry::File(content));
    }
    archive.add("root/starts", &Entry::Program(STARTS.as_bytes()));
    let mut image = fs::read(build("dom0.img"))?;
    image.extend(appended);
    image.extend(archive.finish());
    let initrd = scratch.path().join("initrd");
    fs::write(&initrd, image)?;
    let media = Media::test_build()
        .and("dom0_mem=1G")
        .module(Module::with_arguments(
            find_file("vmlinuz")?,
            "console=hvc0",
        ))
        .module(Module::with_arguments(initrd, ""));
    let mut session = Session::boot(name, &media, machine)?;
    session.expect(r"^init: Linux 6\.12.*, xen$", LINUX)?;
    session.expect(PROMPT, LINUX)?;
    Ok(session)
}

/// A domain's row of `xl list`: number, MiB, vCPUs, state.
pub fn row(session: &mut Session, name: &str) -> Result<Vec<String>> {
    let list = succeed(session, "xl list")?;
    let row = list.lines().find(|line| line.starts_with(name));
    let row = row.with_context(|| format!("no {name}:\n{list}"))?;
    Ok(row.split_ascii_whitespace().map(str::to_owned).collect())
}

/// Waits until the console of `debian` shows that its init has started this often.
fn debian_is_up(session: &mut Session, times: usize) -> Result<()> {
    let seen = run(session, &format!("./starts {times}"))?;
    // The kernel's log may be interleaved.
    let told = seen.lines().any(|line| line.trim() == times.to_string());
    ensure!(told, "{times} starts expected: {seen}");
    Ok(())
}

/// Checks the tools' output about the machine and Domain-0.
fn views(session: &mut Session) -> Result<()> {
    let dom0 = row(session, "Domain-0")?;
    ensure!(
        dom0.get(1..3) == Some(&["0".into(), "1024".into()]),
        "{dom0:?}"
    );
    let info = succeed(session, "xl info")?;
    for word in [
        "xen_caps               : xen-3.0-x86_64 xen-3.0-x86_32p",
        "nr_cpus                : 2",
        "xen_commandline",
    ] {
        ensure!(info.contains(word), "no {word:?} in\n{info}");
    }
    let log = succeed(session, "xl dmesg")?;
    ensure!(log.contains("xenlike"), "xl dmesg:\n{log}");
    succeed(session, "xl vcpu-pin 0 1 1")?;
    let vcpus = succeed(session, "xl vcpu-list 0")?;
    let pinned = vcpus
        .lines()
        .any(|line| line.trim_end().ends_with("1 / all"));
    ensure!(pinned, "xl vcpu-list:\n{vcpus}");
    succeed(session, "xl vcpu-pin 0 1 all")?;
    shares(session)
}

/// Checks the scheduler, and changes Domain-0's share.
fn shares(session: &mut Session) -> Result<()> {
    succeed(session, "xl sched-credit2 -d Domain-0 -w 512 -c 150")?;
    let table = succeed(session, "xl sched-credit2")?;
    let dom0 = table.lines().find(|line| line.starts_with("Domain-0"));
    let words: Vec<&str> = dom0.unwrap_or("").split_whitespace().collect();
    ensure!(
        words.get(1..) == Some(&["0", "512", "150"]),
        "xl sched-credit2:\n{table}"
    );
    succeed(session, "xl sched-credit2 -d Domain-0 -w 256 -c 0")?;
    succeed(session, "xl sched-credit2 -s -r 2000")?;
    let limit = succeed(session, "xl sched-credit2 -s")?;
    ensure!(limit.contains("ratelimit=2000us"), "{limit}");
    let info = succeed(session, "xl info")?;
    let name = "xen_scheduler          : credit2";
    ensure!(info.contains(name), "no {name:?} in\n{info}");
    succeed(session, "xl sched-credit2 -s -r 1000").map(drop)
}

/// `xl` creates domains (Linux with grant tables of version 2), sends them an NMI, pauses them, sets their memory,
/// restarts them, shuts them down and destroys them.
#[test]
#[ignore = "boots QEMU"]
fn debian_xl_runs_domains() -> Result<()> {
    let scratch = Scratch::new("xl")?;
    let mut session = boot("xl", &scratch)?;
    views(&mut session)?;
    let second_version = r#"'max_grant_version=2' 'extra="console=hvc0 grant_table.version=2"'"#;
    succeed(&mut session, &format!("{CREATE} {second_version}"))?;
    debian_is_up(&mut session, 1)?;
    let layout = "grep 'using version 2 layout' /var/log/xen/console/guest-debian.log";
    succeed(&mut session, layout)?;
    let key = "xl debug-keys g && xl dmesg | grep 'd[0-9]*: version 2, '";
    succeed(&mut session, key)?;
    succeed(&mut session, "xl trigger debian nmi")?;
    succeed(&mut session, NMI)?;
    succeed(&mut session, "xl pause debian")?;
    let paused = row(&mut session, "debian")?;
    ensure!(
        paused.get(4).is_some_and(|state| state.contains('p')),
        "{paused:?}"
    );
    succeed(&mut session, "xl unpause debian")?;
    succeed(&mut session, "xl mem-set debian 100")?;
    let waits = "for i in $(seq 60); do xl list debian | grep -q ' 100 ' && break; sleep 1; done";
    run(&mut session, waits)?;
    let small = row(&mut session, "debian")?;
    ensure!(small.get(2).is_some_and(|mib| mib == "100"), "{small:?}");
    succeed(&mut session, "xl reboot -w debian")?;
    debian_is_up(&mut session, 2)?;
    let again = row(&mut session, "debian")?;
    ensure!(again.get(1) != small.get(1), "{again:?} was {small:?}");
    succeed(&mut session, "xl shutdown -w debian")?;
    succeed(&mut session, "xl create -q -p hello.cfg")?;
    succeed(&mut session, "xl destroy hello")?;
    let list = succeed(&mut session, "xl list")?;
    if list.contains("debian") || list.contains("hello") {
        bail!("still there:\n{list}");
    }
    power_off(session)
}

/// The machine's second CPU goes offline and online again: Domain-0's two vCPUs run on the first, then on both.
fn cpu_goes_and_comes_back(session: &mut Session) -> Result<()> {
    let has_cpus = |session: &mut Session, count: u32| -> Result<()> {
        let info = succeed(session, "xl info")?;
        let line = format!("nr_cpus                : {count}");
        ensure!(info.contains(&line), "no {line:?} in\n{info}");
        Ok(())
    };
    has_cpus(session, 2)?;
    let first = run(session, "xen-hptool cpu-offline 0")?;
    ensure!(first.contains("Invalid argument"), "CPU 0: {first}");
    succeed(session, "xen-hptool cpu-offline 1")?;
    has_cpus(session, 1)?;
    let vcpus = succeed(session, "xl vcpu-list 0")?;
    let on_second = |table: &str| {
        let cpu = |line: &str| line.split_whitespace().nth(3).map(|cpu| cpu == "1");
        table.lines().any(|line| cpu(line) == Some(true))
    };
    ensure!(!on_second(&vcpus), "on a CPU that is offline:\n{vcpus}");
    // Both vCPUs still run: each gets a process of its own.
    succeed(session, "for n in 1 2; do taskset $n sleep 0.1; done")?;
    succeed(session, "xen-hptool cpu-online 1")?;
    has_cpus(session, 2)?;
    // With both vCPUs busy, one of them runs on the second CPU.
    let busy = "for n in 1 2; do taskset $n timeout 2 sh -c 'while :; do :; done' & done; sleep 1; xl vcpu-list 0; wait";
    let vcpus = run(session, busy)?;
    ensure!(on_second(&vcpus), "not on the CPU that is back:\n{vcpus}");
    Ok(())
}

/// Debian's tools that inspect the machine: the log can be cleared, policies shown, registers read.
#[test]
#[ignore = "boots QEMU"]
fn debian_tools_look_at_the_machine() -> Result<()> {
    let scratch = Scratch::new("tools")?;
    let mut session = boot("tools", &scratch)?;
    let log = succeed(&mut session, "xl dmesg -c")?;
    ensure!(log.contains("xenlike"), "xl dmesg -c:\n{log}");
    let log = succeed(&mut session, "xl dmesg")?;
    ensure!(!log.contains("(xenlike)"), "after xl dmesg -c:\n{log}");
    let policies = succeed(&mut session, "xen-cpuid -p")?;
    ensure!(policies.contains("PV Default policy"), "{policies}");
    let patches = succeed(&mut session, "xen-livepatch list")?;
    ensure!(!patches.contains("Error"), "{patches}");
    // As on Xen without VT-x or SVM, everything passes up to the HVM guest, which can't be created.
    let tsx = run(&mut session, "test-tsx")?;
    let lines: Vec<&str> = tsx.lines().map(str::trim).collect();
    let fails = |pair: &[&str]| {
        pair.first()
            .is_some_and(|line| line.starts_with("Testing MSR"))
            && !pair.last().is_some_and(|line| line.starts_with("Testing"))
    };
    let last = lines.contains(&"HVM available, but neither HAP nor Shadow");
    ensure!(last && !lines.windows(2).any(fails), "test-tsx:\n{tsx}");
    documented(&mut session)?;
    let info = succeed(&mut session, "xenlike info --json")?;
    for line in [r#""virt_kind": "SVM""#, r#""virt_firmware": "usable""#] {
        ensure!(info.contains(line), "no {line} in\n{info}");
    }
    let rows = succeed(&mut session, "xenlike top --json --delay 1 --count 2")?;
    let is_json = |line: &&str| serde_json::from_str::<serde_json::Value>(line).is_ok();
    ensure!(
        rows.lines().filter(is_json).count() == 2 && !rows.contains('\x1b'),
        "{rows}"
    );
    succeed(&mut session, "xen-ucode show-cpu-info")?;
    cpu_goes_and_comes_back(&mut session)?;
    succeed(&mut session, BACKTRACES)?;
    succeed(&mut session, "xl debug-keys tnMuvcI")?;
    let log = succeed(&mut session, "xl dmesg")?;
    for line in ["system time", "that an NMI waits for", "VT-x: no domain"] {
        ensure!(log.contains(line), "no {line:?} in\n{log}");
    }
    power_off(session)
}

/// Saves and restores `debian` once. It must be alive afterwards, since the next save needs its cooperation, and so
/// does the shutdown after the last one.
fn save_and_restore(session: &mut Session, round: u32) -> Result<()> {
    let line = "xl save debian saved && xl restore saved && rm saved";
    let printed = run(session, &format!("{line} && echo 'it is' done"))?;
    let log = "/var/log/xen/console/guest-debian.log";
    let bugs = run(session, &format!("grep -A3 'kernel BUG' {log}"))?;
    ensure!(
        printed.contains("it is done") && !bugs.contains("kernel BUG at"),
        "round {round}: {printed}\n{bugs}"
    );
    Ok(())
}

/// A Linux guest with two vCPUs goes through `xl save` and `xl restore` several times. When it resumes, its first
/// vCPU registers the second's areas while that one may still be leaving a CPU. `XENLIKE_SAVES=50 scripts/test qemu
/// two_vcpus_survive` for more rounds.
#[test]
#[ignore = "boots QEMU"]
fn two_vcpus_survive_save_and_restore() -> Result<()> {
    let asked = std::env::var("XENLIKE_SAVES").ok();
    let rounds = asked.and_then(|rounds| rounds.parse().ok()).unwrap_or(3);
    let scratch = Scratch::new("saves")?;
    let mut session = boot("saves", &scratch)?;
    succeed(&mut session, &format!("{CREATE} vcpus=2"))?;
    debian_is_up(&mut session, 1)?;
    for round in 0..rounds {
        save_and_restore(&mut session, round)?;
    }
    succeed(&mut session, "xl shutdown -w debian")?;
    power_off(session)
}

/// Debian 12's tools use an older domctl: they query, create, save, restore and destroy domains.
#[test]
#[ignore = "boots QEMU"]
fn debian_12s_xl_runs_domains() -> Result<()> {
    let scratch = Scratch::new("xl-4.17")?;
    let older = fs::read(find_file("toolstack-4.17.img")?)?;
    let mut session = boot_appended("xl-4.17", &scratch, &Machine::default(), &[], older)?;
    let place = succeed(&mut session, "which xl")?;
    ensure!(place.contains("/usr/lib/xen-4.17/bin/xl"), "{place}");
    let info = succeed(&mut session, "xl info")?;
    ensure!(info.contains("xen_scheduler          : credit2"), "{info}");
    succeed(&mut session, CREATE)?;
    debian_is_up(&mut session, 1)?;
    let made = row(&mut session, "debian")?;
    save_and_restore(&mut session, 1)?;
    let restored = row(&mut session, "debian")?;
    ensure!(made.get(1) != restored.get(1), "{made:?} {restored:?}");
    succeed(&mut session, "xl sched-credit2 -d debian -w 300")?;
    succeed(&mut session, "xl vcpu-list debian")?;
    succeed(&mut session, "xl shutdown -w debian")?;
    succeed(&mut session, "xl create -q -p hello.cfg")?;
    succeed(&mut session, "xl destroy hello")?;
    let narrow = succeed(&mut session, "xl create -q -c hello-32.cfg")?;
    ensure!(narrow.contains("PASS hello"), "{narrow}");
    let list = succeed(&mut session, "xl list")?;
    ensure!(
        !list.contains("debian") && !list.contains("hello"),
        "{list}"
    );
    power_off(session)
}

/// xl takes a CPU out of the first pool, and makes a pool of it for a domain, which then moves there.
#[test]
#[ignore = "boots QEMU"]
fn pools_have_cpus_and_domains() -> Result<()> {
    let scratch = Scratch::new("xl-pools")?;
    let mut files = Vec::new();
    for name in ["idle", "idle.cfg"] {
        files.push((name, fs::read(find_file(name)?)?));
    }
    let mut session = boot_with("xl-pools", &scratch, &Machine::default(), &files)?;
    let cpus_of = |session: &mut Session, pool: &str| -> Result<Option<String>> {
        let list = succeed(session, "xl cpupool-list -c")?;
        let line = list.lines().find(|line| line.starts_with(pool));
        Ok(line.and_then(|line| Some(line.split_whitespace().nth(1)?.to_owned())))
    };
    ensure!(cpus_of(&mut session, "Pool-0")?.as_deref() == Some("0,1"));
    succeed(&mut session, "xl cpupool-cpu-remove Pool-0 1")?;
    ensure!(cpus_of(&mut session, "Pool-0")?.as_deref() == Some("0"));
    let last = run(&mut session, "xl cpupool-cpu-remove Pool-0 0")?;
    ensure!(last.contains("Device or resource busy"), "{last}");
    let make = r#"xl cpupool-create 'name="two"' 'sched="credit2"' 'cpus=["1"]'"#;
    succeed(&mut session, make)?;
    ensure!(cpus_of(&mut session, "two")?.as_deref() == Some("1"));
    succeed(&mut session, r#"xl create -q idle.cfg 'pool="two"'"#)?;
    let cpu_of_idle = "xl vcpu-list idle | tail -n 1";
    let words =
        |line: &str| -> Vec<String> { line.split_whitespace().map(str::to_owned).collect() };
    let row = words(&succeed(&mut session, cpu_of_idle)?);
    ensure!(row.get(3).map(String::as_str) == Some("1"), "{row:?}");
    let busy = run(&mut session, "xl cpupool-destroy two")?;
    ensure!(!busy.contains("it is done"), "a pool with a domain: {busy}");
    succeed(&mut session, "xl cpupool-migrate idle Pool-0")?;
    succeed(&mut session, "xl cpupool-destroy two")?;
    succeed(&mut session, "xl cpupool-cpu-add Pool-0 1")?;
    ensure!(cpus_of(&mut session, "Pool-0")?.as_deref() == Some("0,1"));
    ensure!(cpus_of(&mut session, "two")?.is_none());
    succeed(&mut session, "xl destroy idle")?;
    power_off(session)
}

/// As many guests as a busy host has are created at the same time, run, and end at the same time.
#[test]
#[ignore = "boots QEMU"]
fn many_guests_at_once() -> Result<()> {
    const GUESTS: usize = 38;
    let scratch = Scratch::new("xl-many")?;
    let mut files = Vec::new();
    for name in ["idle", "idle.cfg"] {
        files.push((name, fs::read(find_file(name)?)?));
    }
    let mut session = boot_with("xl-many", &scratch, &Machine::default(), &files)?;
    // Runs in a subshell, which doesn't report its jobs.
    let each = |verb: &str| format!("(for n in $(seq {GUESTS}); do {verb} & done; wait)");
    let free = "xl info | grep free_memory";
    let before = succeed(&mut session, free)?;
    let create = each(r#"xl create -q idle.cfg "name=\"idle$n\"" || echo "failed: $n""#);
    let printed = run(&mut session, &create)?;
    let fails = |line: &str| line.starts_with("failed: ");
    ensure!(!printed.lines().any(fails), "{printed}");
    let list = succeed(&mut session, "xl list")?;
    let alive = |line: &&str| line.starts_with("idle") && line.contains("-b----");
    let count = list.lines().filter(alive).count();
    ensure!(count == GUESTS, "{count} of {GUESTS} run:\n{list}");
    run(&mut session, &each("xl destroy idle$n"))?;
    let list = succeed(&mut session, "xl list")?;
    ensure!(!list.contains("idle"), "still there:\n{list}");
    let after = succeed(&mut session, free)?;
    ensure!(before == after, "memory is lost: {before} {after}");
    power_off(session)
}

/// Waits until no toolstack knows `debian` any more.
fn debian_is_gone(session: &mut Session) -> Result<()> {
    let waits = "for i in $(seq 60); do xl list debian 2>&1 | grep -q 'invalid domain' && break; sleep 1; done";
    run(session, waits)?;
    let lists = succeed(session, "xl list && xenlike list")?;
    ensure!(!lists.contains("debian"), "still there:\n{lists}");
    Ok(())
}

/// With xenstored and xenconsoled running, `xenlike` attaches its domain's console, restarts the domain when it
/// reboots, and removes it when it has powered off.
#[test]
#[ignore = "boots QEMU"]
fn xenlike_beside_xenstored() -> Result<()> {
    let scratch = Scratch::new("beside")?;
    let mut session = boot("beside", &scratch)?;
    session.send_line("xenlike create debian.cfg -c")?;
    session.expect(r"^init: Linux 6\.12.*, xen$", LINUX)?;
    session.expect("^# ", LINUX)?;
    session.send_line("hostname")?;
    session.expect("^guest", SHORT)?;
    session.send("\x1d")?;
    session.expect(PROMPT, SHORT)?;
    debian_is_up(&mut session, 1)?;
    let first = row(&mut session, "debian")?;
    succeed(&mut session, "xenlike reboot debian")?;
    debian_is_up(&mut session, 2)?;
    let second = row(&mut session, "debian")?;
    ensure!(first.get(1) != second.get(1), "{second:?} was {first:?}");
    succeed(&mut session, "xenlike shutdown -w debian")?;
    debian_is_gone(&mut session)?;
    power_off(session)
}

/// Debian's xentrace records the events of each CPU. Our tool does too, and converts both traces to JSON.
#[test]
#[ignore = "boots QEMU"]
fn debian_xentrace_writes_a_trace() -> Result<()> {
    let scratch = Scratch::new("trace")?;
    let mut session = boot("trace", &scratch)?;
    succeed(&mut session, "xentrace -D -T 2 all")?;
    succeed(&mut session, "[ $(wc -c < all) -gt 20000 ]")?;
    // The buffers keep their size once they exist; a mask excludes other events.
    let again = run(&mut session, "xentrace_setsize 7; echo status $?")?;
    ensure!(!again.contains("status 0"), "{again}");
    succeed(&mut session, "xentrace -D -e 0x21000 -T 1 some")?;
    succeed(&mut session, "[ $(wc -c < some) -lt $(wc -c < all) ]")?;
    succeed(&mut session, "xenlike trace --from all -o all.json")?;
    let line = "(sleep 1; xl create -q hello.cfg) & xenlike trace -o ours.json 4; wait";
    let printed = succeed(&mut session, line)?;
    ensure!(printed.contains("ui.perfetto.dev"), "{printed}");
    let kinds = [
        ("all.json", r#""name":"d0v0","ph":"X""#),
        ("all.json", r#""name":"sched_op","ph":"i""#),
        ("all.json", r##""name":"#PF","ph":"i""##),
        ("ours.json", r#""name":"d0v1","ph":"X""#),
        ("ours.json", r#""ph":"s""#),
        ("ours.json", r#""ph":"f""#),
        ("ours.json", "domain 1 created"),
        ("ours.json", r#""name":"d1v0","ph":"X""#),
    ];
    for (file, kind) in kinds {
        succeed(&mut session, &format!("grep -q '{kind}' {file}"))?;
    }
    succeed(&mut session, "xl debug-keys a; sleep 2")?;
    let log = succeed(&mut session, "xl dmesg | tail -n 5")?;
    ensure!(log.contains("agree in"), "the audit:\n{log}");
    power_off(session)
}

/// Lists what domains of this program leave behind.
const LEFT: &str = "ls /run/xenlike /var/lib/xen; xenstore-ls /libxl; xenstore-ls /vm";

/// `xl` shows, changes, saves, restores and ends a domain that `xenlike` has created, like one of its own.
#[test]
#[ignore = "boots QEMU"]
fn xl_handles_domains_of_xenlike() -> Result<()> {
    let scratch = Scratch::new("ours")?;
    let mut session = boot("ours", &scratch)?;
    // The folders stay once they exist.
    let first = "mkdir -p /run/xenlike; xl create -q -p hello.cfg; xl destroy hello";
    run(&mut session, first)?;
    let before = succeed(&mut session, LEFT)?;
    succeed(
        &mut session,
        "xenlike create -q debian.cfg maxmem=160 vcpus=2",
    )?;
    debian_is_up(&mut session, 1)?;
    let long = succeed(&mut session, "xl list -l debian")?;
    for line in [
        "\"name\": \"debian\"",
        "\"max_memkb\": 163840",
        "\"target_memkb\": 131072",
        "\"kernel\": \"vmlinuz\"",
        "\"cmdline\": \"console=hvc0\"",
    ] {
        ensure!(long.contains(line), "no {line:?} in\n{long}");
    }
    let uptime = succeed(&mut session, "xl uptime debian")?;
    ensure!(
        uptime.contains("debian") && uptime.contains("0:0"),
        "{uptime}"
    );
    succeed(&mut session, "xl mem-set debian 100")?;
    shows(&mut session, "xl list debian", " 100 ")?;
    succeed(&mut session, "xl vcpu-set debian 1")?;
    shows(&mut session, "xl vcpu-list debian", "--p")?;
    succeed(&mut session, "xl pause debian && xl unpause debian")?;
    succeed(
        &mut session,
        "xl rename debian house && xenlike reboot house",
    )?;
    // After the restart, xenconsoled uses the domain's new name, too.
    let log = "/var/log/xen/console/guest-house.log";
    shows(&mut session, &format!("grep -c '^init: Linux' {log}"), "1")?;
    shows(&mut session, "xenlike list", "house")?;
    succeed(&mut session, "xl save -c house saved && rm saved")?;
    succeed(
        &mut session,
        "xl save house saved && xl restore saved && rm saved",
    )?;
    succeed(&mut session, "xl shutdown -w house")?;
    succeed(
        &mut session,
        "xenlike create -q -p hello.cfg && xl destroy hello",
    )?;
    shows(&mut session, "ls /run/xenlike | wc -l", "0")?;
    let after = succeed(&mut session, LEFT)?;
    ensure!(before == after, "before:\n{before}\nafter:\n{after}");
    power_off(session)
}

/// The commands of `xenlike` that use Xenstore, and those that wait.
#[test]
#[ignore = "boots QEMU"]
fn xenlike_has_the_shell_s_commands() -> Result<()> {
    let scratch = Scratch::new("commands")?;
    let mut session = boot("commands", &scratch)?;
    let said = succeed(&mut session, "xenlike create hello.cfg --wait")?;
    ensure!(said.contains("PASS hello"), "{said}");
    let said = succeed(&mut session, "xenlike create hello-32.cfg --wait")?;
    ensure!(said.contains("PASS hello"), "{said}");
    let said = run(
        &mut session,
        "xenlike create -p hello.cfg 'disk=[\"phy:/dev/sda,xvda,w\"]'; xenlike destroy hello",
    )?;
    ensure!(said.contains("`xl create` does"), "{said}");
    let said = run(
        &mut session,
        "xenlike lsit; xenlike cat x; xenlike migrate a b",
    )?;
    for words in [
        "did you mean `list`?",
        "Linux has a command",
        "a command of xl",
    ] {
        ensure!(said.contains(words), "no {words:?} in\n{said}");
    }
    succeed(&mut session, "xenlike create -q -f debian.cfg vcpus=2")?;
    debian_is_up(&mut session, 1)?;
    succeed(&mut session, "xenlike mem-set debian 100")?;
    shows(&mut session, "xenlike list debian", " 100 ")?;
    succeed(&mut session, "xenlike vcpu-set debian 1")?;
    shows(
        &mut session,
        "xenlike dominfo debian",
        "vCPUs up        : 1 of 2",
    )?;
    succeed(&mut session, "xenlike sysrq debian h")?;
    let log = "/var/log/xen/console/guest-debian.log";
    shows(&mut session, &format!("grep -c 'sysrq: HELP' {log}"), "1")?;
    succeed(
        &mut session,
        "xenlike rename debian house && xl domid house",
    )?;
    succeed(&mut session, "xenlike debug-keys q")?;
    shows(&mut session, "xenlike dmesg", "d0: Alive")?;
    succeed(
        &mut session,
        "xl list -l house | grep vmlinuz && xenlike list -l house | grep vmlinuz",
    )?;
    let theirs = "xl create -q -p hello.cfg name=\\\"theirs\\\" && xenlike list -l theirs && xl destroy theirs";
    let long = succeed(&mut session, theirs)?;
    ensure!(long.contains("\"kernel\": \"hello\""), "{long}");
    run(&mut session, "(sleep 2; xenlike shutdown house) &")?;
    succeed(&mut session, "xenlike wait house --timeout=100")?;
    power_off(session)
}

/// Waits until a command prints these words.
pub fn shows(session: &mut Session, command: &str, words: &str) -> Result<()> {
    let mut printed = String::new();
    for _ in 0..60 {
        printed = run(session, command)?;
        if printed.contains(words) {
            return Ok(());
        }
        run(session, "sleep 1")?;
    }
    bail!("{command}: no {words:?} in\n{printed}")
}

/// The names in the first cells of a table of docs/xl.md.
fn named(heading: &str) -> Result<BTreeSet<String>> {
    let document = fs::read_to_string(root().join("docs/xl.md"))?;
    let section = document.split(&format!("\n## {heading}\n")).nth(1);
    let section = section.context("the section")?.split("\n## ").next();
    let rows = section.unwrap_or_default().lines();
    let cells = rows.filter(|line| line.starts_with("| ")).skip(1);
    let cells = cells.filter_map(|row| row.split('|').nth(1));
    let names = cells.flat_map(|cell| cell.trim().split(", "));
    Ok(names.map(str::to_owned).collect())
}

/// Checks that docs/xl.md names each command of xl and each tool of its package, and no others.
fn documented(session: &mut Session) -> Result<()> {
    let usage = run(session, "xl 2>&1 | grep '^ [a-z]'")?;
    let commands: BTreeSet<String> = usage
        .lines()
        .filter_map(|line| line.strip_prefix(' ')?.split_ascii_whitespace().next())
        .map(str::to_owned)
        .collect();
    let trees =
        fs::read_dir(build(".cache/debian/trees"))?.filter_map(|tree| Some(tree.ok()?.path()));
    let mut packages: Vec<_> = trees
        .filter(|tree| tree.to_string_lossy().contains("/xen-utils-4.20_"))
        .collect();
    packages.sort();
    let package = packages
        .pop()
        .context("Debian's package is fetched by the build")?;
    let mut tools = BTreeSet::new();
    for tool in fs::read_dir(package.join("usr/lib/xen-4.20/bin"))? {
        tools.insert(tool?.file_name().to_string_lossy().into_owned());
    }
    for (heading, there) in [("xl", commands), ("Other tools", tools)] {
        let named = named(heading)?;
        let missing: Vec<_> = there.difference(&named).collect();
        let unknown: Vec<_> = named.difference(&there).collect();
        ensure!(
            missing.is_empty() && unknown.is_empty() && !there.is_empty(),
            "docs/xl.md, {heading}: lacks {missing:?}, and names {unknown:?}, which isn't there"
        );
    }
    Ok(())
}
