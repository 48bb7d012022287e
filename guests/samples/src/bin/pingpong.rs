//! Claim: two domains exchange messages through a granted page and an event channel, every answer is correct, and
//! both release their resources. Prints round trips and messages per second.
//!
//! Command line: `role=server` (create this domain first) or `role=client`; `peer=ID`, by default the server's own
//! id plus one, or the client's own id minus one; `count=N` messages. The server grants its first reference, 8; the
//! page contains the port.

#![no_std]
#![no_main]
#![expect(unsafe_code, reason = "shares a page with another domain")]

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

use xenlike_rt::abi::io_ring::must_notify;
use xenlike_rt::events::Port;
use xenlike_rt::grants::{self, Mapping};
use xenlike_rt::paging::Access;
use xenlike_rt::time::SECOND_NS;
use xenlike_rt::{args, events, memory, println, time};

xenlike_rt::entry!(main);

const MAGIC: u64 = u64::from_le_bytes(*b"pingpong");
const FIRST_REF: u64 = 8;
const ENTRIES: u32 = 64;
const PATIENCE_NS: u64 = 60 * SECOND_NS;
/// The request that ends the server.
const END: u64 = u64::MAX;

/// The shared page. Both sides only use atomics.
#[repr(C)]
struct Shared {
    magic: AtomicU64,
    port: AtomicU32,
    requests: AtomicU32,
    request_event: AtomicU32,
    answers: AtomicU32,
    answer_event: AtomicU32,
    ring: [AtomicU64; ENTRIES as usize],
}

impl Shared {
    /// Views a page as the shared structure.
    fn at(page: *mut u8) -> &'static Self {
        // SAFETY: the page stays mapped until the exchange is over, and atomics allow any sharing.
        unsafe { &*page.cast() }
    }

    fn slot(&self, index: u32) -> &AtomicU64 {
        &self.ring[(index % ENTRIES) as usize]
    }
}

fn answer_to(request: u64) -> u64 {
    request.wrapping_mul(3).wrapping_add(1)
}

/// Sleeps until the port is signalled.
fn wait(port: Port) -> Result<(), &'static str> {
    let end = time::now_ns() + PATIENCE_NS;
    events::wait(&[port], end).map_err(|_| "poll is refused")?;
    if time::now_ns() >= end {
        return Err("the other side is silent");
    }
    Ok(())
}

fn serve(shared: &Shared, port: Port) -> Result<u64, &'static str> {
    let mut done = 0u32;
    let mut served = 0;
    loop {
        events::take(port);
        let before = done;
        let mut ended = false;
        while done != shared.requests.load(Ordering::Acquire) {
            let slot = shared.slot(done);
            let request = slot.load(Ordering::Relaxed);
            slot.store(answer_to(request), Ordering::Relaxed);
            ended |= request == END;
            done = done.wrapping_add(1);
            served += 1;
        }
        if done == before {
            shared
                .request_event
                .store(done.wrapping_add(1), Ordering::Relaxed);
            fence(Ordering::SeqCst);
            if done == shared.requests.load(Ordering::Acquire) {
                wait(port)?;
            }
            continue;
        }
        shared.answers.store(done, Ordering::Release);
        fence(Ordering::SeqCst);
        if must_notify(before, done, shared.answer_event.load(Ordering::Relaxed)) {
            events::send(port).map_err(|_| "send is refused")?;
        }
        if ended {
            return Ok(served);
        }
    }
}

fn server(peer: u16) -> Result<(), &'static str> {
    let page = memory::allocate_page().ok_or("no page")?;
    let port = events::alloc_unbound(peer).map_err(|_| "no port")?;
    let shared = Shared::at(page);
    shared.request_event.store(1, Ordering::Relaxed);
    shared.answer_event.store(1, Ordering::Relaxed);
    shared.port.store(port, Ordering::Relaxed);
    shared.magic.store(MAGIC, Ordering::Release);
    let reference = grants::give(peer, page, Access::ReadWrite).map_err(|_| "no grant")?;
    println!("serving domain {peer}: reference {reference}, port {port}");
    let served = serve(shared, port)?;
    println!("{served} messages served");

    let end = time::now_ns() + PATIENCE_NS;
    while grants::take_back(reference).is_err() {
        if time::now_ns() > end {
            return Err("the page stays mapped over there");
        }
        time::sleep(10_000_000);
    }
    events::close(port).map_err(|_| "the port does not close")
}

