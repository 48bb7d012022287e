//! Hostile guests: each tries to break out, and is refused or dies. Afterwards the hypervisor works, a neighbour is
//! unharmed, and all memory of the dead guests is free again.

use anyhow::{Result, ensure};
use xenlike_tests::machine::Machine;
use xenlike_tests::monitor::Monitor;
use xenlike_tests::scenario::{
    GUEST, boot_to_prompt, free_frames, media_with, no_frame_is_lost, power_off, shell_with,
};
use xenlike_tests::session::Session;

/// Boots with a hostile guest's kernel and a running neighbour.
fn neighbourhood(name: &str, kernel: &str, cpus: u32) -> Result<Session> {
    neighbourhood_with(name, kernel, cpus, "")
}

/// Like [`neighbourhood`], with options for the hypervisor.
fn neighbourhood_with(name: &str, kernel: &str, cpus: u32, options: &str) -> Result<Session> {
    let files = [
        "hostile.cfg",
        kernel,
        "idle",
        "idle.cfg",
        "hello",
        "hello.cfg",
    ];
    let machine = Machine {
        cpus,
        ..Machine::default()
    };
    let mut session = boot_to_prompt(name, &media_with(&files)?.and(options), &machine)?;
    session.succeed("create idle.cfg", GUEST)?;
    session.succeed("wait idle \"until a line\"", GUEST)?;
    Ok(session)
}

/// Checks after an attack: the neighbour exists and answers, a guest can start, no memory is lost.
fn unharmed(mut session: Session, before: u64) -> Result<()> {
    session.send_line("create hello.cfg -c")?;
    session.expect("^PASS hello$", GUEST)?;
    session.expect_prompt(GUEST)?;
    no_frame_is_lost(&mut session, before)?;
    session.send_line("console idle")?;
    session.send_line("quit")?;
    session.expect("^PASS idle$", GUEST)?;
    session.expect_prompt(GUEST)?;
    power_off(session)
}

/// Runs a hostile guest until it ends, possibly by its crash.
fn attack(name: &str, kernel: &str, settings: &str, cpus: u32) -> Result<()> {
    let session = neighbourhood(name, kernel, cpus)?;
    attack_in(session, kernel, settings)
}

fn attack_in(mut session: Session, kernel: &str, settings: &str) -> Result<()> {
    let before = free_frames(&mut session)?;
    let program = kernel.trim_end_matches("-32");
    session.send_line(&format!(
        "create hostile.cfg name={program} kernel={kernel} {settings} -c"
    ))?;
    let printed = session.read_until("^xenlike> ", GUEST)?;
    let passed = printed.contains(&format!("PASS {program}"));
    // Random calls may end their own domain.
    let ended = program == "randcall" && printed.contains("[randcall ");
    ensure!(
        (passed || ended) && !printed.contains("FAIL"),
        "{kernel} printed:\n{printed}"
    );
    unharmed(session, before)
}

macro_rules! attacks {
    ($($name:ident: $kernel:literal, $settings:literal, $cpus:literal;)*) => {$(
        #[test]
        #[ignore = "boots QEMU"]
        fn $name() -> Result<()> {
            attack(concat!("hostile-", stringify!($name)), $kernel, $settings, $cpus)
        }
    )*};
}

