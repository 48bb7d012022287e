//! The table of commands.

use super::Front::{Cli, Shell};
use super::Place::{Both, Only};
use super::{Opt, Place, Verb};

/// The operation that a command performs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the table has a line about each")]
pub enum Op {
    Help,
    List,
    Info,
    Create,
    Destroy,
    Pause,
    Unpause,
    Shutdown,
    Reboot,
    Console,
    Wait,
    DomInfo,
    DomId,
    DomName,
    Rename,
    MemSet,
    MemMax,
    VcpuList,
    VcpuPin,
    VcpuSet,
    SysRq,
    Top,
    Trace,
    Uptime,
    Dmesg,
    DebugKeys,
    Version,
    Image,
    Manifest,
    BugReport,
    Ls,
    Cat,
    Sleep,
    History,
    PowerOff,
    Restart,
}

const JSON: Opt = flag('j', "json", "print JSON");
const WAIT: Opt = flag('w', "wait", "wait for the domain's end");
const ALL: Opt = flag('a', "all", "ask all domains");
/// Why the CLI has no commands for files and for leaving the machine.
const LINUX_HAS_IT: &str =
    "Linux has a command of its own for that; this one is for the bare Dom0's shell";

/// All commands, in the order of `help`.
pub const VERBS: &[Verb] = &[
    verb(
        Op::Help,
        "help",
        "[COMMAND]",
        &[],
        "this list, or a command's options",
    ),
    verb(
        Op::List,
        "list",
        "[DOMAIN]",
        &[
            JSON,
            flag(
                'l',
                "long",
                "print the domains' configurations, as JSON like xl's",
            ),
            flag('v', "verbose", "print UUIDs too"),
        ],
        "the domains: memory, vCPUs, state, time",
    ),
    verb(
        Op::DomInfo,
        "dominfo",
        "DOMAIN",
        &[JSON],
        "all about one domain",
    ),
    verb(
        Op::Info,
        "info",
        "",
        &[JSON],
        "the machine and the hypervisor",
    ),
    verb(
        Op::Create,
        "create",
        "[FILE] [KEY=VALUE...]",
        &[
            flag('c', "console", "enter its console"),
            flag('w', "wait", "show what it prints until it ends"),
            flag('p', "paused", "leave it paused"),
            flag(
                'n',
                "dryrun",
                "only check configuration and kernel, and say what would be created",
            ),
            flag('q', "quiet", "say nothing about progress"),
            with_value(
                'f',
                "defconfig",
                "FILE",
                "the configuration, as xl spells it too",
            ),
        ],
        "start a domain from a configuration; KEY=VALUE goes before the file's",
    ),
    verb(
        Op::Destroy,
        "destroy",
        "DOMAIN",
        &[],
        "end a domain at once",
    ),
    verb(
        Op::Pause,
        "pause",
        "DOMAIN",
        &[],
        "keep a domain from running",
    ),
    verb(
        Op::Unpause,
        "unpause",
        "DOMAIN",
        &[],
        "let a paused domain run",
    ),
    verb(
        Op::Shutdown,
        "shutdown",
        "[DOMAIN]",
        &[WAIT, ALL],
        "ask a domain to power off",
    ),
    verb(
        Op::Reboot,
        "reboot",
        "[DOMAIN]",
        &[WAIT, ALL],
        "ask a domain to start again",
    ),
    verb(
        Op::Console,
        "console",
        "DOMAIN",
        &[],
        "enter a domain's console; Ctrl-] leaves it",
    ),
    verb(
        Op::Wait,
        "wait",
        "DOMAIN [TEXT]",
        &[long_value("timeout", "SECONDS", "fail after so long")],
        "wait until a domain has ended, or printed a text",
    ),
    verb(Op::DomId, "domid", "DOMAIN", &[], "a domain's number"),
    verb(Op::DomName, "domname", "DOMAIN", &[], "a domain's name"),
    verb(
        Op::Rename,
        "rename",
        "DOMAIN NAME",
        &[],
        "give a domain another name",
    ),
    verb(
        Op::MemSet,
        "mem-set",
        "DOMAIN MIB",
        &[],
        "ask a domain to shrink or grow to so much memory; a number with k, m or g behind it works too",
    ),
    verb(
        Op::MemMax,
        "mem-max",
        "DOMAIN MIB",
        &[],
        "limit how much memory a domain may have",
    ),
    verb(
        Op::VcpuList,
        "vcpu-list",
        "[DOMAIN]",
        &[JSON],
        "the vCPUs: where they run, how long they ran",
    ),
    verb(
        Op::VcpuPin,
        "vcpu-pin",
        "DOMAIN VCPU|all CPUS|all",
        &[],
        "let vCPUs run on these CPUs alone: 0-3,5,^1",
    ),
    verb(
        Op::VcpuSet,
        "vcpu-set",
        "DOMAIN COUNT",
        &[],
        "ask a domain to use so many vCPUs",
    ),
    verb(
        Op::SysRq,
        "sysrq",
        "DOMAIN LETTER",
        &[],
        "press a Linux domain's magic SysRq key",
    ),
    verb(
        Op::Top,
        "top",
        "",
        &[
            JSON,
            flag('1', "once", "show it once"),
            long_value("delay", "SECONDS", "between two looks"),
            long_value("count", "NUMBER", "so many looks"),
        ],
        "who uses the CPUs",
    ),
    verb(
        Op::Trace,
        "trace",
        "[SECONDS]",
        &[
            with_value(
                'o',
                "output",
                "FILE",
                "where it goes, if not to trace.json; - is the terminal",
            ),
            long_value("from", "FILE", "convert a file of xentrace's instead"),
            long_value(
                "mhz",
                "NUMBER",
                "how fast the time-stamp counter was that --from is from",
            ),
        ],
        "record what happens on the CPUs, as JSON for Perfetto; the bare Dom0's shell prints it",
    ),
    verb(
        Op::Uptime,
        "uptime",
        "[DOMAIN]",
        &[JSON],
        "how long domains have run",
    ),
    verb(
        Op::Dmesg,
        "dmesg",
        "",
        &[flag('c', "clear", "empty it afterwards")],
        "the hypervisor's log",
    ),
    verb(
        Op::DebugKeys,
        "debug-keys",
        "KEYS",
        &[],
        "press keys of the hypervisor's console, whose answers are in `dmesg`; h lists them",
    ),
    verb(
        Op::Version,
        "version",
        "",
        &[JSON],
        "the hypervisor's version",
    ),
    verb(
        Op::Image,
        "image",
        "FILE",
        &[JSON],
        "what a kernel image says about itself",
    ),
    placed(
        Only(
            Cli,
            "a manifest is a file, and the bare Dom0 has nowhere to write one",
        ),
        verb(
            Op::Manifest,
            "manifest",
            "FILES...",
            &[with_value('o', "output", "FILE", "where it goes")],
            "make a manifest of configurations, for automatic start at boot",
        ),
    ),
    placed(
        Only(
            Cli,
            "it reads Linux's /proc and /sys; in the bare Dom0, `info` and `dmesg` tell what there is",
        ),
        verb(
            Op::BugReport,
            "bugreport",
            "",
            &[with_value(
                'o',
                "output",
                "FILE",
                "where it goes, if not to the terminal",
            )],
            "collect what a developer needs to know about this machine: no names, serial numbers or file contents",
        ),
    ),
    verb(Op::Sleep, "sleep", "SECONDS", &[], "wait a while"),
    shell_alone(Op::Ls, "ls", "", "the files: kernels and configurations"),
    shell_alone(Op::Cat, "cat", "FILE", "a file's text"),
    shell_alone(Op::History, "history", "", "the commands typed so far"),
    Verb {
        aliases: &["halt"],
        ..shell_alone(Op::PowerOff, "poweroff", "", "switch the machine off")
    },
    shell_alone(Op::Restart, "restart", "", "start the machine again"),
];

