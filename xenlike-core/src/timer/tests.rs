use proptest::prelude::*;
use std::vec::Vec;

use super::*;

fn timers(count: u32) -> Vec<Timer> {
    (0..count)
        .map(|n| {
            Timer::new(Key {
                dom: DomId(1),
                vcpu: VcpuId(n),
                what: What::Singleshot,
            })
        })
        .collect()
}

#[test]
fn expires_in_order_on_its_cpu() {
    let all = Timers::new();
    let timer = timers(3);
    assert_eq!(all.set(&timer[0], CpuId(0), 300), Ok(()));
    assert_eq!(all.set(&timer[1], CpuId(0), 100), Ok(()));
    assert_eq!(all.set(&timer[2], CpuId(0), 200), Ok(()));
    assert_eq!(all.next_deadline_ns(CpuId(0)), Some(100));
    assert_eq!(all.next_deadline_ns(CpuId(1)), None);
    assert_eq!(all.pop_expired(CpuId(0), 99), None);
    assert_eq!(all.pop_expired(CpuId(0), 250), Some(timer[1].key()));
    assert_eq!(all.pop_expired(CpuId(0), 250), Some(timer[2].key()));
    assert_eq!(all.pop_expired(CpuId(0), 250), None);
    all.cancel(&timer[0]);
    assert_eq!(all.next_deadline_ns(CpuId(0)), None);
}

#[test]
fn a_stale_handle_cancels_nobody_else() {
    let all = Timers::new();
    let timer = timers(2);
    all.set(&timer[0], CpuId(0), 10).unwrap();
    assert_eq!(all.pop_expired(CpuId(0), 10), Some(timer[0].key()));
    all.set(&timer[1], CpuId(0), 20).unwrap();
    all.cancel(&timer[0]);
    assert_eq!(all.pop_expired(CpuId(0), 20), Some(timer[1].key()));
}

proptest! {
    #[test]
    fn each_set_timer_expires_once(steps in proptest::collection::vec((0u32..8, 0u32..3, 0u64..100, 0u8..4), 1..200)) {
        let all = Timers::new();
        let timer = timers(8);
        let mut model = [None; 8];
        for (which, cpu, time, act) in steps {
            match act {
                0 => {
                    all.cancel(&timer[which as usize]);
                    model[which as usize] = None;
                }
                1 => {
                    let due = |place: &Option<(u32, u64)>| matches!(place, Some((c, t)) if *c == cpu && *t <= time);
                    let mut expired = Vec::new();
                    while let Some(key) = all.pop_expired(CpuId(cpu), time) {
                        expired.push(key.vcpu.0 as usize);
                    }
                    expired.sort_unstable();
                    let expected: Vec<usize> = (0..8).filter(|&n| due(&model[n])).collect();
                    prop_assert_eq!(&expired, &expected);
                    for n in expected {
                        model[n] = None;
                    }
                }
                _ => {
                    all.set(&timer[which as usize], CpuId(cpu), time).unwrap();
                    model[which as usize] = Some((cpu, time));
                }
            }
        }
    }
}

/// A timer that has expired is not set again once its owner has cancelled it.
#[test]
fn a_popped_timer_is_not_set_after_its_cancel() {
    let all = Timers::new();
    let timer = timers(1);
    let runs = AtomicU64::new(1);
    let again = |_: &dyn Fn() -> bool| runs.load(Ordering::Relaxed) != 0;
    all.set(&timer[0], CpuId(0), 10).unwrap();
    assert!(all.pop_expired(CpuId(0), 10).is_some());
    assert_eq!(all.set_if(&timer[0], CpuId(0), 20, again), Ok(true));
    assert!(all.pop_expired(CpuId(0), 20).is_some());
    runs.store(0, Ordering::Relaxed);
    all.cancel(&timer[0]);
    assert_eq!(all.set_if(&timer[0], CpuId(0), 30, again), Ok(false));
    assert_eq!(all.next_deadline_ns(CpuId(0)), None);
    // Every CPU can tell whether the timer is set.
    let stopped = |is_set: &dyn Fn() -> bool| !is_set();
    assert_eq!(all.set_if(&timer[0], CpuId(1), 40, stopped), Ok(true));
    assert_eq!(all.set_if(&timer[0], CpuId(0), 50, stopped), Ok(false));
    assert!(all.pop_expired(CpuId(1), 40).is_some());
    assert_eq!(all.set_if(&timer[0], CpuId(0), 50, stopped), Ok(true));
}
