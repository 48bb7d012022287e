//! The friendly sample guests: each ends with a line that says that its claim held.

use anyhow::{Context, Result, ensure};
use xenlike_tests::machine::Machine;
use xenlike_tests::scenario::{
    GUEST, SHORT, boot_to_prompt, free_frames, media_with, no_frame_is_lost, power_off, shell_with,
};
use xenlike_tests::session::Session;

/// Creates a guest with its console attached and waits for its own verdict.
fn passes(session: &mut Session, guest: &str) -> Result<()> {
    session.send_line(&format!("create {guest}.cfg -c"))?;
    let program = guest.trim_end_matches("-32");
    let verdict = session.expect(&format!("^(PASS|FAIL) {program}.*$"), GUEST)?;
    ensure!(verdict.starts_with("PASS"), "{verdict}");
    session.expect_prompt(GUEST)
}

/// Runs one guest on a machine of its own, and checks that all of its memory is free again.
fn sample(guest: &str, cpus: u32) -> Result<()> {
    let config = format!("{guest}.cfg");
    let machine = Machine {
        cpus,
        ..Machine::default()
    };
    let media = media_with(&[guest, &config])?;
    let mut session = boot_to_prompt(&format!("sample-{guest}-{cpus}"), &media, &machine)?;
    passes(&mut session, guest)?;
    let before = free_frames(&mut session)?;
    passes(&mut session, guest)?;
    no_frame_is_lost(&mut session, before)?;
    power_off(session)
}

macro_rules! samples {
    ($($name:ident: $guest:literal, $cpus:literal;)*) => {$(
        #[test]
        #[ignore = "boots QEMU"]
        fn $name() -> Result<()> {
            sample($guest, $cpus)
        }
    )*};
}

samples! {
    hello_1_cpu: "hello", 1;
    hello_2_cpus: "hello", 2;
    ticks_1_cpu: "ticks", 1;
    ticks_2_cpus: "ticks", 2;
    smp_1_cpu: "smp", 1;
    smp_4_cpus: "smp", 4;
    ldt_1_cpu: "ldt", 1;
    ldt_2_cpus: "ldt", 2;
    user_1_cpu: "user", 1;
    user_2_cpus: "user", 2;
    narrow_hello: "hello-32", 2;
    narrow_ticks: "ticks-32", 1;
    narrow_smp_1_cpu: "smp-32", 1;
    narrow_smp_4_cpus: "smp-32", 4;
    narrow_user: "user-32", 2;
}

const INTEL: &str = "max,vendor=GenuineIntel";
const WAYS_ON_INTEL: &str = "^int 0x80 1001, sysenter 1000, syscall 0$";
const AMD: &str = "max,vendor=AuthenticAMD";
const WAYS_ON_AMD: &str = "^int 0x80 1001, sysenter 0, syscall 1000$";

/// 32-bit processes on a CPU of each vendor, as their system calls differ.
fn user32(name: &str, kernel: &str, cpu: &str, ways: &str) -> Result<()> {
    let machine = Machine {
        cpu: cpu.to_owned(),
        ..Machine::default()
    };
    let media = media_with(&[kernel, "user32.cfg"])?;
    let mut session = boot_to_prompt(name, &media, &machine)?;
    session.send_line(&format!("create user32.cfg kernel={kernel} -c"))?;
    session.expect(ways, GUEST)?;
    session.expect("^PASS user32$", GUEST)?;
    session.expect_prompt(GUEST)?;
    power_off(session)
}

#[test]
#[ignore = "boots QEMU"]
fn user32_on_intel() -> Result<()> {
    let (cpu, ways) = (INTEL, WAYS_ON_INTEL);
    user32("sample-user32-intel", "user32", cpu, ways)?;
    user32("sample-user32-32-intel", "user32-32", cpu, ways)
}

#[test]
#[ignore = "boots QEMU"]
fn user32_on_amd() -> Result<()> {
    let (cpu, ways) = (AMD, WAYS_ON_AMD);
    user32("sample-user32-amd", "user32", cpu, ways)?;
    user32("sample-user32-32-amd", "user32-32", cpu, ways)
}

/// Processes of guests of both widths that share one CPU keep their registers. None of them makes a system call
/// meanwhile, so each switch happens in user mode.
#[test]
#[ignore = "boots QEMU"]
fn processes_keep_their_registers() -> Result<()> {
    const PROCESSES: [(&str, &str, u32); 4] = [
        ("one", "preempt", 1),
        ("two", "preempt-32", 2),
        ("three", "preempt", 3),
        ("four", "preempt-32", 4),
    ];
    let machine = Machine {
        cpus: 1,
        ..Machine::default()
    };
    let media = media_with(&["hello.cfg", "preempt", "preempt-32"])?;
    let mut session = boot_to_prompt("sample-preempt", &media, &machine)?;
    let before = free_frames(&mut session)?;
    for (name, kernel, seed) in PROCESSES {
        let settings = format!("name={name} kernel={kernel} extra=seed={seed}");
        session.succeed(&format!("create hello.cfg {settings}"), GUEST)?;
    }
    for (name, ..) in PROCESSES {
        let printed = session.succeed(&format!("console {name}"), GUEST)?;
        ensure!(printed.contains("PASS preempt"), "{name}:\n{printed}");
    }
    no_frame_is_lost(&mut session, before)?;
    power_off(session)
}

