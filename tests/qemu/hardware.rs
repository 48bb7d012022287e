//! Events of real machines that emulators don't produce by themselves: hardware errors, injected through
//! QEMU's monitor, and others.

use crate::dom0::{asks_core, boot, power_off, run};
use anyhow::{Context, Result, ensure};
use std::time::{Duration, Instant};
use xenlike_tests::machine::Machine;
use xenlike_tests::monitor::Monitor;
use xenlike_tests::scenario::{BOOT, SHORT, artefact_with, media_with};
use xenlike_tests::session::Session;

/// Each CPU checks its machine-check banks every 15 s.
const LOOK: Duration = Duration::from_secs(60);

/// A corrected memory error, on either CPU, is reported by the hypervisor and delivered to Linux's daemon.
#[test]
#[ignore = "boots QEMU"]
fn corrected_errors_reach_dom0() -> Result<()> {
    let monitor = Monitor::new()?;
    let machine = monitor.on(Machine::default());
    let mut session = boot("hardware-corrected", &machine, "")?;
    // Linux returns all records in one large read, or none.
    let read = "dd if=/dev/mcelog of=/tmp/records bs=64k count=1; dmesg | grep -i mce; hexdump -C /tmp/records";
    for cpu in 0..2 {
        let status = "0x8c00000000000151";
        monitor.command(&format!("mce {cpu} 1 {status} 0 0x12345000 0x86"))?;
        let said = format!(
            r"hardware error on CPU{cpu} \(corrected\): bank 1: status {status} address 0x0*12345000"
        );
        session.expect(&said, LOOK)?;
    }
    let records = run(&mut session, read)?;
    let count = records.matches("00 50 34 12 00 00 00 00").count();
    ensure!(count == 2, "{count} records:\n{records}");
    power_off(session)
}

/// An uncorrected error that is signalled to all CPUs, while only one has it in a bank, causes one panic,
/// which names that CPU.
#[test]
#[ignore = "boots QEMU"]
fn an_error_told_to_all_cpus_is_one_panic() -> Result<()> {
    let monitor = Monitor::new()?;
    let machine = Machine {
        cpu: "Skylake-Client-v1".to_owned(),
        cpus: 4,
        memory_mib: 512,
        ..Machine::default()
    };
    let media = artefact_with(&[])?.and("noreboot");
    let mut session = Session::boot("hardware-broadcast", &media, &monitor.on(machine))?;
    session.expect_prompt(BOOT)?;
    session.allow_panic();
    monitor.command("mce -b 2 3 0xb600000000000011 0 0x1234000 0")?;
    session.expect(r"^at .*dump\.rs", SHORT)?;
    let said = session.transcript();
    ensure!(said.matches("xenlike: panic on").count() == 1, "{said}");
    let mut banks = said
        .lines()
        .filter(|line| line.starts_with("machine check") && line.contains("0xb600000000000011"));
    ensure!(banks.clone().count() == 1, "{said}");
    ensure!(banks.all(|line| line.contains("bank 3")), "{said}");
    Ok(())
}

/// A device may send a vector that is also an exception's. The CPU then pushes no error code.
#[test]
#[ignore = "boots QEMU"]
fn interrupts_at_vectors_of_exceptions_are_strays() -> Result<()> {
    let mut session = boot("hardware-vectors", &Machine::default(), "")?;
    let said = asks_core(&mut session, "x")?;
    for vector in 16..32 {
        let stray = format!("interrupt {vector:#x} has no handler");
        // The machine check's small stack has no room for a message, so this one is silent.
        let is_said = vector != 18;
        ensure!(said.contains(&stray) == is_said, "'{stray}' in:\n{said}");
    }
    power_off(session)
}

