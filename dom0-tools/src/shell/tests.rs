//! Sessions with the shell on a fake machine.

mod asking;
mod details;

use alloc::borrow::Cow;
use alloc::vec;
use core::cell::{Cell, RefCell};

use guest_pv_abi::domctl::{XEN_DOMINF_SHUTDOWN, XEN_DOMINF_SHUTDOWNSHIFT};
use guest_pv_abi::{Errno, sched};

use super::*;
use crate::config;
use crate::hyper::fake::Fake;
use crate::hyper::{Arena, Mfn};
use crate::image::narrow_tests::{BASE, narrow_kernel, notes};
use crate::image::tests::{kernel, linux_notes};
use crate::store::Page;
use crate::store::fake::End;

#[derive(Default)]
struct Screen(RefCell<Vec<u8>>);

impl Terminal for Screen {
    fn print(&self, text: &[u8]) {
        self.0.borrow_mut().extend_from_slice(text);
    }
}

struct Disk(Vec<(&'static str, Vec<u8>)>);

impl Files for Disk {
    fn read(&self, name: &str) -> Result<Cow<'_, [u8]>, String> {
        let file = self.0.iter().find(|(known, _)| *known == name);
        file.map(|(_, bytes)| Cow::Borrowed(&bytes[..]))
            .ok_or_else(|| format!("{name}: no such file"))
    }
}

impl FileList for Disk {
    fn list(&self) -> Vec<(String, u64)> {
        self.0
            .iter()
            .map(|(name, bytes)| (name.to_string(), bytes.len() as u64))
            .collect()
    }
}

/// A console ring of a domain: its output, and the keys that it was sent.
#[derive(Default)]
struct Wire {
    out: RefCell<Vec<u8>>,
    keys: RefCell<Vec<u8>>,
    room: Cell<usize>,
}

type Wires = Rc<RefCell<Vec<(DomId, Rc<Wire>)>>>;

/// The guests' ends of their Xenstore rings.
type Ends = Rc<RefCell<Vec<End>>>;

struct FakeRing(Rc<Wire>);

impl Ring for FakeRing {
    fn take(&mut self, output: &mut Vec<u8>) {
        output.append(&mut self.0.out.borrow_mut());
    }

    fn give(&mut self, keys: &[u8]) -> usize {
        let taken = keys.len().min(self.0.room.get());
        self.0.keys.borrow_mut().extend_from_slice(&keys[..taken]);
        self.0.room.set(self.0.room.get() - taken);
        taken
    }
}

struct Machine {
    fake: Fake,
    screen: Rc<Screen>,
    disk: Rc<Disk>,
    now: Rc<Cell<u64>>,
    wires: Wires,
    ends: Ends,
    left: Option<Leave>,
}

impl Hypercalls for Machine {
    fn arena(&mut self) -> Arena<'_> {
        self.fake.arena()
    }

    fn call(&mut self, number: u64, args: [u64; 5]) -> Result<u64, Errno> {
        self.fake.call(number, args)
    }

    fn with_frames(
        &mut self,
        dom: DomId,
        frames: &[Mfn],
        access: &mut dyn FnMut(&mut [u8]),
    ) -> Result<(), Errno> {
        self.fake.with_frames(dom, frames, access)
    }

    fn read_frames(
        &mut self,
        dom: DomId,
        frames: &[Mfn],
        look: &mut dyn FnMut(&[u8]),
    ) -> Result<(), Errno> {
        self.fake.read_frames(dom, frames, look)
    }
}

impl Platform for Machine {
    fn terminal(&self) -> Rc<dyn Terminal> {
        self.screen.clone()
    }

    fn now_ns(&self) -> u64 {
        self.now.get()
    }

    fn files(&self) -> Rc<dyn FileList> {
        self.disk.clone()
    }

    fn open_console(&mut self, created: &Created) -> Result<Box<dyn Ring>, CallError> {
        let wire = Rc::new(Wire::default());
        wire.room.set(1000);
        self.wires.borrow_mut().push((created.id, wire.clone()));
        Ok(Box::new(FakeRing(wire)))
    }

    fn open_store(&mut self, created: &Created) -> Result<Box<dyn Page>, CallError> {
        assert!(created.store_port.is_some());
        let end = End::new();
        let page = end.shared.clone();
        self.ends.borrow_mut().push(end);
        Ok(Box::new(page))
    }

    fn leave(&mut self, how: Leave) {
        self.left = Some(how);
    }
}

struct Session {
    shell: Shell<Machine>,
    screen: Rc<Screen>,
    now: Rc<Cell<u64>>,
    wires: Wires,
    ends: Ends,
}

