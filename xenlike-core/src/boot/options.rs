//! The hypervisor's command line. Spelling and meaning follow Xen's.

mod known;

use core::str::FromStr;

use arrayvec::ArrayVec;
use log::warn;

use super::{microcode, speculation};
use crate::arch::power::Method;
use crate::arch::speculation::wishes::Wishes;
use crate::console::level::Levels;
use crate::console::serial::Setting;
use crate::grant::{Offer, Version};
use crate::sched::name::Name;

/// Options for the toolstack or for a later part of the boot, and options that GRUB's scripts add. They have no effect
/// here, and deserve no warning.
const ELSEWHERE: [&str; 8] = [
    "placeholder",
    "no-real-mode",
    "edd",
    "dom0_mem",
    "dom0_max_vcpus",
    "dom0_vcpus_pin",
    "shell",
    "exec",
];

/// The number of complaints that are kept.
const MAX_COMPLAINTS: usize = 16;

/// Xen's consoles behind a USB controller.
const USB: [&str; 3] = ["dbgp", "ehci", "xhci"];
/// The names of clocks: in Xen's `clocksource=`, and of [`crate::arch::calibrate::Reference`].
const CLOCKS: [(&str, &str); 4] = [
    ("hpet", "HPET"),
    ("acpi", "ACPI PM timer"),
    ("pit", "PIT"),
    ("tsc", TSC),
];
/// The name of the TSC as a clock.
pub const TSC: &str = "TSC";
const ONLY_MEASURES: &str = "the PIT is never the clock; it just measures the TSC's rate";
const NO_USB: &str = "debug ports of USB controllers (EHCI, xHCI) are not supported; use com1=...,pci, com1=...,amt or vga";

/// The choices that the command line makes.
#[derive(Clone, Debug)]
pub struct Options {
    /// The serial port that is used as a console.
    pub serial: Option<Setting>,
    /// Whether the screen is used as a console.
    pub screen: bool,
    /// Whether the screen stays in use when Linux is domain 0.
    pub keep_screen: bool,
    /// The levels of the core's own messages that are shown.
    pub own_levels: Levels,
    /// The levels of messages about guests that are shown.
    pub guest_levels: Levels,
    /// Whether to halt after a panic or a shutdown, instead of restarting.
    pub noreboot: bool,
    /// The way to restart the machine that is tried first.
    pub reboot: Option<Method>,
    /// The name of the clock that measures the TSC's rate and is the source of time, if the machine has it.
    pub clock: Option<&'static str>,
    /// The number of CPUs to use (`maxcpus=`); 1 with `nosmp`, whatever else is given.
    pub max_cpus: usize,
    /// Whether x2APIC mode is used, if the command line says so.
    pub x2apic: Option<bool>,
    /// Whether CPUID faults for domain 0 too, on a CPU with that feature.
    pub dom0_cpuid_faulting: bool,
    /// The choices about speculation.
    pub speculation: Wishes,
    /// The source of newer microcode.
    pub microcode: microcode::Wish,
    /// The number of pages of each CPU's trace buffer; with 0, boot makes no buffers.
    pub trace_pages: u32,
    /// A mask of the events that are traced; 0 for all.
    pub traced_events: u32,
    /// The features of grant tables that guests may use.
    pub grants: Offer,
    /// The name by which toolstacks know the scheduler.
    pub scheduler: Name,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            serial: None,
            screen: true,
            keep_screen: false,
            own_levels: Levels::OWN,
            guest_levels: Levels::GUEST,
            noreboot: false,
            reboot: None,
            clock: None,
            max_cpus: usize::MAX,
            x2apic: None,
            dom0_cpuid_faulting: true,
            speculation: Wishes::default(),
            microcode: microcode::Wish::default(),
            grants: Offer::ALL,
            trace_pages: 0,
            traced_events: 0,
            scheduler: Name::Credit2,
        }
    }
}

/// A part of the command line that was not understood.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Complaint<'a> {
    /// There is no such option, and Xen doesn't have it either.
    Unknown(&'a str),
    /// Xen has this option, but it has no effect here.
    NotHere(&'a str),
    /// The value of an option is malformed: option, value.
    BadValue(&'a str, &'a str),
    /// Xen's option or value for something that is not supported here: the word, and what to do instead.
    Missing(&'a str, &'static str),
}

/// The result of parsing a command line.
pub struct Parsed<'a> {
    /// The choices, with defaults for what was not given.
    pub options: Options,
    /// The first complaints, in the order of the words.
    pub complaints: ArrayVec<Complaint<'a>, MAX_COMPLAINTS>,
}

