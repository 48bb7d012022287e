//! The hypervisor's command line, and machines on which it can't run.

use anyhow::{Result, anyhow, ensure};
use xenlike_tests::machine::Machine;
use xenlike_tests::media::Media;
use xenlike_tests::scenario::{
    BOOT, GUEST, SHORT, artefact_with, boot_to_prompt, number_after, power_off,
};
use xenlike_tests::session::Session;

#[test]
#[ignore = "boots QEMU"]
fn unknown_options_are_named() -> Result<()> {
    let media = artefact_with(&[])?.and("frobnicate=1 placeholder no-real-mode edd=off");
    let mut session = Session::boot("options-unknown", &media, &Machine::default())?;
    let boot = session.read_until("^xenlike> ", BOOT)?;
    let warned = |option: &str| boot.contains(&format!("there is no option '{option}'"));
    ensure!(warned("frobnicate"), "no warning:\n{boot}");
    for silent in ["placeholder", "no-real-mode", "edd"] {
        ensure!(!warned(silent), "a warning about {silent}:\n{boot}");
    }
    power_off(session)
}

#[test]
#[ignore = "boots QEMU"]
fn maxcpus_limits_the_cpus() -> Result<()> {
    let machine = Machine {
        cpus: 4,
        ..Machine::default()
    };
    let media = artefact_with(&[])?.and("maxcpus=2");
    let mut session = boot_to_prompt("options-maxcpus", &media, &machine)?;
    let info = session.succeed("info", SHORT)?;
    ensure!(number_after("nr_cpus", &info)? == 2, "maxcpus=2:\n{info}");
    power_off(session)
}

#[test]
#[ignore = "boots QEMU"]
fn nosmp_leaves_one_cpu() -> Result<()> {
    let media = artefact_with(&[])?.and("nosmp");
    let mut session = boot_to_prompt("options-nosmp", &media, &Machine::default())?;
    let info = session.succeed("info", SHORT)?;
    ensure!(number_after("nr_cpus", &info)? == 1, "nosmp:\n{info}");
    power_off(session)
}

/// Each of the machine's clocks can measure the TSC, and all find the same rate. The log names the clock from which
/// time comes, which is never the PIT, as it wraps too soon.
#[test]
#[ignore = "boots QEMU"]
fn clocksource_chooses_the_clock() -> Result<()> {
    let mut rates = Vec::new();
    for (word, name, source) in [
        ("hpet", "HPET", "HPET"),
        ("acpi", "ACPI PM timer", "ACPI PM timer"),
        ("pit", "PIT", "HPET"),
        ("tsc", "HPET", "TSC"),
    ] {
        let option = format!("clocksource={word}");
        let media = artefact_with(&[])?.and(&option);
        let session = boot_to_prompt("options-clocksource", &media, &Machine::default())?;
        let said = session.transcript();
        let source = format!("time: the {source} is the clock");
        ensure!(said.contains(&source), "no '{source}':\n{said}");
        let complained = said.contains(&format!("'{option}': the PIT is never the clock"));
        ensure!(complained == (word == "pit"), "{said}");
        let by = format!(" MHz by {name}");
        let rate = said.lines().find_map(|line| {
            let (start, _) = line.split_once(&by)?;
            start.rsplit(' ').next()?.parse::<f64>().ok()
        });
        rates.push(rate.ok_or_else(|| anyhow!("no rate by {name}:\n{said}"))?);
        power_off(session)?;
    }
    let near = |rate: &f64| (rate - rates[0]).abs() <= rates[0] / 100.0;
    ensure!(rates.iter().all(near), "{rates:?} MHz");
    Ok(())
}

/// Firmware may limit CPUID's leaves: features of the missing leaves aren't used, and guests run.
#[test]
#[ignore = "boots QEMU"]
fn cpuid_may_have_few_leaves() -> Result<()> {
    for cpu in [
        "max,level=2",
        "max,level=12",
        "Skylake-Server,level=4",
        "EPYC,level=1",
    ] {
        let machine = Machine {
            cpu: cpu.to_owned(),
            ..Machine::default()
        };
        let media = artefact_with(&["hello", "hello.cfg"])?;
        let mut session = boot_to_prompt("options-few-leaves", &media, &machine)?;
        session.succeed("create hello.cfg -c", GUEST)?;
        power_off(session)?;
    }
    Ok(())
}