/// Boots 4 CPUs up to the prompt, with words for the test build on the command line.
fn boot_4_cpus(name: &str, words: &str) -> Result<Session> {
    let machine = Machine {
        cpus: 4,
        memory_mib: 512,
        ..Machine::default()
    };
    let media = media_with(&["hello", "hello.cfg"])?.and(words);
    let mut session = Session::boot(name, &media, &machine)?;
    session.expect_prompt(BOOT)?;
    Ok(session)
}

/// With a fault that the test build simulates, a message names the CPU, and the remaining number of CPUs run.
fn stays_off(name: &str, fault: &str, sentence: &str, left: &str) -> Result<()> {
    let mut session = boot_4_cpus(name, fault)?;
    let said = session.transcript();
    ensure!(said.contains(sentence), "{said}");
    ensure!(said.contains(&format!("(xenlike) {left} CPUs")), "{said}");
    session.succeed("create hello.cfg", SHORT)?;
    session.audit()
}

/// A CPU that lacks features of the first one stays off, with a message, and the others run.
#[test]
#[ignore = "boots QEMU"]
fn a_cpu_that_differs_stays_off() -> Result<()> {
    let sentence = "the CPU with APIC id 1 lacks features of the first CPU (CPUID 1.EDX: 0x4000000); it is not used";
    stays_off("hardware-unlike", "unlike-cpu=1", sentence, "3")
}

/// A CPU that starts and then stops answering doesn't hold up the boot.
#[test]
#[ignore = "boots QEMU"]
fn a_cpu_that_falls_silent_stays_off() -> Result<()> {
    let sentence = "the CPU with APIC id 2 stopped answering; it and the rest are not used";
    stays_off("hardware-silent", "silent-cpu=2", sentence, "2")
}

/// CPUs whose TSCs are ahead of or behind the first CPU's get correct clocks, and guests are told.
#[test]
#[ignore = "boots QEMU"]
fn clocks_that_differ_are_corrected() -> Result<()> {
    for skew in [5_000_000_000_i64, -5_000_000_000] {
        let words = format!("skewed-clocks={skew}");
        let mut session = boot_4_cpus("hardware-skewed", &words)?;
        let said = session.transcript();
        let behind = |line: &str| -> Option<i64> {
            let (_, rest) = line.split_once("its clock is put forward by ")?;
            rest.split(' ').next()?.parse().ok()
        };
        let corrections: Vec<_> = said.lines().filter_map(behind).collect();
        // The remaining difference is the time of one comparison, in which the emulator's threads wait for each
        // other.
        let near = |ticks: &i64| (ticks + skew).abs() < 500_000_000;
        ensure!(
            corrections.len() == 3 && corrections.iter().all(near),
            "{said}"
        );
        ensure!(!said.contains("doesn't keep step"), "{said}");
        session.succeed("create hello.cfg", SHORT)?;
        session.audit()?;
    }
    Ok(())
}

/// The core's system time in seconds.
fn system_time(session: &mut Session) -> Result<(f64, Instant)> {
    session.send("\x01\x01\x01")?;
    session.expect("serial input goes to the hypervisor", SHORT)?;
    session.send("t")?;
    let said = session.expect(r"system time \d+ ns", SHORT)?;
    let seen = Instant::now();
    session.send("\x01\x01\x01")?;
    session.expect("serial input goes to domain 0", SHORT)?;
    session.send_line("")?;
    session.expect_prompt(SHORT)?;
    let (_, rest) = said.split_once("system time ").context("no time")?;
    let ns: f64 = rest.trim_end_matches(" ns").parse()?;
    Ok((ns / 1e9, seen))
}