/// The words of a command line. Double quotes keep blanks together.
pub fn words(cmdline: &str) -> impl Iterator<Item = &str> {
    let mut rest = cmdline;
    core::iter::from_fn(move || {
        rest = rest.trim_start();
        let mut quoted = false;
        let ends = |c: char| {
            quoted ^= c == '"';
            c.is_ascii_whitespace() && !quoted
        };
        let end = rest.find(ends).unwrap_or(rest.len());
        let (word, tail) = rest.split_at(end);
        rest = tail;
        (!word.is_empty()).then_some(word)
    })
}

/// The words that are options: all words before ` -- `.
fn option_words(cmdline: &str) -> impl Iterator<Item = &str> {
    words(cmdline).take_while(|word| *word != "--")
}

/// The last value given to `name`; an empty text for a word without a value.
pub fn value<'a>(cmdline: &'a str, name: &str) -> Option<&'a str> {
    let split = |word: &'a str| word.split_once('=').unwrap_or((word, ""));
    option_words(cmdline)
        .map(split)
        .filter(|(n, _)| *n == name)
        .last()
        .map(|(_, v)| v)
}

/// A boolean in Xen's spellings; an empty text is true.
pub(super) fn boolean(text: &str) -> Option<bool> {
    match text {
        "" | "yes" | "on" | "true" | "enable" | "1" => Some(true),
        "no" | "off" | "false" | "disable" | "0" => Some(false),
        _ => None,
    }
}

/// A number in Xen's format: decimal, or hexadecimal with `0x`.
fn number(text: &str) -> Option<u32> {
    match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

/// The option that a word names, and its value. As on Xen, `no-` before a name gives it the value "no".
fn named(word: &str) -> (&str, &str) {
    match (word.split_once('='), word.strip_prefix("no-")) {
        (Some(pair), _) => pair,
        (None, Some(name)) if !ELSEWHERE.contains(&word) => (name, "no"),
        (None, _) => (word, ""),
    }
}

/// A console without Xen's suffix for a port that a debugger shares: `com1H` and `com1L`.
fn port_of(console: &str) -> &str {
    match console.strip_suffix(['H', 'L']) {
        Some(port) if port.starts_with("com") => port,
        _ => console,
    }
}

fn is_console(console: &str) -> bool {
    ["com1", "com2", "vga", "none"].contains(&port_of(console))
}

/// Parses a command line.
pub fn parse(cmdline: &str) -> Parsed<'_> {
    let mut options = Options::default();
    let mut complaints = ArrayVec::new();
    let (mut com1, mut com2, mut consoles) = (Setting::COM1, Setting::COM2, "com1,vga");
    let mut nosmp = false;
    for word in option_words(cmdline) {
        let (name, value) = named(word);
        let understood = match name {
            "console" => read_console(value, &mut consoles, &mut complaints),
            "dbgp" => {
                let _ = complaints.try_push(Complaint::Missing(name, NO_USB));
                true
            }
            // GRUB chooses the video mode.
            "vga" => {
                options.keep_screen = value.split(',').any(|word| word == "keep");
                true
            }
            "com1" => com1.parse(value).map(|s| com1 = s).is_ok(),
            "com2" => com2.parse(value).map(|s| com2 = s).is_ok(),
            "loglvl" => Levels::parse(value)
                .map(|levels| options.own_levels = levels)
                .is_some(),
            "guest_loglvl" => Levels::parse(value)
                .map(|levels| options.guest_levels = levels)
                .is_some(),
            "noreboot" => boolean(value).map(|b| options.noreboot = b).is_some(),
            "reboot" => read_reboot(value, &mut options),
            "clocksource" => {
                options.clock = CLOCKS.iter().find(|(n, _)| *n == value).map(|(_, n)| *n);
                if value == "pit" {
                    let _ = complaints.try_push(Complaint::Missing(word, ONLY_MEASURES));
                }
                options.clock.is_some()
            }
            "x2apic" => boolean(value).map(|b| options.x2apic = Some(b)).is_some(),
            "nosmp" => boolean(value).map(|b| nosmp = b).is_some(),
            "maxcpus" => usize::from_str(value)
                .map(|n| options.max_cpus = n.max(1))
                .is_ok(),
            "spec-ctrl" | "xpti" | "pv-l1tf" => read_speculation(name, value, &mut options),
            "dom0" => read_dom0(value, &mut options),
            "ucode" => microcode::parse(value, options.microcode)
                .map(|wish| options.microcode = wish)
                .is_some(),
            "tbuf_size" => number(value).map(|n| options.trace_pages = n).is_some(),
            "tevt_mask" => number(value).map(|n| options.traced_events = n).is_some(),
            "sched" => Name::parse(value)
                .map(|name| options.scheduler = name)
                .is_some(),
            "gnttab" => read_grants(value, &mut options.grants),
            name if ELSEWHERE.contains(&name) => true,
            name => {
                let complaint = if known::is_xens(name) {
                    Complaint::NotHere(name)
                } else {
                    Complaint::Unknown(name)
                };
                let _ = complaints.try_push(complaint);
                true
            }
        };
        if !understood {
            let _ = complaints.try_push(Complaint::BadValue(name, value));
        }
    }
    if nosmp {
        options.max_cpus = 1;
    }
    let uses = |name: &str| consoles.split(',').any(|c| port_of(c) == name);
    options.screen = uses("vga");
    options.serial = if uses("com1") {
        Some(com1)
    } else {
        uses("com2").then_some(com2)
    };
    Parsed {
        options,
        complaints,
    }
}

