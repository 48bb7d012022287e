//! Attack: everything that a guest can do to a Xenstore: access to other domains' nodes, floods of nodes, watches,
//! transactions and requests, messages of any kind and length, any bytes and indices in the shared page. `forever=1`
//! floods until the domain is destroyed.

#![no_std]
#![no_main]

extern crate alloc;

use alloc::format;
use core::mem::offset_of;
use core::sync::atomic::Ordering;

use samples::{Attack, Random};
use xenlike_rt::abi::io_xenbus as xs;
use xenlike_rt::abi::io_xenbus::{DomainInterface, SockMsg};
use xenlike_rt::xenstore::{Fault, Store};
use xenlike_rt::{args, events, hyper, println};
use zerocopy::IntoBytes;

xenlike_rt::entry!(main);

/// The words of the page outside of its rings.
const WORDS: [usize; 7] = [
    offset_of!(DomainInterface, req_cons),
    offset_of!(DomainInterface, req_prod),
    offset_of!(DomainInterface, rsp_cons),
    offset_of!(DomainInterface, rsp_prod),
    offset_of!(DomainInterface, server_features),
    offset_of!(DomainInterface, connection),
    offset_of!(DomainInterface, error),
];

fn main() {
    let mut attack = Attack::new("hostile-store", "break the Xenstore");
    let Some(mut store) = Store::open() else {
        println!("FAIL hostile-store: there is no Xenstore");
        return;
    };
    let mut random = Random::new(args::number("seed", 1));
    if args::number("forever", 0) != 0 {
        println!("floods for ever");
        loop {
            flood(&mut store, 1000);
            scribble(&mut store, &mut random, 10);
        }
    }
    attack.holds("it knows its name", is_served(&mut store));
    others(&mut attack, &mut store);
    limits(&mut attack, &mut store);
    let answered = (0..args::number("requests", 3000)).all(|_| garbage(&mut store, &mut random));
    attack.holds("each of many odd requests has an answer", answered);
    lengths(&mut attack, &mut store);
    flood(&mut store, 20_000);
    store.reconnect();
    attack.holds("it is served after a flood", is_served(&mut store));
    scribble(&mut store, &mut random, 500);
    attack.holds("it is served after scribbling", is_served(&mut store));
    attack.finish();
}

fn is_served(store: &mut Store) -> bool {
    store
        .read("name")
        .is_ok_and(|name| name == b"hostile-store")
}

/// Tries to access nodes that don't belong to this domain.
fn others(attack: &mut Attack, store: &mut Store) {
    attack.refused("writing its own name", store.write("name", b"idle"));
    attack.refused("the root", store.write("/", b""));
    for dom in 0..8 {
        let home = format!("/local/domain/{dom}");
        if store
            .read("domid")
            .is_ok_and(|own| own == format!("{dom}").as_bytes())
        {
            continue;
        }
        attack.refused("another's home", store.read(&home));
        let wish = format!("{home}/control/shutdown");
        attack.refused("another's shutdown", store.write(&wish, b"poweroff"));
        attack.refused(
            "removing another",
            store.ask(xs::XS_RM, 0, format!("{home}\0").as_bytes()),
        );
    }
    for (what, kind, payload) in [
        ("introduce", xs::XS_INTRODUCE, "1\x001\x001\0"),
        ("release", xs::XS_RELEASE, "1\0"),
        ("control", xs::XS_CONTROL, "print\0x\0"),
        ("set target", xs::XS_SET_TARGET, "1\x002\0"),
        ("a gift", xs::XS_SET_PERMS, "data\0n0\0"),
        ("the root's owner", xs::XS_SET_PERMS, "/\0b1\0"),
    ] {
        attack.refused(what, store.ask(kind, 0, payload.as_bytes()));
    }
}

/// Creates as much of everything as the store allows.
fn limits(attack: &mut Attack, store: &mut Store) {
    let large = [b'x'; 1500];
    until_refused(attack, store, "large nodes", &mut |store, n| {
        store.write(&format!("data/large{}/{n}", n / 90), &large)
    });
    attack.holds("it removes its own", empties(store));
    until_refused(attack, store, "nodes", &mut |store, n| {
        store.write(&format!("data/{}/{n}", n / 90), b"")
    });
    attack.holds("it removes its own", empties(store));
    until_refused(attack, store, "watches", &mut |store, n| {
        store.watch("/", &format!("{n}"))
    });
    until_refused(attack, store, "transactions", &mut |store, _| {
        store.ask(xs::XS_TRANSACTION_START, 0, b"\0").map(drop)
    });
    store.reconnect();
}

