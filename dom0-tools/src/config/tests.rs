//! Valid configurations as users write them, and broken ones.

use alloc::string::ToString;

use super::*;
use proptest::prelude::*;

#[test]
fn a_usual_file() {
    let text = b"# Debian\nname = 'debian'\ntype='pv'\nkernel='/boot/vmlinuz'\nramdisk='initrd'\nroot='/dev/xvda1 ro'\nextra='quiet'\nmemory=256\nmaxmem=512\nvcpus=2\nmaxvcpus=4\ncpus='0-1'\ncpu_weight=512\ncap=50\nuuid='00112233-4455-6677-8899-aabbccddeeff'\non_crash='preserve'\ndisk=[]\n";
    let Parsed {
        config, warnings, ..
    } = parse("debian.cfg", text, &[]).unwrap();
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
    let config = parse("/etc/xen/web.cfg", b"kernel='k'", &[])
        .unwrap()
        .config;
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
    let parsed = parse("a.cfg", text, &[]).unwrap();
    assert_eq!(parsed.config.cmdline, "b");
    let warnings = parsed.warnings.join("\n");
    assert!(
        warnings.contains("a.cfg:2: frobnicate= is ignored: there is no such key"),
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
            "a.cfg:2: memory must be a number, not \"much\"",
        ),
        ("memory=1", "a.cfg: no kernel= names the kernel image"),
        ("kernel=[1]", "a.cfg: no kernel= names the kernel image"),
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
        ("kernel='k'\nname='a/b'", "a.cfg:2: name=\"a/b\""),
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
        let error = parse("a.cfg", text.as_bytes(), &[])
            .unwrap_err()
            .to_string();
        assert!(error.starts_with(message), "{error}");
    }
    let long = alloc::format!("kernel='k'\nextra='{}'", "x".repeat(2000));
    assert!(
        parse("a.cfg", long.as_bytes(), &[])
            .unwrap_err()
            .cause
            .contains("longer than 1023")
    );
}

#[test]
fn atoms_are_text_or_number_as_it_is_wanted() {
    let text = b"kernel=1\nname=7\nextra=4\nvcpus='0x2'\nmemory='0100'\nbootloader=''\ncpus='node:0'\non_reboot='soft-reset'";
    let Parsed {
        config, warnings, ..
    } = parse("a.cfg", text, &[]).unwrap();
    assert_eq!((config.kernel.as_str(), config.name.as_str()), ("1", "7"));
    assert_eq!(config.cmdline, "4");
    assert_eq!((config.vcpus, config.memory_mib), (2, 64));
    assert_eq!(
        (config.pinning, config.on_reboot),
        (Pinning::Any, Action::Restart)
    );
    assert_eq!(warnings.len(), 2, "{warnings:?}");
}

#[test]
fn any_byte_may_stand_where_nobody_reads_it() {
    let parsed = parse("a.cfg", b"kernel='k' # \xff\nvnclisten='\xfe'", &[]);
    assert_eq!(parsed.unwrap().warnings.len(), 1);
    let error = parse("a.cfg", b"kernel='\xff'", &[]).unwrap_err();
    assert_eq!(error.to_string(), "a.cfg:1: kernel: its text is not UTF-8");
}

#[test]
fn every_key_that_changes_nothing_is_told_with_its_line() {
    for (key, words) in [
        ("tsc_mode", "not supported yet"),
        ("localtime", "not supported yet"),
        ("pool", "not supported yet"),
        ("vnclisten", "no effect on a PV domain"),
        ("vif", "no devices yet"),
        ("nomigrat", "no such key"),
    ] {
        let text = alloc::format!("kernel='k'\n{key}=1");
        let warnings = parse("a.cfg", text.as_bytes(), &[]).unwrap().warnings;
        let [warning] = &warnings[..] else {
            panic!("{warnings:?}");
        };
        assert!(warning.starts_with(&alloc::format!("a.cfg:2: {key}= is ignored")));
        assert!(warning.contains(words), "{warning}");
    }
}

#[test]
fn a_fault_comes_behind_the_warning_that_explains_it() {
    let error = parse("a.cfg", b"kernle='k'\nmemory=64\nvif=['']", &[]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "a.cfg: no kernel= names the kernel image"
    );
    assert_eq!(
        error.warnings,
        ["a.cfg:1: kernle= is ignored: there is no such key"]
    );
}

#[test]
fn what_the_command_line_says_is_not_in_the_file() {
    let words = ["memory='much'".to_string()];
    let error = parse("a.cfg", b"kernel='k'", &words).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("on the command line: memory must"),
        "{error}"
    );
    let words = ["extra+=' b'".to_string(), "frob=1".to_string()];
    let parsed = parse("a.cfg", b"kernel='k'\nextra='a'", &words).unwrap();
    assert_eq!(parsed.config.cmdline, "a b");
    assert!(parsed.warnings[0].starts_with("on the command line: frob="));
    assert_eq!(parsed.files[0].by, "a.cfg:1: kernel");
}

proptest! {
    #[test]
    fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse("a.cfg", &bytes, &[]);
    }

    #[test]
    fn any_key_may_hold_anything(
        key in "name|kernel|memory|vcpus|cpus|uuid|on_crash|type|extra|cap|cmdline|root|maxmem",
        value in "[0-9]{1,20}|'[^'\n]{0,20}'|\\[('a',|1,){0,3}\\]",
    ) {
        let _ = parse("a.cfg", alloc::format!("kernel='k'\n{key}={value}").as_bytes(), &[]);
    }
}

#[test]
fn each_end_has_its_action() {
    let text = b"kernel='k'\non_poweroff='preserve'\non_reboot='rename-restart'\non_crash='restart'\non_watchdog='preserve'";
    let config = parse("a.cfg", text, &[]).unwrap().config;
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
