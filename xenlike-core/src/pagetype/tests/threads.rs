//! Several CPUs work on the same frames at once. Then every reference is recounted.

use std::sync::Mutex;
use std::vec::Vec;

use super::fake::{FRAMES, Fake};
use super::random::{Dom, destroy, start, step, width_of};
use crate::pagetype::Work;

fn race(seed: u64, cpus: usize, steps: u32) {
    let types = Fake::new(seed);
    types
        .0
        .preempt_rate
        .store(seed % 200, crate::kit::atomic::Ordering::Relaxed);
    let mut domains: Vec<Dom> = (0..2)
        .map(|id| start(&types, id, width_of(seed, id)))
        .collect();
    let left = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for cpu in 0..cpus {
            let (types, left) = (&types, &left);
            let pages: Vec<_> = domains.iter().map(|d| d.pages.clone()).collect();
            scope.spawn(move || {
                let fresh = |id: usize| Dom {
                    pages: pages[id].clone(),
                    work: Work::new(),
                    held: Vec::new(),
                };
                let mut mine: Vec<Dom> = (0..2).map(fresh).collect();
                for n in 0..steps {
                    let id = (types.0.roll(8) as usize + cpu) / 4 % 2;
                    step(types, id as u16, &mut mine[id]);
                    if n % 16 == 0 {
                        std::thread::yield_now();
                    }
                }
                left.lock().unwrap().push(mine);
            });
        }
    });
    let vcpus = left.into_inner().unwrap();
    let held: Vec<_> = vcpus
        .iter()
        .flatten()
        .flat_map(|d| d.held.iter().copied())
        .collect();
    types
        .audit(&held)
        .unwrap_or_else(|what| panic!("seed {seed}, after the race: {what}"));
    for mut vcpu in vcpus {
        for (id, mut dom) in vcpu.drain(..).enumerate() {
            domains[id].held.append(&mut dom.held);
        }
    }
    for dom in &mut domains {
        destroy(&types, dom);
    }
    types
        .audit(&[])
        .unwrap_or_else(|what| panic!("seed {seed}, at the end: {what}"));
    let lost: Vec<_> = (1..FRAMES)
        .map(|n| (n, types.0.state(crate::kit::Mfn(n))))
        .filter(|(_, state)| state.kind() != crate::mm::frame::Kind::Free)
        .collect();
    assert!(lost.is_empty(), "seed {seed}: frames lost: {lost:?}");
}

#[test]
fn two_cpus_race() {
    for seed in 0..40 {
        race(seed, 2, 1500);
    }
}

#[test]
fn four_cpus_race() {
    for seed in 100..120 {
        race(seed, 4, 1000);
    }
}