/// The TSCs' rate was measured far wrong: the platform clock corrects time on each CPU, and guests' timers work.
/// Without it, time is as wrong as the rate.
#[test]
#[ignore = "boots QEMU"]
fn the_platform_clock_corrects_tscs() -> Result<()> {
    for (word, name, cpus, right) in [
        ("hpet", "HPET", 1, 1.0),
        ("acpi", "ACPI PM timer", 2, 1.0),
        ("tsc", "TSC", 1, 2.0 / 3.0),
    ] {
        let machine = Machine {
            cpus,
            memory_mib: 512,
            ..Machine::default()
        };
        let words = format!("clocksource={word} wrong-tsc-rate=150");
        let media = media_with(&["ticks", "ticks.cfg"])?.and(&words);
        let mut session = Session::boot("hardware-clock", &media, &machine)?;
        session.expect(&format!("time: the {name} is the clock"), BOOT)?;
        session.expect_prompt(BOOT)?;
        session.send_line("create ticks.cfg -c")?;
        session.expect("^PASS ticks", SHORT)?;
        session.expect_prompt(SHORT)?;
        let (start, started) = system_time(&mut session)?;
        std::thread::sleep(Duration::from_secs(6));
        let (end, ended) = system_time(&mut session)?;
        let rate = (end - start) / (ended - started).as_secs_f64();
        let off = rate / right;
        ensure!((0.9..1.1).contains(&off), "{name}: {rate} times as fast");
        session.audit()?;
    }
    Ok(())
}

/// A CPU with a 9-bit APIC id runs vCPUs, in x2APIC mode, which has no other reason here.
#[test]
#[ignore = "boots QEMU"]
fn an_apic_id_above_254() -> Result<()> {
    let machine = Machine {
        cpu: "max,-hypervisor".to_owned(),
        cpus: 1,
        memory_mib: 512,
        ..Machine::default()
    };
    // The first core of the second socket has id 256.
    let machine = machine
        .with("-smp")
        .with("maxcpus=258,sockets=2,cores=129,threads=1")
        .with("-device")
        .with("max-x86_64-cpu,socket-id=1,core-id=0,thread-id=0");
    let media = media_with(&["smp", "smp.cfg"])?;
    let mut session = Session::boot("hardware-id", &media, &machine)?;
    session.expect("local APICs in x2APIC mode", BOOT)?;
    session.expect(r"\(xenlike\) 2 CPUs", BOOT)?;
    session.expect_prompt(BOOT)?;
    session.send_line("create smp.cfg -c")?;
    session.expect("^PASS smp", SHORT)?;
    session.expect_prompt(SHORT)?;
    session.audit()
}

/// Linux as domain 0 takes a CPU offline and online again; the first CPU stays online.
#[test]
#[ignore = "boots QEMU"]
fn cpus_go_and_come_back_by_sysfs() -> Result<()> {
    let mut session = boot("hardware-hot-plug", &Machine::default(), "")?;
    let online = "/sys/devices/system/xen_cpu/xen_cpu1/online";
    for (state, said) in [
        ("0", "CPU 1 is out of service"),
        ("1", "CPU 1 is back in service"),
    ] {
        session.send_line(&format!("echo {state} > {online}; cat {online}"))?;
        session.expect(said, SHORT)?;
        session.expect(&format!("^{state}$"), SHORT)?;
    }
    power_off(session)
}

/// A debug key prints what a fault report needs, with or without a running domain.
#[test]
#[ignore = "boots QEMU"]
fn a_debug_key_reports_the_machine() -> Result<()> {
    let mut session = boot("hardware-report", &Machine::default(), "")?;
    let said = asks_core(&mut session, "b")?;
    for line in [
        "command line: ",
        "stepping 0x3 microcode 0x",
        "CPU1: APIC id 1",
        "TSC ",
        "map: 0x000000100000 to ",
        "ACPI: FACP 244 bytes, sum 0x00",
        "ACPI: APIC 128 bytes, sum 0x00",
        "speculation: this CPU is open to neither",
    ] {
        ensure!(said.contains(line), "no '{line}' in:\n{said}");
    }
    // Prints the log twice; printing doesn't add to the log.
    for _ in 0..2 {
        let said = asks_core(&mut session, "w")?;
        let starts = said.matches("started by GRUB").count();
        ensure!(starts == 1 && said.contains("'b': what a report"), "{said}");
    }
    power_off(session)
}