/// Output that a domain printed before its console was attached, or before it died, is kept.
#[test]
#[ignore = "boots QEMU"]
fn output_is_kept_for_a_late_reader() -> Result<()> {
    let mut session = shell_with("sample-late-reader", &["hello", "hello.cfg"])?;
    session.succeed("create hello.cfg", GUEST)?;
    session.send_line("console hello")?;
    session.expect("^PASS hello$", GUEST)?;
    session.expect_prompt(SHORT)?;
    power_off(session)
}

/// Two domains with a granted page and an event channel, each 64-bit or 32-bit ("-32").
fn pingpong_between(server: &str, client: &str) -> Result<()> {
    let server = format!("pingpong-server{server}");
    let client = format!("pingpong-client{client}");
    let configs = [&server, &client].map(|domain| format!("{domain}.cfg"));
    let files = ["pingpong", "pingpong-32", &configs[0], &configs[1]];
    let mut session = shell_with(&format!("sample-{server}-{client}"), &files)?;
    let before = free_frames(&mut session)?;
    session.succeed(&format!("create {server}.cfg"), GUEST)?;
    session.send_line(&format!("create {client}.cfg -c"))?;
    let rate = session.expect("^[0-9]+ messages, [0-9]+ per second$", GUEST)?;
    println!("{rate}");
    session.expect("^PASS pingpong client$", GUEST)?;
    session.expect_prompt(GUEST)?;
    session.send_line(&format!("console {server}"))?;
    session.expect("^PASS pingpong server$", GUEST)?;
    session.expect_prompt(GUEST)?;
    no_frame_is_lost(&mut session, before)?;
    power_off(session)
}

#[test]
#[ignore = "boots QEMU"]
fn pingpong() -> Result<()> {
    pingpong_between("", "")
}

#[test]
#[ignore = "boots QEMU"]
fn narrow_pingpong() -> Result<()> {
    pingpong_between("-32", "-32")
}

#[test]
#[ignore = "boots QEMU"]
fn narrow_pingpong_with_a_wide_client() -> Result<()> {
    pingpong_between("-32", "")
}

/// The shell prints a trace as JSON, with domain 0's running times and hypercalls.
#[test]
#[ignore = "boots QEMU"]
fn the_shell_prints_a_trace() -> Result<()> {
    let mut session = shell_with("shell-trace", &["hello", "hello.cfg"])?;
    let printed = session.succeed("trace 1", GUEST)?;
    let start = printed.find('{').context("no JSON")?;
    let end = printed.rfind('}').context("no JSON")?;
    let text = printed.get(start..=end).unwrap_or_default();
    let json: serde_json::Value = serde_json::from_str(text).with_context(|| text.to_owned())?;
    let events = json["traceEvents"].as_array().context("no events")?;
    let has = |name: &str, kind: &str| {
        events
            .iter()
            .any(|event| event["name"] == name && event["ph"] == kind)
    };
    ensure!(has("d0v0", "X") && has("sched_op", "i"), "{text}");
    // Tracing can be started and stopped repeatedly.
    session.succeed("trace 0", GUEST)?;
    session.audit()?;
    power_off(session)
}

/// Buffers that the command line requests are used by the shell too, and have traced the boot.
#[test]
#[ignore = "boots QEMU"]
fn traces_from_boot() -> Result<()> {
    let media = media_with(&["hello"])?.and("tbuf_size=16 tevt_mask=0x2f000");
    let mut session = boot_to_prompt("boot-trace", &media, &Machine::default())?;
    let log = session.succeed("dmesg", SHORT)?;
    ensure!(
        log.contains("trace buffers: 16 pages on each of 2 CPUs"),
        "{log}"
    );
    let printed = session.succeed("trace 0", GUEST)?;
    ensure!(printed.contains("[trace: "), "{printed}");
    session.audit()?;
    power_off(session)
}

/// `info` reports the CPU's support for other kinds of guests, although a PV domain's CPUID hides it.
#[test]
#[ignore = "boots QEMU"]
fn info_tells_of_hardware_virtualisation() -> Result<()> {
    let told = [
        ("max", "SVM: usable; nested paging: NPT"),
        ("max,-npt", "SVM: usable; nested paging: none"),
        ("max,-svm", "none (no VT-x, no SVM)"),
    ];
    for (cpu, sentence) in told {
        let machine = Machine {
            cpu: cpu.to_owned(),
            ..Machine::default()
        };
        let mut session = boot_to_prompt("info-virt", &media_with(&["hello"])?, &machine)?;
        let printed = session.succeed("info", SHORT)?;
        ensure!(printed.contains(sentence), "{cpu}: {printed}");
        power_off(session)?;
    }
    Ok(())
}