/// The client's end of the ring.
struct Client<'a> {
    shared: &'a Shared,
    port: Port,
    sent: u32,
    received: u32,
}

impl Client<'_> {
    /// Sends the requests `values` and checks all answers, with at most `window` requests outstanding.
    fn exchange(&mut self, values: core::ops::Range<u64>, window: u32) -> Result<(), &'static str> {
        let (mut next, mut expected) = (values.start, values.start);
        while expected < values.end {
            events::take(self.port);
            let before = self.sent;
            while next < values.end && self.sent.wrapping_sub(self.received) < window {
                self.shared.slot(self.sent).store(next, Ordering::Relaxed);
                self.sent = self.sent.wrapping_add(1);
                next += 1;
            }
            self.push(before)?;
            self.shared
                .answer_event
                .store(self.received.wrapping_add(1), Ordering::Relaxed);
            fence(Ordering::SeqCst);
            if self.received == self.shared.answers.load(Ordering::Acquire) {
                wait(self.port)?;
            }
            while self.received != self.shared.answers.load(Ordering::Acquire) {
                let answer = self.shared.slot(self.received).load(Ordering::Relaxed);
                if answer != answer_to(expected) {
                    return Err("a wrong answer");
                }
                self.received = self.received.wrapping_add(1);
                expected += 1;
            }
        }
        Ok(())
    }

    fn push(&self, before: u32) -> Result<(), &'static str> {
        self.shared.requests.store(self.sent, Ordering::Release);
        fence(Ordering::SeqCst);
        let event = self.shared.request_event.load(Ordering::Relaxed);
        if self.sent != before && must_notify(before, self.sent, event) {
            events::send(self.port).map_err(|_| "send is refused")?;
        }
        Ok(())
    }
}

/// Maps the server's page, once the server has granted it.
fn connect(peer: u16) -> Result<Mapping, &'static str> {
    let reference = args::number("ref", FIRST_REF) as u32;
    let end = time::now_ns() + PATIENCE_NS;
    loop {
        let attempt = Mapping::new(peer, reference, Access::ReadWrite).ok();
        let ready = |m: &Mapping| Shared::at(m.as_ptr()).magic.load(Ordering::Acquire) == MAGIC;
        if let Some(mapping) = attempt.filter(ready) {
            return Ok(mapping);
        }
        if time::now_ns() > end {
            return Err("no server");
        }
        time::sleep(100_000_000);
    }
}

fn client(peer: u16) -> Result<(), &'static str> {
    let mapping = connect(peer)?;
    let shared = Shared::at(mapping.as_ptr());
    let remote = shared.port.load(Ordering::Relaxed);
    let port = events::bind_interdomain(peer, remote).map_err(|_| "the port does not bind")?;
    println!("connected to domain {peer}");
    let mut client = Client {
        shared,
        port,
        sent: 0,
        received: 0,
    };
    let count = args::number("count", 20_000).max(10);

    let start = time::now_ns();
    let rounds = count / 10;
    client.exchange(0..rounds, 1)?;
    let took = (time::now_ns() - start).max(1);
    println!("{rounds} round trips, {} ns each", took / rounds);

    let start = time::now_ns();
    client.exchange(0..count, ENTRIES)?;
    let took = (time::now_ns() - start).max(1);
    println!("{count} messages, {} per second", count * SECOND_NS / took);

    client
        .shared
        .slot(client.sent)
        .store(END, Ordering::Relaxed);
    client.sent = client.sent.wrapping_add(1);
    client.push(client.sent.wrapping_sub(1))?;
    while client.received == shared.answers.load(Ordering::Acquire) {
        shared
            .answer_event
            .store(client.received.wrapping_add(1), Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if client.received == shared.answers.load(Ordering::Acquire) {
            wait(port)?;
            events::take(port);
        }
    }
    events::close(port).map_err(|_| "the port does not close")
}

fn main() {
    let own = events::own_domain().expect("the own id");
    let role = args::value("role").unwrap_or("server");
    let default_peer = if role == "client" {
        own.wrapping_sub(1)
    } else {
        own + 1
    };
    let peer = args::number("peer", u64::from(default_peer)) as u16;
    println!("domain {own}, {role} for domain {peer}");
    let result = if role == "client" {
        client(peer)
    } else {
        server(peer)
    };
    match result {
        Ok(()) => println!("PASS pingpong {role}"),
        Err(why) => println!("FAIL pingpong {role}: {why}"),
    }
}
