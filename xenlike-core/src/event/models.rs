//! Models of sending, masking, polling and closing: every interleaving of the steps of a few CPUs.
//!
//! They check that no wake-up is lost. A guest follows the public headers as Linux does: it clears the upcall
//! flag before it looks for pending events, clears mask bits itself, and goes to sleep by `SCHEDOP_block` and
//! `SCHEDOP_poll`. When all CPUs are done, an event that is pending and not masked either has been handled,
//! or the guest is bound to find it: its upcall flag is set, its queue contains the port. A vCPU that sleeps
//! has no event to find.

use std::sync::Arc;
use std::vec::Vec;

use loom::thread;

use super::tests::fake::Dom;
use super::tests::fifo_guest::Guest;
use super::*;
use crate::kit::SharedWords;
use crate::kit::atomic::model::explore;
use crate::kit::atomic::{AtomicBool, Ordering::SeqCst};

const VCPU: VcpuId = VcpuId(0);

/// A vCPU that can sleep: the part of `domain::notify` and `hypercall::sched_op` that matters here.
struct Sleeper(AtomicBool);

impl Sleeper {
    fn new() -> Self {
        let sleeper = Self(AtomicBool::new(false));
        sleeper.0.load(SeqCst);
        sleeper
    }
    /// Sleeps unless there is something to do. The flag is set before the check.
    fn sleep_unless(&self, due: impl Fn() -> bool) {
        self.0.swap(true, SeqCst);
        if due() {
            self.wake();
        }
    }
    fn wake(&self) {
        self.0.swap(false, SeqCst);
    }
    fn sleeps(&self) -> bool {
        self.0.load(SeqCst)
    }
}

/// What a guest does to its shared page.
impl Dom {
    /// 2-level: the guest unmasks the port itself.
    pub fn unmask(&self, port: Port) {
        self.bit(2560, port)
            .fetch_and(!(1 << (port.0 % 64)), SeqCst);
    }
    pub fn is_masked(&self, port: Port) -> bool {
        self.bit(2560, port).load(SeqCst) >> (port.0 % 64) & 1 != 0
    }
    /// Whether the upcall flag of `vcpu` is set.
    pub fn flag(&self, vcpu: VcpuId) -> bool {
        self.shared.u8(vcpu.0 as usize * 64).unwrap().load(SeqCst) != 0
    }
    /// 2-level: the guest raises its own upcall for `port`, which it has found pending.
    pub fn select(&self, vcpu: VcpuId, port: Port) {
        let info = vcpu.0 as usize * 64;
        let word = self.shared.u64(info + 8).unwrap();
        word.fetch_or(1 << (port.0 / 64), SeqCst);
        self.shared.u8(info).unwrap().swap(1, SeqCst);
    }
}

/// A domain of the 2-level ABI with one vCPU, which handles events and sleeps.
struct Node {
    dom: Dom,
    port: Port,
    sleeper: Sleeper,
}

impl Node {
    /// A domain with one port. Touches all atomics before the first spawn.
    fn new() -> Self {
        let dom = Dom::new(1, 1, 63);
        let port = dom.table.bind_ipi(VCPU).unwrap();
        let node = Self {
            dom,
            port,
            sleeper: Sleeper::new(),
        };
        node.dom.table.begin_poll(VCPU, Some(port));
        node.send();
        node.dom.table.end_poll(VCPU);
        node.dom.mask(port);
        node.unmask_by_call();
        assert_eq!(node.handle(), 1);
        node
    }

    fn act(&self, notice: Notice) {
        if notice.upcall.is_some() {
            self.sleeper.wake();
        }
        if let Some(port) = notice.polled {
            if self.dom.table.pollers_of(port).next().is_some() {
                self.end_poll();
            }
        }
    }

    fn send(&self) {
        self.act(self.dom.table.send(self.port).unwrap());
    }

    fn unmask_by_call(&self) {
        self.act(self.dom.table.unmask(self.port).unwrap());
    }