/// CPUs beyond the supported number stay as the firmware left them, with a message.
#[test]
#[ignore = "boots QEMU"]
fn more_cpus_than_supported() -> Result<()> {
    let machine = Machine {
        cpus: 66,
        ..Machine::default()
    };
    let media = artefact_with(&[])?.and("maxcpus=2");
    let mut session = boot_to_prompt("options-many-cpus", &media, &machine)?;
    let said = session.transcript();
    ensure!(
        said.contains("this machine has more CPUs than the 64 that are used"),
        "{said}"
    );
    let info = session.succeed("info", SHORT)?;
    ensure!(number_after("nr_cpus", &info)? == 2, "{info}");
    power_off(session)
}

/// A CPU that can't run the hypervisor causes a message.
fn refuses(name: &str, cpu: &str, sentence: &str) -> Result<()> {
    let machine = Machine {
        cpu: cpu.to_owned(),
        cpus: 1,
        ..Machine::default()
    };
    let mut session = Session::boot(name, &Media::xenlike(), &machine)?;
    session.allow_panic();
    session.expect(sentence, BOOT).map(drop)
}

#[test]
#[ignore = "boots QEMU"]
fn a_cpu_without_long_mode_gets_a_sentence() -> Result<()> {
    refuses("options-no-lm", "max,-lm", "(?i)^.*(long mode|64-bit).*$")
}

#[test]
#[ignore = "boots QEMU"]
fn a_cpu_without_nx_gets_a_sentence() -> Result<()> {
    refuses(
        "options-no-nx",
        "max,-nx",
        "(?i)^.*(no-execute|\\bNX\\b).*$",
    )
}

#[test]
#[ignore = "boots QEMU"]
fn a_cpu_without_fxsave_gets_a_sentence() -> Result<()> {
    refuses("options-no-fxsr", "max,-fxsr", "this CPU has no FXSAVE")
}

#[test]
#[ignore = "boots QEMU"]
fn a_cpu_without_syscall_gets_a_sentence() -> Result<()> {
    refuses(
        "options-no-syscall",
        "max,-syscall",
        "this CPU has no SYSCALL",
    )
}

/// The command line enables all mitigations on the ways in and out of ring 0, as on a vulnerable
/// CPU; guests still run.
#[test]
#[ignore = "boots QEMU"]
fn guests_live_on_hardened_paths() -> Result<()> {
    let files = [
        "hello",
        "hello.cfg",
        "user",
        "user.cfg",
        "hostile-iret",
        "hostile.cfg",
    ];
    let media = artefact_with(&files)?.and("spec-ctrl=pv,ssbd");
    let machine = Machine {
        cpu: "Skylake-Client-v1,vendor=GenuineIntel,-smep".to_owned(),
        ..Machine::default()
    };
    let mut session = boot_to_prompt("options-hardened", &media, &machine)?;
    let log = session.succeed("dmesg", SHORT)?;
    for said in [
        "THIS CPU IS OPEN TO MELTDOWN",
        "this CPU is open to Meltdown, L1TF, MDS",
        "RSB overwritten on entry, VERW on exit",
        "domain 0 is not, others are held to it",
    ] {
        ensure!(log.contains(said), "no '{said}' in:\n{log}");
    }
    for (guest, config) in [
        ("hello", "hello.cfg"),
        ("user", "user.cfg"),
        (
            "hostile-iret",
            "hostile.cfg name=hostile-iret kernel=hostile-iret",
        ),
    ] {
        session.send_line(&format!("create {config} -c"))?;
        session.expect(&format!("^PASS {guest}"), GUEST)?;
        session.expect_prompt(GUEST)?;
    }
    power_off(session)
}

#[test]
#[ignore = "boots QEMU"]
fn a_cpu_that_needs_nothing_gets_plain_paths() -> Result<()> {
    let media = artefact_with(&[])?.and("spec-ctrl=frobnicate xpti=dom0=no");
    let mut session = boot_to_prompt("options-plain", &media, &Machine::default())?;
    let log = session.succeed("dmesg", SHORT)?;
    for said in [
        "speculation: this CPU is open to neither Meltdown nor L1TF nor MDS; no IBRS",
        "'spec-ctrl' can't be 'frobnicate'",
    ] {
        ensure!(log.contains(said), "no '{said}' in:\n{log}");
    }
    ensure!(!log.contains("RSB") && !log.contains("L1TF: "), "{log}");
    power_off(session)
}
