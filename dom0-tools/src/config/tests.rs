//! Configurations as people write them, and as they break them.

use alloc::string::ToString;

use super::*;
use proptest::prelude::*;

#[test]
fn a_usual_file() {
    let text = b"# Debian\nname = 'debian'\ntype='pv'\nkernel='/boot/vmlinuz'\nramdisk='initrd'\nroot='/dev/xvda1 ro'\nextra='quiet'\nmemory=256\nmaxmem=512\nvcpus=2\nmaxvcpus=4\ncpus='0-1'\ncpu_weight=512\ncap=50\nuuid='00112233-4455-6677-8899-aabbccddeeff'\non_crash='preserve'\ndisk=[]\n";
    let Parsed { config, warnings } = parse("debian.cfg", text).unwrap();
    assert_eq!(warnings, [""; 0]);
    assert_eq!(config.cmdline, "root=/dev/xvda1 ro quiet");
    assert_eq!((config.memory_mib, config.max_memory_mib), (256, 512));
    assert_eq!((config.vcpus, config.max_vcpus), (2, 4));
    assert_eq!((config.weight, config.cap), (Some(512), Some(50)));
    assert_eq!(config.uuid.unwrap()[..3], [0, 0x11, 0x22]);
    assert_eq!(
        (config.on_crash, config.on_reboot),
        (Action::Preserve, Action::Restart)
    );
    assert!(matches!(config.pinning, Pinning::All(ref set) if set.to_string() == "0,1"));
}

#[test]
fn defaults_are_xl_s() {
    let config = parse("/etc/xen/web.cfg", b"kernel='k'").unwrap().config;
    assert_eq!(config.name, "web");
    assert_eq!(
        (config.memory_mib, config.vcpus, config.max_vcpus),
        (128, 1, 1)
    );
    assert_eq!(
        (config.on_poweroff, config.on_crash),
        (Action::Destroy, Action::Destroy)
    );
}

#[test]
fn odd_keys_warn_and_do_not_stop() {
    let text = b"kernel='k'\nfrobnicate=1\ndisk=['phy:/dev/x,xvda,w']\nextra='a'\ncmdline='b'";
    let parsed = parse("a.cfg", text).unwrap();
    assert_eq!(parsed.config.cmdline, "b");
    let warnings = parsed.warnings.join("\n");
    assert!(
        warnings.contains("a.cfg:2: unknown key frobnicate"),
        "{warnings}"
    );
    assert!(warnings.contains("a.cfg:3: disk= is ignored"), "{warnings}");
    assert!(
        warnings.contains("extra= are ignored beside cmdline="),
        "{warnings}"
    );
}

#[test]
fn faults_are_sentences() {
    for (text, message) in [
        (
            "kernel='k'\nmemory='much'",
            "a.cfg:2: memory must be a number, not a string",
        ),
        ("memory=1", "a.cfg: no kernel= names the kernel image"),
        ("kernel=1", "a.cfg:1: kernel must be a string, not a number"),
        ("kernel='k'\ntype='hvm'", "a.cfg:2: type=\"hvm\": only PV"),
        (
            "kernel='k'\nmemory=0",
            "a.cfg:2: memory=0 is not between 1 and 16777216",
        ),
        (
            "kernel='k'\nmemory=64\nmaxmem=32",
            "a.cfg: maxmem=32 is less than memory=64",
        ),
        (
            "kernel='k'\nvcpus=4\nmaxvcpus=2",
            "a.cfg: maxvcpus=2 is less than vcpus=4",
        ),
        ("kernel='k'\nname='0'", "a.cfg:2: name=\"0\""),
        (
            "kernel='k'\non_reboot='dance'",
            "a.cfg:2: on_reboot=\"dance\": choose",
        ),
        ("kernel='k'\ncpus='9-1'", "a.cfg:2: cpus: CPU range 9-1"),
        ("kernel='k'\nuuid='12'", "a.cfg:2: uuid=\"12\""),
        (
            "kernel='k'\nbootloader='pygrub'",
            "a.cfg:2: bootloader= is not supported",
        ),
    ] {
        let error = parse("a.cfg", text.as_bytes()).unwrap_err().to_string();
        assert!(error.starts_with(message), "{error}");
    }
    let error = parse("a.cfg", b"kernel='k'\n\xff\xfe")
        .unwrap_err()
        .to_string();
    assert_eq!(error, "a.cfg:2: not a text file (bytes that are not UTF-8)");
    let long = alloc::format!("kernel='k'\nextra='{}'", "x".repeat(2000));
    assert!(
        parse("a.cfg", long.as_bytes())
            .unwrap_err()
            .cause
            .contains("longer than 1023")
    );
}

proptest! {
    #[test]
    fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse("a.cfg", &bytes);
    }

    #[test]
    fn any_key_may_hold_anything(
        key in "name|kernel|memory|vcpus|cpus|uuid|on_crash|type|extra|cap|cmdline|root|maxmem",
        value in "[0-9]{1,20}|'[^'\n]{0,20}'|\\[('a',|1,){0,3}\\]",
    ) {
        let _ = parse("a.cfg", alloc::format!("kernel='k'\n{key}={value}").as_bytes());
    }
}

#[test]
fn each_end_has_its_action() {
    let text = b"kernel='k'\non_poweroff='preserve'\non_reboot='rename-restart'\non_crash='restart'\non_watchdog='preserve'";
    let config = parse("a.cfg", text).unwrap().config;
    let actions = [
        (Ending::PowerOff, Action::Preserve),
        (Ending::Reboot, Action::RenameRestart),
        (Ending::Crash, Action::Restart),
        (Ending::Watchdog, Action::Preserve),
        (Ending::Suspend, Action::Preserve),
        (Ending::Other(99), Action::Destroy),
    ];
    for (ending, action) in actions {
        assert_eq!(config.action_at(ending), action, "{ending:?}");
    }
}