attacks! {
    count: "hostile-count", "", 2;
    fifo: "hostile-fifo", "vcpus=2", 2;
    fifo_on_one_cpu: "hostile-fifo", "vcpus=2 extra=seed=7", 1;
    flood: "hostile-flood", "", 2;
    flood_on_one_cpu: "hostile-flood", "", 1;
    foreign: "hostile-foreign", "", 2;
    free: "hostile-free", "", 2;
    grants_race: "hostile-grants", "", 2;
    handler: "hostile-handler", "", 2;
    iret: "hostile-iret", "", 2;
    iret_callback: "hostile-iret", "extra=last=callback", 2;
    iret_user: "hostile-iret", "extra=last=user", 2;
    iret_stack: "hostile-iret", "extra=last=stack", 2;
    ldt: "hostile-ldt", "", 2;
    lengths: "hostile-lengths", "", 2;
    cpu_hog_on_one_cpu: "hostile-loop", "", 1;
    multicall: "hostile-multicall", "", 2;
    pagetable: "hostile-pagetable", "", 2;
    pin: "hostile-pin", "", 2;
    pointers: "hostile-pointers", "", 2;
    selfref: "hostile-selfref", "", 2;
    store: "hostile-store", "", 2;
    store_on_one_cpu: "hostile-store", "extra=seed=7", 1;
    random_calls: "randcall", "", 2;
    narrow_count: "hostile-count-32", "", 2;
    narrow_fifo: "hostile-fifo-32", "vcpus=2", 2;
    narrow_flood: "hostile-flood-32", "", 2;
    narrow_foreign: "hostile-foreign-32", "", 2;
    narrow_free: "hostile-free-32", "", 2;
    narrow_grants_race: "hostile-grants-32", "", 2;
    narrow_iret: "hostile-iret-32", "", 2;
    narrow_iret_callback: "hostile-iret-32", "extra=last=callback", 2;
    narrow_iret_stack: "hostile-iret-32", "extra=last=stack", 2;
    narrow_iret_stack_with_a_limit: "hostile-iret-32", r#"extra="last=odd stack=1""#, 2;
    narrow_iret_stack_with_a_base: "hostile-iret-32", r#"extra="last=odd stack=2""#, 2;
    narrow_iret_stack_that_wraps: "hostile-iret-32", r#"extra="last=odd stack=3""#, 2;
    narrow_iret_stack_down: "hostile-iret-32", r#"extra="last=odd stack=4""#, 2;
    narrow_iret_stack_of_16_bits: "hostile-iret-32", r#"extra="last=odd stack=5""#, 2;
    narrow_iret_ring0: "hostile-iret-32", "extra=last=ring0", 2;
    narrow_iret_handler_behind_the_table: "hostile-iret-32", r#"extra="last=handler cs=0xfff3""#, 1;
    narrow_iret_handler_behind_the_table_in_ring1: "hostile-iret-32", r#"extra="last=handler cs=0xfff1""#, 1;
    narrow_iret_handler_in_data: "hostile-iret-32", r#"extra="last=handler cs=0xe02b""#, 1;
    narrow_iret_handler_in_no_ldt: "hostile-iret-32", r#"extra="last=handler cs=0x15""#, 2;
    narrow_iret_vm86: "hostile-iret-32", "extra=last=vm86", 2;
    narrow_ldt: "hostile-ldt-32", "", 2;
    narrow_lengths: "hostile-lengths-32", "", 2;
    narrow_cpu_hog_on_one_cpu: "hostile-loop-32", "", 1;
    narrow_multicall: "hostile-multicall-32", "", 2;
    narrow_pagetable: "hostile-pagetable-32", "", 2;
    narrow_pin: "hostile-pin-32", "", 2;
    narrow_pointers: "hostile-pointers-32", "", 2;
    narrow_selfref: "hostile-selfref-32", "", 2;
    narrow_store: "hostile-store-32", "", 2;
    narrow_random_calls: "randcall-32", "", 2;
}

/// When a guest crashes, the shell refers to `dmesg`, so the log at least names the guest.
#[test]
#[ignore = "boots QEMU"]
fn a_guest_that_says_it_crashed_is_in_the_log() -> Result<()> {
    let mut session = shell_with("hostile-says", &["hostile.cfg", "hostile-iret"])?;
    let settings = "name=one kernel=hostile-iret extra=last=callback";
    session.send_line(&format!("create hostile.cfg {settings} -c"))?;
    session.expect(r"^\[one has crashed", GUEST)?;
    session.expect_prompt(GUEST)?;
    let log = session.succeed("dmesg", GUEST)?;
    ensure!(log.contains("(xenlike) d1 says that it crashed"), "{log}");
    power_off(session)
}

/// The option treats any CPU as vulnerable to L1 terminal fault.
#[test]
#[ignore = "boots QEMU"]
fn absent_entries() -> Result<()> {
    let session = neighbourhood_with("hostile-absent", "hostile-absent", 2, "pv-l1tf=domu")?;
    attack_in(session, "hostile-absent", "")
}

/// A guest never yields its CPU; the shell on the same CPU can still destroy it.
#[test]
#[ignore = "boots QEMU"]
fn a_hog_is_destroyed() -> Result<()> {
    let mut session = neighbourhood("hostile-hog", "hostile-loop", 1)?;
    let before = free_frames(&mut session)?;
    let settings = "name=hog kernel=hostile-loop extra=forever=1";
    session.succeed(&format!("create hostile.cfg {settings}"), GUEST)?;
    session.succeed("sleep 2", GUEST)?;
    session.succeed("destroy hog", GUEST)?;
    unharmed(session, before)
}