/// Reads `console=`. If it names no known console, the default ones stay, so that the complaint can be seen.
fn read_console<'a>(
    value: &'a str,
    consoles: &mut &'a str,
    complaints: &mut ArrayVec<Complaint<'a>, MAX_COMPLAINTS>,
) -> bool {
    if value.split(',').any(is_console) {
        *consoles = value;
    }
    if let Some(usb) = value.split(',').find(|c| USB.contains(c)) {
        let _ = complaints.try_push(Complaint::Missing(usb, NO_USB));
    }
    let mut others = value.split(',').filter(|c| !USB.contains(c));
    others.all(is_console)
}

/// Reads `reboot=`, of whose words the first letter counts. UEFI's runtime services are not called, so `efi` is an
/// error; `cold` has no effect, because a restart is always a cold one.
fn read_reboot(value: &str, options: &mut Options) -> bool {
    value.split(',').all(|word| {
        let method = match word.chars().next() {
            Some('a') => Method::Acpi,
            Some('k') => Method::Keyboard,
            Some('p') => Method::Pci,
            Some('P') => Method::PowerCycle,
            Some('t') => Method::TripleFault,
            Some('c') => return true,
            Some('n') => {
                options.noreboot = true;
                return true;
            }
            _ => return false,
        };
        options.reboot = Some(method);
        true
    })
}

/// Reads `dom0=`. Domain 0 is always a PV domain; Xen's other words for one have no effect.
fn read_dom0(value: &str, options: &mut Options) -> bool {
    value.split(',').all(|part| {
        match speculation::flag(part) {
            Some(("cpuid-faulting", yes)) => options.dom0_cpuid_faulting = yes,
            Some(("pv", true) | ("pvh" | "shadow", false) | ("verbose" | "msr-relaxed", _)) => {}
            _ => return false,
        }
        true
    })
}

/// Reads `gnttab=`; returns false if it is malformed.
fn read_grants(value: &str, offer: &mut Offer) -> bool {
    value.split(',').all(|part| {
        let version = part
            .split_once(':')
            .filter(|(name, _)| matches!(*name, "max-ver" | "max_ver"));
        if let Some((_, number)) = version {
            let known = number.parse().ok().and_then(Version::of_number);
            return known.map(|version| offer.version = version).is_some();
        }
        match speculation::flag(part) {
            Some(("transitive", yes)) => offer.transitive = yes,
            Some(("transfer", yes)) => offer.transfer = yes,
            _ => return false,
        }
        true
    })
}

/// Reads an option about speculation; returns false if it is malformed.
fn read_speculation(name: &str, value: &str, options: &mut Options) -> bool {
    let mut wishes = options.speculation;
    let read = match name {
        "xpti" => speculation::xpti(value, wishes.xpti).map(|wish| wishes.xpti = wish),
        "pv-l1tf" => speculation::per_domain(value, wishes.pv_l1tf).map(|w| wishes.pv_l1tf = w),
        _ => speculation::spec_ctrl(value, wishes).map(|all| wishes = all),
    };
    options.speculation = wishes;
    read.is_some()
}

/// Logs what was not understood.
pub fn complain(complaints: &[Complaint<'_>]) {
    for complaint in complaints {
        match complaint {
            Complaint::Unknown(name) => warn!("command line: there is no option '{name}'"),
            Complaint::NotHere(name) => {
                warn!("command line: Xen's option '{name}' has no effect here");
            }
            Complaint::BadValue(name, value) => {
                warn!("command line: '{name}' can't be '{value}'");
            }
            Complaint::Missing(word, instead) => warn!("command line: '{word}': {instead}"),
        }
    }
}

#[cfg(test)]
mod tests;