    /// The guest unmasks the port itself, and raises its own upcall if the event has become pending meanwhile.
    fn unmask_by_hand(&self) {
        self.dom.unmask(self.port);
        if self.dom.pending(self.port) {
            self.dom.select(VCPU, self.port);
        }
    }

    /// The guest's event callback; returns the number of events that it handled.
    fn handle(&self) -> u32 {
        let mut handled = 0;
        while let Some(selector) = self.dom.take_upcall(VCPU) {
            let seen = selector & 1 != 0 && self.dom.pending(self.port);
            if seen && !self.dom.is_masked(self.port) {
                self.dom.clear(self.port);
                handled += 1;
            }
        }
        handled
    }

    fn block(&self) {
        self.sleeper.sleep_unless(|| self.dom.flag(VCPU));
    }

    /// SCHEDOP_poll: sleeps unless the port is pending.
    fn poll(&self) {
        let (table, port) = (&self.dom.table, self.port);
        self.sleeper.0.swap(true, SeqCst);
        table.begin_poll(VCPU, Some(port));
        if table.is_pending(port) == Ok(true) {
            self.end_poll();
        }
    }

    fn end_poll(&self) {
        self.dom.table.end_poll(VCPU);
        self.sleeper.wake();
    }
}

/// Runs the acts, each on a CPU of its own.
fn race<T: Send + Sync + 'static>(shared: &Arc<T>, acts: &[fn(&T)]) {
    let cpus: Vec<_> = acts[1..]
        .iter()
        .map(|act| {
            let (shared, act) = (Arc::clone(shared), *act);
            thread::spawn(move || act(&shared))
        })
        .collect();
    acts[0](shared);
    for cpu in cpus {
        cpu.join().unwrap();
    }
}

/// Explored with up to 2 preemptions.
#[test]
fn a_vcpu_that_blocks_is_woken() {
    explore(2, || {
        let node = Arc::new(Node::new());
        let guest: fn(&Node) = |node| {
            node.handle();
            node.block();
        };
        race(&node, &[guest, Node::send, Node::send]);
        assert!(!node.sleeper.sleeps() || !node.dom.flag(VCPU));
        node.handle();
        assert!(!node.dom.pending(node.port), "lost");
    });
}

/// Explored with up to 2 preemptions.
#[test]
fn an_event_is_seen_when_its_mask_goes() {
    fn unmask_and_block(node: &Node, unmask: fn(&Node)) {
        unmask(node);
        node.handle();
        node.block();
    }
    let guests: [fn(&Node); 2] = [
        |node| unmask_and_block(node, Node::unmask_by_call),
        |node| unmask_and_block(node, Node::unmask_by_hand),
    ];
    for guest in guests {
        explore(2, move || {
            let node = Arc::new(Node::new());
            node.dom.mask(node.port);
            race(&node, &[guest, Node::send, Node::send]);
            assert!(!node.sleeper.sleeps() || !node.dom.flag(VCPU));
            node.handle();
            assert!(!node.dom.pending(node.port), "lost");
        });
    }
}

/// Explored with up to 3 preemptions. The port is masked, as ports that are polled for are. The vCPU polls again after
/// it has taken an event, when the sender of that event may not have finished waking it; the next event must wake it
/// nevertheless.
#[test]
fn a_vcpu_that_polls_is_woken() {
    explore(3, || {
        let node = Arc::new(Node::new());
        node.dom.mask(node.port);
        let guest: fn(&Node) = |node| {
            node.poll();
            if !node.sleeper.sleeps() {
                node.dom.clear(node.port);
                node.poll();
            }
        };
        race(&node, &[guest, Node::send]);
        assert!(!node.sleeper.sleeps() || !node.dom.pending(node.port));
        node.send();
        assert!(!node.sleeper.sleeps(), "nobody is woken");
        let pollers = node.dom.table.pollers.load(SeqCst);
        assert_eq!(pollers, 0, "a poll is counted off as often as on");
    });
}

/// Two domains with a channel between them.
struct Pair {
    a: Dom,
    b: Dom,
    ports: [Port; 2],
}