impl Session {
    fn new() -> Session {
        let files = vec![
            ("k", kernel(b"text", &linux_notes())),
            ("k32", narrow_kernel(b"text", &notes(BASE, b"yes\0"))),
            ("narrow.cfg", b"kernel='k32'\nmemory=8".to_vec()),
            ("web.cfg", b"kernel='k'\nmemory=8\nfrobnicate=1".to_vec()),
            (
                "loop.cfg",
                b"kernel='k'\nmemory=8\non_poweroff='restart'".to_vec(),
            ),
            (
                "keep.cfg",
                b"kernel='k'\nmemory=8\non_crash='preserve'".to_vec(),
            ),
            ("big.cfg", b"kernel='k'\nmemory=80000".to_vec()),
            ("none.cfg", b"kernel='nowhere'".to_vec()),
            ("bad.cfg", b"kernel='bad'".to_vec()),
            ("bad", b"x".to_vec()),
        ];
        let (screen, now, wires, ends) = (
            Rc::new(Screen::default()),
            Rc::new(Cell::new(0)),
            Rc::default(),
            Ends::default(),
        );
        let machine = Machine {
            fake: Fake::new(1 << 16),
            screen: screen.clone(),
            disk: Rc::new(Disk(files)),
            now: now.clone(),
            wires: Rc::clone(&wires),
            ends: Rc::clone(&ends),
            left: None,
        };
        Session {
            shell: Shell::new(machine),
            screen,
            now,
            wires,
            ends,
        }
    }

    fn started() -> Session {
        let mut session = Session::new();
        session.shell.start(None);
        assert_eq!(session.shown(), "xenlike> ");
        session
    }

    fn shown(&mut self) -> String {
        String::from_utf8(core::mem::take(&mut *self.screen.0.borrow_mut()))
            .unwrap()
            .replace('\r', "")
    }

    /// Types a line and returns the output after its echo.
    fn run(&mut self, line: &str) -> String {
        self.shell.input(line.as_bytes());
        self.shell.input(b"\r");
        let shown = self.shown();
        shown
            .strip_prefix(&format!("{line}\n"))
            .unwrap_or(&shown)
            .to_string()
    }

    fn wire(&self) -> Rc<Wire> {
        self.wires.borrow().last().unwrap().1.clone()
    }

    fn prints(&mut self, text: &str) {
        self.wire()
            .out
            .borrow_mut()
            .extend_from_slice(text.as_bytes());
        self.shell.poll();
    }

    fn ends(&mut self, code: u32) {
        let id = self.wires.borrow().last().unwrap().0;
        let flags = XEN_DOMINF_SHUTDOWN | code << XEN_DOMINF_SHUTDOWNSHIFT;
        self.shell
            .platform()
            .fake
            .domains
            .get_mut(&id.0)
            .unwrap()
            .flags = flags;
        self.shell.look_for_ends();
    }

    fn domains(&mut self) -> usize {
        self.shell.platform().fake.domains.len()
    }
}

#[test]
fn a_domain_s_life() {
    let mut session = Session::started();
    let free = session.shell.platform().fake.free;
    let text = session.run("create web.cfg");
    assert_eq!(
        text,
        "warning: web.cfg:3: frobnicate= is ignored: there is no such key\nxenlike> "
    );
    let list = session.run("list");
    assert!(
        list.contains("Name      ID  Mem  VCPUs   State  Time(s)\n"),
        "{list}"
    );
    assert!(
        list.contains("\nweb        1    8      1  ------      1.5\n"),
        "{list}"
    );
    session.run("pause web");
    assert!(session.run("list web").contains("--p---"));
    session.run("unpause 1");
    assert_eq!(
        session.run("unpause web"),
        "error: web: the domain is not paused\nxenlike> "
    );
    assert!(
        session
            .run("create web.cfg")
            .ends_with("error: web: there is a domain of that name already\nxenlike> ")
    );
    assert_eq!(session.run("destroy web"), "xenlike> ");
    assert_eq!(session.domains(), 1);
    assert_eq!(session.shell.platform().fake.free, free);
    assert!(
        session
            .run("destroy web")
            .starts_with("error: web: there is no domain")
    );
}

