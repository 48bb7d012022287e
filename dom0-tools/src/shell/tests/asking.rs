//! `shutdown` and `reboot`, with guests that watch, don't watch, or don't react.

use guest_pv_abi::io_xenbus as xs;

use super::*;
use crate::store::fake::request;

const LISTENS_NOT: &str = "error: web: its kernel does not listen to requests; use its own command in `console web`, or `destroy web`\nxenlike> ";

impl Session {
    /// Sends a request of the newest guest to the store; returns the messages that it then receives.
    fn asks(&mut self, kind: u32, payload: &str) -> Vec<(u32, String)> {
        let put = |end: &mut End| {
            let message = request(kind, 1, payload.as_bytes());
            assert_eq!(end.put(&message), message.len());
        };
        self.ends.borrow_mut().last_mut().map(put).unwrap();
        self.shell.poll();
        self.hears()
    }

    /// The messages in the ring of the newest guest.
    fn hears(&mut self) -> Vec<(u32, String)> {
        let mut ends = self.ends.borrow_mut();
        let end = ends.last_mut().unwrap();
        end.take(1024);
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let messages = end.messages().into_iter();
        messages
            .map(|(header, payload)| (header.type_, text(payload)))
            .collect()
    }

    /// What Linux does when it starts: it watches the node, and declares its features.
    fn listens(&mut self) {
        let heard = self.asks(xs::XS_WATCH, "control/shutdown\0token\0");
        assert_eq!(heard.len(), 2, "{heard:?}");
        assert_eq!(
            self.asks(xs::XS_WRITE, "control/feature-poweroff\x001")[0].1,
            "OK\0"
        );
    }

    /// What Linux does with a request: it reads the node and empties it.
    fn takes_up(&mut self, wish: &str) {
        assert_eq!(
            self.hears(),
            [(xs::XS_WATCH_EVENT, "control/shutdown\0token\0".to_string())]
        );
        assert_eq!(self.asks(xs::XS_READ, "control/shutdown\0")[0].1, wish);
        assert_eq!(self.asks(xs::XS_WRITE, "control/shutdown\0")[0].1, "OK\0");
    }
}

#[test]
fn a_guest_that_listens_is_told() {
    let mut session = Session::started();
    session.run("create web.cfg");
    session.listens();
    assert_eq!(session.run("shutdown web"), "");
    session.takes_up("poweroff");
    assert_eq!(session.shown(), "xenlike> ");
    session.ends(sched::SHUTDOWN_POWEROFF);
    assert_eq!(
        session.run("list web"),
        "error: web: there is no domain of that name or number\n[web has powered off]\nxenlike> "
    );
    assert_eq!(session.domains(), 1);
}

#[test]
fn a_reboot_is_waited_for() {
    let mut session = Session::started();
    session.run("create web.cfg");
    session.listens();
    assert_eq!(session.run("reboot -w web"), "");
    session.takes_up("reboot");
    assert_eq!(session.shown(), "");
    session.ends(sched::SHUTDOWN_REBOOT);
    assert_eq!(session.shown(), "[web reboots]\nxenlike> ");
    // The new domain has a store of its own, and does not watch yet.
    assert_eq!(session.ends.borrow().len(), 2);
    assert_eq!(session.asks(xs::XS_READ, "name\0")[0].1, "web");
    assert_eq!(session.run("shutdown web"), LISTENS_NOT);
    session.listens();
    session.run("shutdown web");
    session.takes_up("poweroff");
}

#[test]
fn a_guest_that_does_not_answer_is_told_of() {
    let mut session = Session::started();
    session.run("create web.cfg");
    assert_eq!(session.run("shutdown web"), LISTENS_NOT);
    session.listens();
    assert_eq!(session.run("shutdown -w web"), "");
    assert_eq!(session.shell.alarm(), Some(10_000_000_000));
    session.now.set(10_000_000_000);
    session.shell.poll();
    assert_eq!(
        session.shown(),
        LISTENS_NOT.replace(
            "does not listen to requests",
            "has not taken the request up"
        )
    );
    session.hears();
    // When it wakes after all, it finds no request.
    assert_eq!(session.asks(xs::XS_READ, "control/shutdown\0")[0].1, "");
    session.run("reboot web");
    session.shell.input(&[INTERRUPT]);
    assert_eq!(session.shown(), "error: interrupted\nxenlike> ");
    assert_eq!(
        session.run("shutdown"),
        "error: usage: shutdown [-w] [-a] [DOMAIN]\nxenlike> "
    );
    assert_eq!(
        session.run("shutdown -a web"),
        "error: usage: shutdown [-w] [-a] [DOMAIN]\nxenlike> "
    );
}

