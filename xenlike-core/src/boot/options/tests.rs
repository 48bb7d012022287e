//! Options as a person writes them on the command line, and what comes of them.

use super::*;
use std::vec::Vec;

#[test]
fn grant_tables() {
    let grants = |line| {
        let parsed = parse(line);
        (parsed.options.grants, parsed.complaints.len())
    };
    let old = Offer {
        version: Version::V1,
        ..Offer::ALL
    };
    assert_eq!(grants("gnttab=max-ver:2"), (Offer::ALL, 0));
    assert_eq!(grants("gnttab=max-ver:1"), (old, 0));
    let none = Offer {
        transitive: false,
        transfer: false,
        ..old
    };
    let line = "gnttab=max_ver:1,transitive=no,no-transfer";
    assert_eq!(grants(line), (none, 0));
    assert_eq!(grants("gnttab=max-ver:3"), (Offer::ALL, 1));
    assert_eq!(grants("gnttab=off"), (Offer::ALL, 1));
}

#[test]
fn the_scheduler_has_two_names() {
    let scheduler = |line| {
        let parsed = parse(line);
        (parsed.options.scheduler, parsed.complaints.len())
    };
    assert_eq!(scheduler(""), (Name::Credit2, 0));
    assert_eq!(scheduler("sched=credit"), (Name::Credit, 0));
    assert_eq!(scheduler("sched=credit sched=credit2"), (Name::Credit2, 0));
    assert_eq!(scheduler("sched=rtds"), (Name::Credit2, 1));
}

#[test]
fn a_debian_line_is_accepted_silently() {
    let line = "placeholder console=com1,vga com1=115200,8n1 dom0_mem=512M,max:512M loglvl=all no-real-mode edd=off";
    let parsed = parse(line);
    assert!(parsed.complaints.is_empty(), "{:?}", parsed.complaints);
    assert_eq!(parsed.options.serial, Some(Setting::COM1));
    assert!(parsed.options.screen && !parsed.options.keep_screen);
    assert!(parse("vga=text-80x25,keep").options.keep_screen);
    assert_eq!(value(line, "dom0_mem"), Some("512M,max:512M"));
}

#[test]
fn what_is_not_understood_is_named() {
    let parsed = parse("loglvl=loud frobnicate=1 noreboot maxcpus=two -- anything");
    let expected = [
        Complaint::BadValue("loglvl", "loud"),
        Complaint::Unknown("frobnicate"),
        Complaint::BadValue("maxcpus", "two"),
    ];
    assert_eq!(parsed.complaints.as_slice(), expected);
    assert!(parsed.options.noreboot);
}

#[test]
fn usb_debug_ports_are_refused_by_a_sentence() {
    let parsed = parse("console=dbgp,vga dbgp=xhci,share=yes");
    let missing = ["dbgp", "dbgp"].map(|word| Complaint::Missing(word, NO_USB));
    assert_eq!(parsed.complaints.as_slice(), missing);
    assert!(parsed.options.screen && parsed.options.serial.is_none());
}

#[test]
fn clocks_have_the_names_of_xen() {
    for word in ["hpet", "acpi", "tsc"] {
        let line = std::format!("clocksource={word}");
        let parsed = parse(&line);
        assert!(parsed.options.clock.is_some() && parsed.complaints.is_empty());
    }
    let answer = Complaint::Missing("clocksource=pit", ONLY_MEASURES);
    assert_eq!(parse("clocksource=pit").complaints.as_slice(), [answer]);
    let unknown = Complaint::BadValue("clocksource", "cyclone");
    assert_eq!(
        parse("clocksource=cyclone").complaints.as_slice(),
        [unknown]
    );
}

#[test]
fn traces_from_boot() {
    let traced = |line| {
        let parsed = parse(line);
        let ok = parsed.complaints.is_empty();
        (ok, parsed.options.trace_pages, parsed.options.traced_events)
    };
    assert_eq!(
        traced("tbuf_size=16 tevt_mask=0x2f000"),
        (true, 16, 0x2f000)
    );
    assert_eq!(traced(""), (true, 0, 0));
    assert!(!traced("tbuf_size=many").0 && !traced("tevt_mask=0xg").0);
}

#[test]
fn ways_to_restart() {
    assert_eq!(parse("reboot=acpi,cold").options.reboot, Some(Method::Acpi));
    assert_eq!(parse("reboot=P").options.reboot, Some(Method::PowerCycle));
    assert!(parse("reboot=no").options.noreboot);
    for unknown in ["reboot=efi", "reboot=warm", "reboot="] {
        assert_eq!(parse(unknown).complaints.len(), 1, "{unknown}");
    }
}

#[test]
fn domain_0() {
    let faulting = |line| {
        let parsed = parse(line);
        let ok = parsed.complaints.is_empty();
        (ok, parsed.options.dom0_cpuid_faulting)
    };
    assert_eq!(faulting("dom0=pv,verbose"), (true, true));
    assert_eq!(faulting("dom0=no-cpuid-faulting"), (true, false));
    assert!(!faulting("dom0=pvh").0);
}

#[test]
fn xens_options_are_known_by_name() {
    let parsed = parse("iommu=off no-apicv ivrs_ioapic[3]=00:14.0 ucode=scan");
    let names = ["iommu", "apicv", "ivrs_ioapic[3]"];
    assert_eq!(parsed.complaints.as_slice(), names.map(Complaint::NotHere));
    let parsed = parse("no-frobnicate no-x2apic");
    assert_eq!(
        parsed.complaints.as_slice(),
        [Complaint::Unknown("frobnicate")]
    );
    assert_eq!(parsed.options.x2apic, Some(false));
}

#[test]
fn one_cpu_is_one_in_either_order() {
    for line in ["nosmp maxcpus=4", "maxcpus=4 nosmp", "nosmp"] {
        assert_eq!(parse(line).options.max_cpus, 1, "{line}");
    }
    assert_eq!(parse("maxcpus=4 nosmp=off").options.max_cpus, 4);
}

#[test]
fn a_complaint_has_a_console() {
    let consoles = |line| {
        let options = parse(line).options;
        (options.serial, options.screen)
    };
    assert_eq!(consoles("console=com1L,vga"), (Some(Setting::COM1), true));
    assert_eq!(consoles("console=com2H"), (Some(Setting::COM2), false));
    assert_eq!(consoles("console=hvc0"), (Some(Setting::COM1), true));
    assert_eq!(consoles("console=vga,hvc0"), (None, true));
    assert_eq!(consoles("console=none"), (None, false));
    assert_eq!(parse("console=vga,hvc0").complaints.len(), 1);
}

#[test]
fn quotes_keep_words_together() {
    let found: Vec<_> = words("  exec=\"list; info\"  noreboot ").collect();
    assert_eq!(found, ["exec=\"list; info\"", "noreboot"]);
}

#[test]
fn no_serial_port_when_none_is_asked_for() {
    assert_eq!(parse("console=vga").options.serial, None);
    assert_eq!(parse("console=com2").options.serial, Some(Setting::COM2));
    assert!(!parse("console=com1").options.screen);
}