#[test]
fn a_console_is_entered_and_left() {
    let mut session = Session::started();
    session.run("create web.cfg");
    session.prints("early words\r\n");
    assert_eq!(session.shown(), "");
    assert_eq!(session.run("console web"), "early words\n");
    session.prints("login: ");
    assert_eq!(session.shown(), "login: ");
    session.shell.input(b"root\r\x1dlist\r");
    assert_eq!(&*session.wire().keys.borrow(), b"root\r");
    assert!(session.shown().starts_with("\nxenlike> list\nName"));
    session.prints("more");
    assert_eq!(session.run("console 1"), "more");
    // Keys without room in the ring wait.
    session.wire().room.set(2);
    session.shell.input(b"abcd");
    assert!(session.wire().keys.borrow().ends_with(b"ab"));
    session.wire().room.set(9);
    session.shell.poll();
    assert!(session.wire().keys.borrow().ends_with(b"abcd"));
}

#[test]
fn last_words_are_kept() {
    let mut session = Session::started();
    session.run("create web.cfg");
    session
        .wire()
        .out
        .borrow_mut()
        .extend_from_slice(b"goodbye");
    session.ends(sched::SHUTDOWN_POWEROFF);
    assert_eq!(session.domains(), 1);
    assert_eq!(session.shown(), "");
    assert_eq!(
        session.run(""),
        "\n[web has powered off]\nxenlike> ".trim_start()
    );
    assert_eq!(
        session.run("console web"),
        "goodbye\n[web has ended; this is what it printed]\nxenlike> "
    );
}

#[test]
fn an_attached_console_sees_the_end() {
    let mut session = Session::started();
    assert!(session.run("create web.cfg -c").starts_with("warning"));
    session
        .wire()
        .out
        .borrow_mut()
        .extend_from_slice(b"web: passed\n");
    session.ends(sched::SHUTDOWN_POWEROFF);
    assert_eq!(
        session.shown(),
        "web: passed\n[web has powered off]\nxenlike> "
    );
}

#[test]
fn a_reboot_keeps_the_console() {
    let mut session = Session::started();
    session.run("create web.cfg -c");
    session.prints("one");
    session.ends(sched::SHUTDOWN_REBOOT);
    assert_eq!(session.shown(), "one[web reboots]\n");
    session.prints("two");
    assert_eq!(session.shown(), "two");
    session.shell.input(b"\x1d");
    assert!(session.run("list").contains("\nweb        1"));
    session.run("destroy web");
    session.run("create loop.cfg -p");
    session.ends(sched::SHUTDOWN_POWEROFF);
    assert_eq!(session.domains(), 2);
}

#[test]
fn a_crash_is_told_and_may_be_preserved() {
    let mut session = Session::started();
    session.run("create keep.cfg --wait");
    session.ends(sched::SHUTDOWN_CRASH);
    let shown = session.shown();
    assert!(shown.ends_with("[keep has crashed (`dmesg` may tell why)]\nerror: keep has crashed (`dmesg` may tell why)\nxenlike> "), "{shown}");
    assert!(session.run("list keep").contains("----c-"));
    session.shell.look_for_ends();
    assert_eq!(session.run("destroy keep"), "xenlike> ");
    assert_eq!(session.domains(), 1);
}

#[test]
fn errors_are_one_line() {
    let mut session = Session::started();
    for (line, words) in [
        ("frobnicate", "error: frobnicate: no such command"),
        ("create", "error: usage: create [-c] "),
        ("lsit", "error: lsit: no such command; did you mean `list`?"),
        ("manifest x", "error: manifest: a manifest is a file"),
        (
            "mem-set 0 64",
            "error: Domain-0 is this shell's own domain: mem-set",
        ),
        ("create x.cfg", "error: x.cfg: no such file"),
        (
            "create none.cfg",
            "error: none.cfg:1: kernel: nowhere: no such file",
        ),
        ("create bad.cfg", "error: kernel bad: neither"),
        (
            "create big.cfg",
            "error: not enough free memory: the domain wants 80000 MiB",
        ),
        (
            "create web.cfg memory=1",
            "error: web: memory of 1 MiB is too small",
        ),
        ("create web.cfg memory", "error: memory: not KEY=VALUE"),
        (
            "destroy Domain-0",
            "error: Domain-0 is this shell's own domain",
        ),
        ("console 0", "error: Domain-0's console"),
        ("shutdown web", "error: web: there is no domain"),
        ("list --xml", "error: unknown option --xml"),
        ("wait 'x", "error: a ' is not closed"),
        ("sleep long", "error: sleep wants"),
    ] {
        let shown = session.run(line);
        let errors = shown
            .lines()
            .filter(|line| line.starts_with("error: "))
            .count();
        assert!(errors == 1 && shown.contains(words), "{line}: {shown}");
        assert!(shown.ends_with("\nxenlike> "), "{line}: {shown}");
    }
    assert_eq!(session.domains(), 1);
}

