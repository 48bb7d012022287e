//! Races between threads of the host: senders against closing, producer against consumer.

use crate::kit::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use alloc::vec::Vec;
use std::thread;

use super::fake::Dom;
use super::fifo_guest::Guest;
use crate::kit::{DomId, Port, VcpuId};

/// Two domains bind, send and close against each other from four threads.
#[test]
fn closing_races() {
    let (a, b) = (Dom::new(1, 1, 1023), Dom::new(2, 1, 1023));
    let stop = &AtomicBool::new(false);
    thread::scope(|s| {
        for (own, other, remote) in [(&a, &b, DomId(2)), (&b, &a, DomId(1))] {
            s.spawn(move || {
                for n in 0..3000u32 {
                    let _ = other.table.alloc_unbound(own.table.dom());
                    let _ = own.table.bind_interdomain(&other.table, Port(n % 5));
                    let _ = own.table.close(Port(n % 7));
                    let _ = own.table.alloc_unbound(remote);
                    let _ = own.table.bind_interdomain(&own.table, Port(n % 3));
                }
                stop.store(true, SeqCst);
            });
            s.spawn(move || {
                while !stop.load(SeqCst) {
                    for port in 0..8 {
                        let _ = own.table.send(Port(port));
                    }
                }
            });
        }
    });
    for dom in [&a, &b] {
        while dom.table.destroy(&mut || false, &mut |_| {}) != crate::event::Sweep::Done {}
        assert_eq!(alloc::sync::Arc::strong_count(&dom.table), 1);
    }
}

/// One thread sends and counts, another takes: the last event of each port must arrive.
#[test]
fn producer_and_consumer() {
    let mut guest = Guest::new(1, 1);
    let table = guest.dom.table.clone();
    let ports: Vec<_> = (0..4).map(|_| table.bind_ipi(VcpuId(0)).unwrap()).collect();
    let sent: Vec<AtomicU64> = ports.iter().map(|_| AtomicU64::new(0)).collect();
    let mut seen = [0u64; 4];
    let done = AtomicBool::new(false);
    thread::scope(|s| {
        s.spawn(|| {
            for n in 1..=40_000u64 {
                let p = (n % 4) as usize;
                sent[p].store(n, SeqCst);
                let _ = table.send(ports[p]).unwrap();
            }
            done.store(true, SeqCst);
        });
        let mut last_look = false;
        loop {
            match guest.take(0) {
                Some((port, true)) => {
                    let p = ports.iter().position(|x| *x == port).unwrap();
                    seen[p] = sent[p].load(SeqCst);
                }
                Some((_, false)) => {}
                None if last_look => break,
                None => last_look = done.load(SeqCst),
            }
        }
    });
    assert_eq!(seen, [40_000, 39_997, 39_998, 39_999]);
}