impl Pair {
    fn new() -> Self {
        // Books are locked by address, and a model must see the same order in each execution.
        let (a, mut later) = (Dom::new(1, 1, 63), Vec::new());
        let b = loop {
            let b = Dom::new(2, 1, 63);
            if Arc::as_ptr(&b.table) > Arc::as_ptr(&a.table) {
                break b;
            }
            later.push(b);
        };
        for table in [&a.table, &b.table] {
            let ports = [(); 3].map(|()| table.bind_ipi(VCPU).unwrap());
            for port in ports {
                let _ = table.send(port).unwrap();
                let _ = table.unmask(port).unwrap();
                table.close(port).unwrap();
            }
        }
        let waiting = b.table.alloc_unbound(DomId(1)).unwrap();
        let (port, _) = a.table.bind_interdomain(&b.table, waiting).unwrap();
        let pair = Self {
            a,
            b,
            ports: [port, waiting],
        };
        for (dom, port) in [(&pair.a, pair.ports[0]), (&pair.b, pair.ports[1])] {
            dom.mask(port);
            let _ = dom.table.unmask(port).unwrap();
            let _ = dom.table.send(port).unwrap();
            dom.clear(port);
        }
        pair.a.clear(port);
        pair
    }
}

/// Explored with up to 3 preemptions. A sender that has found the peer's port delivers before that port gets another
/// use.
#[test]
fn an_event_does_not_reach_the_next_use_of_a_port() {
    explore(3, || {
        let pair = Arc::new(Pair::new());
        race(
            &pair,
            &[
                |pair| {
                    let port = pair.ports[1];
                    pair.b.table.close(port).unwrap();
                    assert_eq!(pair.b.table.bind_ipi(VCPU), Ok(port));
                },
                |pair| {
                    let _ = pair.a.table.send(pair.ports[0]);
                },
            ],
        );
        assert_eq!(pair.b.table.is_pending(pair.ports[1]), Ok(false));
        let left = pair.a.table.status(pair.ports[0]).unwrap().kind;
        assert_eq!(left, StatusKind::Unbound(DomId(2)));
    });
}

/// Explored with up to 1 preemption.
#[test]
fn both_ends_close() {
    explore(1, || {
        let pair = Arc::new(Pair::new());
        race(
            &pair,
            &[
                |pair| {
                    pair.a.table.close(pair.ports[0]).unwrap();
                },
                |pair| {
                    pair.b.table.close(pair.ports[1]).unwrap();
                },
                |pair| {
                    let _ = pair.b.table.send(pair.ports[1]);
                },
            ],
        );
        for (dom, port) in [(&pair.a, pair.ports[0]), (&pair.b, pair.ports[1])] {
            assert_eq!(dom.table.status(port).unwrap().kind, StatusKind::Closed);
            assert!(dom.table.is_empty());
        }
    });
}

/// Explored with up to 3 preemptions. One end closes while the other is connected again: no port has two peers.
#[test]
fn a_port_has_one_peer() {
    explore(3, || {
        let pair = Arc::new(Pair::new());
        race(
            &pair,
            &[
                |pair| {
                    pair.a.table.close(pair.ports[0]).unwrap();
                },
                |pair| {
                    let _ = pair.a.table.bind_interdomain(&pair.b.table, pair.ports[1]);
                },
            ],
        );
        let kind = |dom: &Dom, port| dom.table.status(port).unwrap().kind;
        match kind(&pair.b, pair.ports[1]) {
            StatusKind::Interdomain(DomId(1), port) => {
                let peer = StatusKind::Interdomain(DomId(2), pair.ports[1]);
                assert_eq!(kind(&pair.a, port), peer);
            }
            other => assert_eq!(other, StatusKind::Unbound(DomId(1))),
        }
    });
}

/// A domain of the FIFO ABI with two ports on one queue.
struct Fifo {
    guest: std::sync::Mutex<Guest>,
    table: Arc<Table<tests::fake::Page>>,
    ports: [Port; 2],
}