/// A guest keeps the store busy for ever; the shell and a neighbour on the same CPU still get their turns.
#[test]
#[ignore = "boots QEMU"]
fn a_flood_of_the_store_leaves_others_their_turns() -> Result<()> {
    let mut session = neighbourhood("hostile-store-flood", "hostile-store", 1)?;
    let before = free_frames(&mut session)?;
    let settings = "name=hostile-store kernel=hostile-store extra=forever=1";
    session.succeed(&format!("create hostile.cfg {settings}"), GUEST)?;
    session.succeed("wait hostile-store \"floods for ever\"", GUEST)?;
    session.succeed("create idle.cfg name=other", GUEST)?;
    session.succeed("wait other \"until a line\"", GUEST)?;
    let told = session.succeed("shutdown -w other", GUEST)?;
    ensure!(told.contains("[other has powered off]"), "{told}");
    session.succeed("destroy hostile-store", GUEST)?;
    unharmed(session, before)
}

fn inject_nmis(monitor: &Monitor) -> Result<()> {
    for _ in 0..50 {
        monitor.command("nmi")?;
    }
    Ok(())
}

/// NMIs hit a vCPU whose code segment has become absent from its table, and a process that makes system calls. The
/// machine and both guests survive.
fn nmis(name: &str, kernel: &str, machine: Machine, options: &str) -> Result<()> {
    let monitor = Monitor::new()?;
    let files = ["hostile.cfg", kernel, "user", "user.cfg"];
    let media = media_with(&files)?.and(options);
    let mut session = boot_to_prompt(name, &media, &monitor.on(machine))?;
    let settings = format!("name=hostile-nmi kernel={kernel}");
    session.send_line(&format!("create hostile.cfg {settings} -c"))?;
    session.expect("runs on a segment of its own", GUEST)?;
    inject_nmis(&monitor)?;
    let printed = session.read_until("^xenlike> ", GUEST)?;
    ensure!(printed.contains("PASS hostile-nmi"), "{printed}");
    session.send_line("create user.cfg -c")?;
    inject_nmis(&monitor)?;
    session.expect("^PASS user$", GUEST)?;
    session.expect_prompt(GUEST)?;
    let log = session.succeed("dmesg", GUEST)?;
    ensure!(log.contains("NMI of unknown cause"), "no NMI came:\n{log}");
    power_off(session)
}

#[test]
#[ignore = "boots QEMU"]
fn nmis_on_an_absent_segment() -> Result<()> {
    nmis("hostile-nmi", "hostile-nmi", Machine::default(), "")
}

#[test]
#[ignore = "boots QEMU"]
fn narrow_nmis_on_an_absent_segment() -> Result<()> {
    let kernel = "hostile-nmi-32";
    nmis("hostile-nmi-narrow", kernel, Machine::default(), "")
}

#[test]
#[ignore = "boots QEMU"]
fn nmis_on_hardened_paths() -> Result<()> {
    let machine = Machine {
        cpu: "Skylake-Client-v1,vendor=GenuineIntel,-smep".to_owned(),
        ..Machine::default()
    };
    nmis(
        "hostile-nmi-hardened",
        "hostile-nmi",
        machine,
        "spec-ctrl=pv,ssbd",
    )
}

/// From four vCPUs in two domains, on demand: `XENLIKE_CALLS=25000000 scripts/test qemu random_calls_many` makes 10^8
/// calls in all, with an audit at each 10^6.
#[test]
#[ignore = "boots QEMU"]
fn random_calls_many() -> Result<()> {
    let Ok(calls) = std::env::var("XENLIKE_CALLS") else {
        return Ok(());
    };
    let mut session = shell_with("hostile-random-many", &["hostile.cfg", "randcall"])?;
    let create = |name, console| {
        format!(
            "create hostile.cfg name={name} kernel=randcall \"extra=calls={calls} audit=4000000\" {console}"
        )
    };
    session.succeed(create("first", "").trim(), GUEST)?;
    session.send_line(&create("second", "-c"))?;
    for _ in 0..2 {
        let printed = session.read_until("^xenlike> ", GUEST * 600)?;
        println!("{}", printed.trim());
        let is_well = printed.contains("PASS randcall") && !printed.contains("FAIL");
        ensure!(is_well, "{printed}");
        session.send_line("console first")?;
    }
    session.expect_prompt(GUEST)?;
    power_off(session)
}