/// Repeats an operation until it is refused, which must happen.
fn until_refused(
    attack: &mut Attack,
    store: &mut Store,
    what: &str,
    step: &mut dyn FnMut(&mut Store, u32) -> Result<(), Fault>,
) {
    let refused = (0..20_000).find_map(|n| step(store, n).err().map(|fault| (n, fault)));
    match refused {
        Some((n, fault)) => println!("  {n} {what}, then {fault}"),
        None => attack.holds(what, false),
    }
}

/// Removes everything that it has created.
fn empties(store: &mut Store) -> bool {
    let Ok(names) = store.ask(xs::XS_DIRECTORY, 0, b"data\0") else {
        return false;
    };
    let mut names = names
        .split(|&byte| byte == 0)
        .filter(|name| !name.is_empty());
    names.all(|name| {
        let path = [b"data/", name, b"\0"].concat();
        store.ask(xs::XS_RM, 0, &path).is_ok()
    })
}

/// Sends a request of any kind with any payload; returns whether there was an answer of any kind.
fn garbage(store: &mut Store, random: &mut Random) -> bool {
    let texts: [&[u8]; 8] = [
        b"",
        b"\0",
        b"data\0",
        b"data/x\0v",
        b"@releaseDomain\0t\0",
        b"T\0",
        b"data\0n1\0w2\0",
        b"data/x\x0099999999999999999999\0",
    ];
    let kind = match random.below(8) {
        0 => random.next() as u32,
        _ => random.below(26) as u32,
    };
    let mut payload = texts[random.below(texts.len() as u64) as usize].to_vec();
    for _ in 0..random.below(3) {
        payload.push(random.next() as u8);
    }
    // Watches on everything cause events about everything.
    let answer = store.ask(kind, random.below(3) as u32, &payload);
    while let Ok(Some(_)) = store.event() {}
    !matches!(answer, Err(Fault::Broken(_)))
}

/// Sends messages that claim to be longer than allowed.
fn lengths(attack: &mut Attack, store: &mut Store) {
    for len in [4097, 1 << 16, 1 << 31, u32::MAX] {
        let header = SockMsg {
            type_: xs::XS_READ,
            len,
            ..SockMsg::default()
        };
        let sent = store
            .send(header.as_bytes())
            .and_then(|()| store.read("name"));
        let broken = sent == Err(Fault::Broken(xs::XENSTORE_ERROR_PROTO));
        attack.holds("a message too long ends the connection", broken);
        store.reconnect();
        attack.holds("a new one is served", is_served(store));
    }
}

/// Sends requests without taking the answers, and signals without requests.
fn flood(store: &mut Store, count: u32) {
    let header = SockMsg {
        type_: xs::XS_GET_DOMAIN_PATH,
        ..SockMsg::default()
    };
    let page = store.page();
    let (cons, prod) = (page.word(WORDS[0]), page.word(WORDS[1]));
    for _ in 0..count {
        let produced = prod.load(Ordering::Acquire);
        if produced.wrapping_sub(cons.load(Ordering::Acquire)) + 16 <= 1024 {
            for (n, byte) in header.as_bytes().iter().enumerate() {
                page.bytes()[(produced as usize + n) % 1024].store(*byte, Ordering::Relaxed);
            }
            prod.store(produced.wrapping_add(16), Ordering::Release);
        }
        // Discards answers unread from time to time.
        if produced % 4096 == 0 {
            page.word(WORDS[2]).store(
                page.word(WORDS[3]).load(Ordering::Acquire),
                Ordering::Release,
            );
        }
        let _ = events::send(store.port());
    }
}

/// Writes random bytes anywhere into the page, and gives the store time to read them.
fn scribble(store: &mut Store, random: &mut Random, rounds: u32) {
    let page = store.page();
    for _ in 0..rounds {
        for _ in 0..random.below(6) {
            let value = match random.below(3) {
                0 => random.next() as u32,
                1 => random.below(2100) as u32,
                _ => (random.below(2100) as u32).wrapping_neg(),
            };
            let word = WORDS[random.below(7) as usize];
            page.word(word).store(value, Ordering::Release);
        }
        for _ in 0..random.below(64) {
            let at = random.below(4096) as usize;
            page.bytes()[at].store(random.next() as u8, Ordering::Relaxed);
        }
        let _ = events::send(store.port());
        hyper::yield_now();
    }
    store.reconnect();
}