impl Fifo {
    /// Touches all atomics before the first spawn.
    fn new() -> Self {
        let guest = Guest::without_queues(1, 1, 63);
        guest.make_queues();
        let table = Arc::clone(&guest.dom.table);
        let ports = [(); 2].map(|()| table.bind_ipi(VCPU).unwrap());
        let fifo = Self {
            guest: std::sync::Mutex::new(guest),
            table,
            ports,
        };
        for n in [0, 1] {
            fifo.send(n);
        }
        assert_eq!(fifo.take_all(), 2);
        fifo
    }
    fn send(&self, n: usize) {
        let _ = self.table.send(self.ports[n]).unwrap();
    }
    /// The guest takes everything off its queues, if its upcall flag is set. Returns the number of events.
    fn take_all(&self) -> u32 {
        // One CPU at a time acts for the guest, so the lock is never contended.
        let mut guest = self.guest.try_lock().expect("one guest");
        let mut handled = 0;
        while guest.dom.take_flag(VCPU) {
            while let Some((_, event)) = guest.take(0) {
                handled += u32::from(event);
            }
        }
        handled
    }
    /// Checks that all events that are pending and not masked are found.
    fn assert_nothing_is_lost(&self) {
        self.take_all();
        for port in self.ports {
            let word = self.guest.try_lock().unwrap().word(port).load(SeqCst);
            assert_eq!(word, 0, "{port:?} is left");
        }
    }
}

/// Explored with up to 2 preemptions.
#[test]
fn a_queue_loses_nothing() {
    explore(2, || {
        let fifo = Arc::new(Fifo::new());
        race(
            &fifo,
            &[
                |fifo| {
                    fifo.take_all();
                },
                |fifo| fifo.send(0),
                |fifo| {
                    fifo.send(1);
                    fifo.send(1);
                },
            ],
        );
        fifo.assert_nothing_is_lost();
    });
}

/// Explored with up to 2 preemptions.
#[test]
fn a_queue_gets_the_event_when_its_mask_goes() {
    explore(2, || {
        let fifo = Arc::new(Fifo::new());
        fifo.guest.try_lock().unwrap().mask(fifo.ports[0]);
        race(
            &fifo,
            &[
                |fifo| {
                    fifo.guest.try_lock().unwrap().unmask(fifo.ports[0]);
                    fifo.take_all();
                },
                |fifo| fifo.send(0),
                |fifo| fifo.send(1),
            ],
        );
        fifo.assert_nothing_is_lost();
    });
}

/// Explored with up to 2 preemptions. The guest takes an event off while its port is closed and bound again.
#[test]
fn a_queue_survives_the_closing_of_its_ports() {
    explore(2, || {
        let fifo = Arc::new(Fifo::new());
        fifo.send(0);
        race(
            &fifo,
            &[
                |fifo| {
                    fifo.take_all();
                },
                |fifo| {
                    fifo.table.close(fifo.ports[0]).unwrap();
                    let port = fifo.table.bind_ipi(VCPU).unwrap();
                    let _ = fifo.table.send(port).unwrap();
                },
                |fifo| fifo.send(1),
            ],
        );
        fifo.assert_nothing_is_lost();
    });
}

/// Explored with up to 1 preemption. An event arrives while the domain switches to the FIFO ABI.
#[test]
fn the_switch_to_queues_loses_nothing() {
    explore(1, || {
        let guest = Guest::without_queues(1, 1, 63);
        let table = Arc::clone(&guest.dom.table);
        let ports = [table.bind_ipi(VCPU).unwrap(); 2];
        let fifo = Arc::new(Fifo {
            guest: std::sync::Mutex::new(guest),
            table,
            ports,
        });
        fifo.send(0);
        fifo.guest.try_lock().unwrap().dom.clear(ports[0]);
        fifo.guest.try_lock().unwrap().touch(ports[0]);
        race(
            &fifo,
            &[
                |fifo| fifo.guest.try_lock().unwrap().make_queues(),
                |fifo| fifo.send(0),
            ],
        );
        // The upcall may have been for the 2-level bits; a guest looks at its queues after the switch.
        let mut guest = fifo.guest.try_lock().unwrap();
        while guest.take(0).is_some() {}
        assert_eq!(guest.word(ports[0]).load(SeqCst), 0);
    });
}