#[test]
fn scripts_run_and_leave() {
    let mut session = Session::new();
    session
        .shell
        .start(Some("version; create web.cfg --wait\nwhat\n"));
    session.prints("hi\n");
    session.ends(sched::SHUTDOWN_POWEROFF);
    let shown = session.shown();
    let wanted = "xenlike> version\nxenlike 0.1.0, Xen ABI 4.20.0-fake\n[exec] status 0\nxenlike> create web.cfg --wait\n";
    assert!(shown.starts_with(wanted), "{shown}");
    let wanted = "hi\n[web has powered off]\n[exec] status 0\nxenlike> what\nerror: what: no such command; `help` lists them\n[exec] status 1\n";
    assert!(shown.contains(wanted), "{shown}");
    assert_eq!(session.shell.platform().left, Some(Leave::PowerOff));
    assert!(session.shell.left());
}

#[test]
fn waiting_has_a_limit() {
    let mut session = Session::started();
    session.run("create web.cfg");
    assert_eq!(session.run("wait web 'is ready' --timeout=5"), "");
    session.prints("it is re");
    session.prints("ady\n");
    assert_eq!(session.shown(), "xenlike> ");
    session.run("wait web nothing --timeout=5");
    assert_eq!(session.shell.alarm(), Some(5_000_000_000));
    session.now.set(5_000_000_000);
    session.shell.poll();
    assert_eq!(session.shown(), "error: that took too long\nxenlike> ");
    session.run("wait web");
    session.ends(sched::SHUTDOWN_POWEROFF);
    assert!(session.shown().ends_with("xenlike> "));
    assert_eq!(session.run("wait web ready"), "xenlike> ");
    session.run("sleep 3");
    session.shell.input(&[INTERRUPT]);
    assert_eq!(session.shown(), "error: interrupted\nxenlike> ");
}

#[test]
fn views_print() {
    let mut session = Session::started();
    session.run("create web.cfg");
    let info = session.run("info");
    assert!(
        info.contains("nr_cpus                 : 2\n")
            && info.contains("free_frames             : "),
        "{info}"
    );
    assert!(session.run("info --json").contains("\"free_frames\": "));
    assert!(session.run("list --json").contains("\"name\": \"web\""));
    assert!(session.run("vcpu-list").contains("---      0.2  all\n"));
    assert!(session.run("dmesg").starts_with("(xen) hello\n"));
    assert!(session.run("ls").contains("web.cfg"));
    assert!(session.run("cat web.cfg").contains("memory=8"));
    assert_eq!(session.run("vcpu-pin 0 all 0"), "xenlike> ");
    assert!(
        session
            .run("vcpu-pin 0 9 0")
            .contains("error: vCPU 9: the domain has only ")
    );
    assert!(
        session
            .run("vcpu-pin 0 x 0")
            .contains("error: vCPU x: neither a number nor `all`")
    );
    assert!(
        session
            .run("vcpu-pin 0 0 77")
            .contains("error: 77: this machine has only CPUs 0-")
    );
    assert!(session.run("help").contains("  vcpu-list    the vCPUs"));
    assert!(session.run("uptime").contains("Domain-0"));
    assert!(
        session
            .run("uptime web --json")
            .starts_with("[\n  {\n    \"name\": \"web\"")
    );
    assert!(
        session
            .run("version --json")
            .contains("\"xen_abi\": \"4.20")
    );
    session.run("top");
    session.now.set(1_000_000_000);
    session.shell.poll();
    assert!(session.shown().contains("CPU(%)"));
    session.shell.input(b"q");
    assert_eq!(session.shown(), "xenlike> ");
    session.run("top --json -1");
    session.now.set(2_000_000_000);
    session.shell.poll();
    let shown = session.shown();
    let line = shown.strip_suffix("\nxenlike> ").unwrap();
    assert!(
        line.starts_with("[{\"name\":") && line.ends_with("}]") && !line.contains('\n'),
        "{line}"
    );
    session.shell.input(b"crea\tweb.\t");
    assert_eq!(session.shown(), "create web.cfg ");
}

#[test]
fn a_manifest_starts_its_domains() {
    let mut session = Session::new();
    let read = |text: &str| {
        config::parse("one.cfg", text.as_bytes(), &[])
            .unwrap()
            .config
    };
    let domains = vec![
        read("kernel='k'\nmemory=8"),
        read("name='two'\nkernel='x'"),
        read("name='3rd'\nkernel='k'\nmemory=9"),
    ];
    session.shell.start_manifest(&Manifest { domains });
    assert_eq!(
        session.shown(),
        "one is running\nerror: x: no such file\n3rd is running\n"
    );
    assert_eq!(session.domains(), 3);
}