#[test]
fn all_are_asked() {
    let mut session = Session::started();
    assert_eq!(session.run("shutdown -a"), "xenlike> ");
    session.run("create web.cfg");
    session.run("create web.cfg name=two");
    session.listens();
    assert_eq!(session.run("shutdown -a -w"), "");
    session.takes_up("poweroff");
    session.ends(sched::SHUTDOWN_POWEROFF);
    assert_eq!(
        session.shown(),
        LISTENS_NOT.replace("xenlike> ", "[two has powered off]\nxenlike> ")
    );
}

#[test]
fn a_guest_that_floods_its_ring_leaves_the_shell_its_turn() {
    let mut session = Session::started();
    session.run("create web.cfg");
    let flood: Vec<u8> = (0..64).flat_map(|id| request(99, id, b"")).collect();
    session.ends.borrow_mut().last_mut().unwrap().put(&flood);
    session.shell.poll();
    // More work is left, for which no event will come.
    assert_eq!(session.shell.alarm(), Some(0));
    assert!(session.run("list").contains("\nweb "));
    while session.shell.alarm().is_some() {
        session.hears();
        session.shell.poll();
    }
}

/// Other nodes that Linux watches.
const WATCHED: [&str; 3] = ["memory/target", "cpu", "control/sysrq"];

#[test]
fn memory_vcpus_and_keys_go_by_the_store() {
    let mut session = Session::started();
    session.run("create web.cfg maxmem=16 maxvcpus=2");
    for line in ["mem-set web 4", "vcpu-set web 1", "sysrq web h"] {
        let said = session.run(line);
        assert!(
            said.contains("error: web: its kernel does not listen"),
            "{said}"
        );
    }
    for path in WATCHED {
        session.asks(xs::XS_WATCH, &format!("{path}\0token\0"));
    }
    let told = |session: &mut Session, path: &str| {
        session.asks(xs::XS_READ, &format!("{path}\0"))[0].1.clone()
    };
    assert_eq!(session.run("mem-set web 12"), "xenlike> ");
    assert_eq!(
        session.hears(),
        [(xs::XS_WATCH_EVENT, "memory/target\0token\0".to_string())]
    );
    assert_eq!(told(&mut session, "memory/target"), "12288");
    assert_eq!(
        session.shell.platform().fake.domains[&1].max_kib,
        12288 + 1024
    );
    assert!(
        session
            .run("mem-set web 17")
            .contains("started for at most 16 MiB")
    );
    assert!(
        session
            .run("mem-set web lots")
            .contains("not an amount of memory")
    );
    assert_eq!(session.run("mem-max web 9m"), "xenlike> ");
    assert_eq!(
        session.shell.platform().fake.domains[&1].max_kib,
        9216 + 1024
    );
    assert_eq!(session.run("vcpu-set web 2"), "xenlike> ");
    session.hears();
    assert_eq!(told(&mut session, "cpu/1/availability"), "online");
    assert_eq!(session.run("vcpu-set web 1"), "xenlike> ");
    session.hears();
    assert_eq!(told(&mut session, "cpu/1/availability"), "offline");
    assert!(
        session
            .run("vcpu-set web 3")
            .contains("it may have 1 to 2 vCPUs")
    );
    assert_eq!(session.run("sysrq web s"), "xenlike> ");
    session.hears();
    assert_eq!(told(&mut session, "control/sysrq"), "s");
    assert!(
        session
            .run("sysrq web help")
            .contains("SysRq wants one letter")
    );
}