/// Commands of xl 4.20 that the table lacks.
pub(super) const XL_ONLY: &[&str] = &[
    "block-attach",
    "block-detach",
    "block-list",
    "button-press",
    "cd-eject",
    "cd-insert",
    "channel-list",
    "claims",
    "config-update",
    "cpupool-cpu-add",
    "cpupool-cpu-remove",
    "cpupool-create",
    "cpupool-destroy",
    "cpupool-list",
    "cpupool-migrate",
    "cpupool-numa-split",
    "cpupool-rename",
    "devd",
    "dump-core",
    "getenforce",
    "loadpolicy",
    "migrate",
    "migrate-receive",
    "network-attach",
    "network-detach",
    "network-list",
    "pci-assignable-add",
    "pci-assignable-list",
    "pci-assignable-remove",
    "pci-attach",
    "pci-detach",
    "pci-list",
    "psr-cat-set",
    "psr-cat-show",
    "psr-cmt-attach",
    "psr-cmt-detach",
    "psr-cmt-show",
    "psr-hwinfo",
    "psr-mba-set",
    "psr-mba-show",
    "qemu-monitor-command",
    "remus",
    "restore",
    "resume",
    "save",
    "sched-credit",
    "sched-credit2",
    "sched-rtds",
    "set-parameters",
    "setenforce",
    "sharing",
    "suspend",
    "trigger",
    "usb-list",
    "usbctrl-attach",
    "usbctrl-detach",
    "usbdev-attach",
    "usbdev-detach",
    "vdispl-attach",
    "vdispl-detach",
    "vdispl-list",
    "vkb-attach",
    "vkb-detach",
    "vkb-list",
    "vm-list",
    "vncviewer",
    "vsnd-attach",
    "vsnd-detach",
    "vsnd-list",
    "vtpm-attach",
    "vtpm-detach",
    "vtpm-list",
];

const fn flag(letter: char, name: &'static str, about: &'static str) -> Opt {
    Opt {
        letter: Some(letter),
        name,
        value: None,
        about,
    }
}

const fn with_value(
    letter: char,
    name: &'static str,
    value: &'static str,
    about: &'static str,
) -> Opt {
    Opt {
        letter: Some(letter),
        name,
        value: Some(value),
        about,
    }
}

const fn long_value(name: &'static str, value: &'static str, about: &'static str) -> Opt {
    Opt {
        letter: None,
        name,
        value: Some(value),
        about,
    }
}

const fn verb(
    op: Op,
    name: &'static str,
    words: &'static str,
    options: &'static [Opt],
    about: &'static str,
) -> Verb {
    Verb {
        name,
        aliases: &[],
        words,
        options,
        about,
        place: Both,
        op,
    }
}

const fn placed(place: Place, verb: Verb) -> Verb {
    Verb { place, ..verb }
}

const fn shell_alone(op: Op, name: &'static str, words: &'static str, about: &'static str) -> Verb {
    let options: &[Opt] = if matches!(op, Op::Ls) { &[JSON] } else { &[] };
    placed(
        Only(Shell, LINUX_HAS_IT),
        verb(op, name, words, options, about),
    )
}
