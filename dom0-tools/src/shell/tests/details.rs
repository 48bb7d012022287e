//! Commands that show configurations, kernels and domains, and that change domains.

use super::*;

#[test]
fn a_dry_run_is_told_in_words() {
    let mut session = Session::started();
    let said = session.run("create -n keep.cfg maxmem=16 vcpus=2 cpus=0");
    for line in [
        "name            : keep\n",
        "UUID            : chosen at creation\n",
        "kernel          : k: 1 KiB, 64-bit, linux\n",
        "memory          : 8 MiB, at most 16\n",
        "vCPUs           : 2\n",
        "runs on         : CPUs 0\n",
        "at a crash      : it stays as it is\n",
    ] {
        assert!(said.contains(line), "no {line:?} in {said}");
    }
    assert!(!said.contains("Some(") && !said.contains('{'), "{said}");
    assert_eq!(session.domains(), 1);
    assert!(
        session
            .run("create -n bad.cfg")
            .contains("error: kernel bad: neither")
    );
    assert!(
        session
            .run("create -n web.cfg memory=1")
            .contains("memory of 1 MiB is too small")
    );
    let image = session.run("image k");
    assert!(
        image.contains("It can be a PV guest.\n") && !image.contains("Some("),
        "{image}"
    );
}

#[test]
fn a_narrow_kernel_needs_a_hypervisor_that_runs_it() {
    let mut session = Session::started();
    let image = session.run("image k32");
    assert!(image.contains("width           : 32-bit\n"), "{image}");
    let said = session.run("create -n narrow.cfg");
    assert!(said.contains(" KiB, 32-bit, linux\n"), "{said}");
    session.run("create narrow.cfg");
    assert_eq!(session.domains(), 2);
    session.shell.platform().fake.caps = "xen-3.0-x86_64 ";
    let said = session.run("create narrow.cfg name='n2'");
    let words = "error: kernel k32: a 32-bit PV kernel, which this hypervisor does not run (its xen_caps lack \
                 xen-3.0-x86_32p)\n";
    assert!(said.contains(words), "{said}");
    assert_eq!(session.domains(), 2);
}

#[test]
fn one_domain_is_told_about() {
    let mut session = Session::started();
    session.run("xl create -q -f web.cfg extra='a=b' maxvcpus=2");
    let said = session.run("dominfo web");
    for line in [
        "name            : web\n",
        "number          : 1\n",
        "state           : ready to run\n",
        "vCPUs up        : 1 of 2\n",
        "command line    : a=b\n",
    ] {
        assert!(said.contains(line), "no {line:?} in {said}");
    }
    assert!(session.run("dominfo web -j").contains("\"max_vcpus\": 2"));
    assert!(
        session
            .run("dominfo 0")
            .contains("name            : Domain-0\n")
    );
    assert_eq!(session.run("domid web"), "1\nxenlike> ");
    assert_eq!(session.run("domname 1"), "web\nxenlike> ");
    let long = session.run("list -l web");
    assert!(
        long.contains("\"cmdline\": \"a=b\"") && long.contains("\"domid\": 1"),
        "{long}"
    );
    assert!(session.run("list -v").contains("UUID\n"));
    assert_eq!(
        session.run("rename web Domain-0"),
        "error: Domain-0: there is a domain of that name already\nxenlike> "
    );
    assert!(session.run("rename web a/b").contains("and no `/`"));
    assert_eq!(session.run("rename web site"), "xenlike> ");
    assert_eq!(session.run("domid site"), "1\nxenlike> ");
    assert!(
        session
            .run("domid web")
            .starts_with("error: web: there is no domain")
    );
    assert_eq!(session.run("debug-keys hq"), "xenlike> ");
    assert_eq!(session.shell.platform().fake.keys, b"hq");
}
