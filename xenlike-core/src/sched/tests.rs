//! A machine of a few CPUs whose time the tests advance.

use alloc::sync::Arc;
use proptest::prelude::*;
use std::vec;
use std::vec::Vec;

use super::share::{Allowance, Share};
use super::*;

const MS: u64 = 1_000_000;

struct Machine {
    sched: Scheduler<usize>,
    units: Vec<UnitId>,
    shares: Vec<Arc<Share>>,
    wanted: Vec<bool>,
    hard: Vec<CpuSet>,
    used_ns: Vec<u64>,
    /// The unit whose registers each CPU holds, and whether it runs.
    held: Vec<Option<(usize, bool)>>,
    until_ns: Vec<u64>,
    now_ns: u64,
    /// The last time at which no CPU idled while a unit waited for it.
    conserving_ns: u64,
}

impl Machine {
    fn new(cpus: u32, domains: &[u32]) -> Self {
        let sched = Scheduler::new();
        for cpu in 0..cpus {
            sched.bring_online(CpuId(cpu)).unwrap();
        }
        let (mut units, mut shares) = (Vec::new(), Vec::new());
        for &vcpus in domains {
            let share = Arc::new(Share::new());
            for _ in 0..vcpus {
                let spec = Spec {
                    share: share.clone(),
                    hard: CpuSet::ALL,
                    soft: CpuSet::ALL,
                };
                let number = units.len();
                units.push(sched.add(spec, |_| number).unwrap());
                shares.push(share.clone());
            }
        }
        let count = units.len();
        Self {
            sched,
            units,
            shares,
            wanted: vec![false; count],
            hard: vec![CpuSet::ALL; count],
            used_ns: vec![0; count],
            held: vec![None; cpus as usize],
            until_ns: vec![0; cpus as usize],
            now_ns: 0,
            conserving_ns: 0,
        }
    }

    fn kick(&mut self, cpu: Option<CpuId>) {
        if let Some(cpu) = cpu {
            self.until_ns[cpu.index()] = self.now_ns;
        }
    }
    fn wake(&mut self, unit: usize) {
        self.wanted[unit] = true;
        match self.sched.wake(self.units[unit], self.now_ns) {
            Some(Ask::By(cpu, by_ns)) => {
                let until_ns = &mut self.until_ns[cpu.index()];
                *until_ns = by_ns.min(*until_ns);
            }
            now => self.kick(now.and_then(Ask::kick)),
        }
    }
    fn sleep(&mut self, unit: usize) {
        self.wanted[unit] = false;
        let kick = self.sched.sleep(self.units[unit], self.now_ns);
        self.kick(kick);
    }
    fn pin(&mut self, unit: usize, hard: CpuSet) {
        self.hard[unit] = hard;
        let kick = self
            .sched
            .set_affinity(self.units[unit], hard, CpuSet::ALL, self.now_ns);
        self.kick(kick);
    }

    /// Takes a CPU other than the first offline, or brings it back.
    fn toggle(&mut self, cpu: CpuId) {
        if cpu.0 == 0 {
            return;
        }
        if self.sched.online().contains(cpu) {
            assert!(self.sched.take_offline(cpu));
        } else {
            self.sched.bring_online(cpu).unwrap();
        }
        self.kick(Some(cpu));
    }

    /// Moves a unit's domain to a pool of other CPUs.
    fn set_pool(&mut self, unit: usize, cpus: CpuSet) {
        self.shares[unit].set_pool(1, cpus);
        (0..self.held.len()).for_each(|cpu| self.kick(Some(CpuId(cpu as u32))));
    }

    /// Whether a unit may run on `cpu`. Whatever its affinity, there is always a CPU where it may.
    fn may_run(&self, unit: usize, cpu: usize) -> bool {
        let first_of = |sets: [CpuSet; 3]| sets.into_iter().find(|set| !set.is_empty());
        let online = self.sched.online();
        let pool = self.shares[unit].cpus().and(online);
        let pool = first_of([pool, online, online]).unwrap();
        let allowed = first_of([self.hard[unit].and(pool), pool, online]).unwrap();
        allowed.contains(CpuId(cpu as u32))
    }

    fn turn(&mut self, cpu: usize) {
        let turn = self.sched.pick(CpuId(cpu as u32), self.now_ns);
        self.until_ns[cpu] = turn.until_ns.unwrap_or(u64::MAX);
        let held = self.held[cpu].map(|held| held.0);
        match turn.choice {
            Choice::Stay => self.held[cpu] = Some((held.expect("somebody to stay"), true)),
            Choice::Switch(_, unit) => {
                self.held[cpu] = Some((unit, true));
                let kick = self.sched.saved(CpuId(cpu as u32), self.now_ns);
                self.kick(kick);
            }
            Choice::Idle => {
                self.held[cpu] = None;
                let kick = self.sched.saved(CpuId(cpu as u32), self.now_ns);
                self.kick(kick);
            }
        }
        self.kick(turn.kick);
        if let Some((unit, true)) = self.held[cpu] {
            assert!(self.wanted[unit], "unit {unit} runs but sleeps");
            assert!(
                self.may_run(unit, cpu),
                "unit {unit} on a CPU it may not use"
            );
        }
    }

    fn run(&mut self, for_ns: u64) {
        let end_ns = self.now_ns + for_ns;
        while self.now_ns < end_ns {
            let mut rounds = 0;
            while let Some(cpu) =
                (0..self.held.len()).find(|&cpu| self.until_ns[cpu] <= self.now_ns)
            {
                self.turn(cpu);
                rounds += 1;
                assert!(rounds < 1000, "CPUs kick each other without end");
            }
            self.check();
            let next_ns = self
                .until_ns
                .iter()
                .copied()
                .min()
                .unwrap_or(end_ns)
                .min(end_ns);
            for held in self.held.iter().flatten().filter(|held| held.1) {
                self.used_ns[held.0] += next_ns - self.now_ns;
            }
            self.now_ns = next_ns;
        }
    }

    fn check(&mut self) {
        let mut seen = vec![0; self.units.len()];
        for held in self.held.iter().flatten() {
            seen[held.0] += 1;
        }
        assert!(
            seen.iter().all(|&count| count <= 1),
            "a unit on two CPUs: {:?}",
            self.held
        );
        let conserving = (0..self.held.len()).all(|cpu| !self.idles_in_vain(cpu));
        if conserving {
            self.conserving_ns = self.now_ns;
        }
        // A kick may reach a CPU that has just found other work; later turns repeat the kick.
        assert!(
            self.now_ns - self.conserving_ns <= 45 * MS,
            "a CPU idles while a unit waits"
        );
    }

    fn idles_in_vain(&self, cpu: usize) -> bool {
        let idle = !matches!(self.held[cpu], Some((_, true)));
        idle && (0..self.units.len()).any(|unit| {
            let held_by =
                (0..self.held.len()).find(|&cpu| self.held[cpu].is_some_and(|held| held.0 == unit));
            let may = self.may_run(unit, cpu) && self.shares[unit].cap_percent() == 0;
            self.wanted[unit] && may && held_by.is_none_or(|by| by == cpu)
        })
    }

    fn percent(&self, unit: usize) -> u64 {
        self.used_ns[unit] * 100 / self.now_ns
    }
}

fn near(value: u64, expected: u64) {
    assert!(
        value.abs_diff(expected) <= 3,
        "{value} % instead of {expected} %"
    );
}

#[test]
fn weights_divide_one_cpu() {
    let mut machine = Machine::new(1, &[1, 1, 1]);
    machine.shares[1].set_weight(512).unwrap();
    machine.shares[2].set_weight(128).unwrap();
    (0..3).for_each(|unit| machine.wake(unit));
    machine.run(4000 * MS);
    near(machine.percent(0), 29);
    near(machine.percent(1), 57);
    near(machine.percent(2), 14);
}

#[test]
fn a_domain_gets_its_share_however_many_vcpus_it_has() {
    let mut machine = Machine::new(1, &[4, 1]);
    (0..5).for_each(|unit| machine.wake(unit));
    machine.run(4000 * MS);
    near(machine.percent(4), 50);
    near(machine.percent(0), 12);
}

#[test]
fn three_hogs_share_two_cpus() {
    let mut machine = Machine::new(2, &[1, 1, 1]);
    (0..3).for_each(|unit| machine.wake(unit));
    machine.run(8000 * MS);
    (0..3).for_each(|unit| near(machine.percent(unit), 66));
}

#[test]
fn weights_hold_across_cpus() {
    let mut machine = Machine::new(2, &[1, 1, 1, 1]);
    machine.shares[0].set_weight(768).unwrap();
    (0..4).for_each(|unit| machine.wake(unit));
    machine.run(8000 * MS);
    near(machine.percent(0), 100);
    (1..4).for_each(|unit| near(machine.percent(unit), 33));
}

#[test]
fn caps_hold_alone_and_in_company() {
    let mut machine = Machine::new(2, &[1, 2, 1]);
    machine.shares[0].set_cap_percent(25).unwrap();
    machine.shares[1].set_cap_percent(50).unwrap();
    (0..3).for_each(|unit| machine.wake(unit));
    machine.run(6000 * MS);
    near(machine.percent(0), 25);
    near(machine.percent(1) + machine.percent(2), 50);
    machine.wake(3);
    let before = machine.used_ns[0];
    machine.run(6000 * MS);
    near((machine.used_ns[0] - before) * 100 / (6000 * MS), 25);
}

#[test]
fn idle_machine_has_no_tick() {
    let mut machine = Machine::new(4, &[1]);
    machine.wake(0);
    machine.run(5 * MS);
    machine.sleep(0);
    machine.run(MS);
    assert!(machine.until_ns.iter().all(|&until| until == u64::MAX));
    assert_eq!(machine.sched.idle(), CpuSet::first_n(4));
}

#[test]
fn a_sleeper_preempts_a_hog_at_once() {
    let mut machine = Machine::new(1, &[1, 1]);
    machine.wake(0);
    machine.run(35 * MS);
    machine.wake(1);
    machine.run(2 * MS);
    assert!(machine.used_ns[1] > 0);
}

#[test]
fn the_first_that_waits_ends_the_turn_of_the_one_that_runs() {
    let mut machine = Machine::new(1, &[1, 1, 1]);
    machine.wake(0);
    machine.run(MS / 2);
    let (sched, now_ns) = (&machine.sched, machine.now_ns);
    let limit_ns = now_ns + sched.ratelimit_ns();
    let ask = sched.wake(machine.units[1], now_ns);
    assert!(
        matches!(ask, Some(Ask::By(CpuId(0), by_ns)) if by_ns > now_ns && by_ns < limit_ns),
        "{ask:?}"
    );
    assert_eq!(sched.wake(machine.units[2], now_ns), None);
    assert!(matches!(sched.pick(CpuId(0), now_ns).choice, Choice::Stay));
}

/// A unit that is behind keeps running when another wakes ahead of it: that interrupts no CPU.
#[test]
fn who_has_to_wait_interrupts_nobody() {
    let mut machine = Machine::new(1, &[1, 1]);
    machine.wake(0);
    machine.run(40 * MS);
    machine.sleep(0);
    machine.wake(1);
    machine.run(MS);
    assert_eq!(machine.held[0], Some((1, true)));
    let ask = machine.sched.wake(machine.units[0], machine.now_ns);
    assert_eq!(ask.and_then(Ask::kick), None, "{ask:?}");
}

/// A domain whose other vCPUs are always asleep when its running one is accounted.
#[test]
fn nobody_pays_less_by_ducking_at_the_accounting() {
    let mut machine = Machine::new(1, &[4, 1]);
    (0..5).for_each(|unit| machine.wake(unit));
    machine.run(MS);
    while machine.now_ns < 4000 * MS {
        machine.run(1);
        machine.run(machine.until_ns[0] - machine.now_ns - 1);
        let runs = machine.held[0].unwrap().0;
        let ducks = |&unit: &usize| runs < 4 && unit != runs;
        (0..4).filter(ducks).for_each(|unit| machine.sleep(unit));
        machine.run(2);
        (0..4).filter(ducks).for_each(|unit| machine.wake(unit));
    }
    near(machine.percent(4), 50);
}

#[test]
fn all_of_an_overdraft_is_paid_back() {
    let share = Share::new();
    share.set_cap_percent(1).unwrap();
    let now_ns = 1000 * MS;
    for _ in 0..64 {
        let _ = share.charge(MS / 5, now_ns);
    }
    let Allowance::ParkUntil(until_ns) = share.charge(0, now_ns) else {
        panic!("not parked");
    };
    let debt_ns = 64 * MS / 5;
    assert!(until_ns > now_ns + (debt_ns - MS) * 100);
    assert!(matches!(share.charge(0, until_ns), Allowance::For(_)));
}

/// The shortest turns on many CPUs add up to far more than a small cap allows; the cap holds in the long run.
#[test]
fn a_small_cap_holds_on_many_cpus() {
    let mut machine = Machine::new(64, &[64]);
    machine.shares[0].set_cap_percent(1).unwrap();
    (0..64).for_each(|unit| machine.wake(unit));
    machine.run(8000 * MS);
    let used_ns: u64 = machine.used_ns.iter().sum();
    assert!(
        (60 * MS..=95 * MS).contains(&used_ns),
        "{used_ns} ns of 80 ms"
    );
}

#[test]
fn yield_lets_the_other_go_first() {
    let mut machine = Machine::new(1, &[1, 1]);
    (0..2).for_each(|unit| machine.wake(unit));
    machine.run(3 * MS);
    let first = machine.held[0].unwrap().0;
    machine.sched.yield_now(CpuId(0));
    machine.turn(0);
    assert_eq!(machine.held[0], Some((1 - first, true)));
}

/// Checks that units have run for so many ms since they had run for `before`.
fn gets(machine: &Machine, before: &[u64], ms: [u64; 3]) {
    for ((used, before), ms) in machine.used_ns.iter().zip(before).zip(ms) {
        near(used - before, ms * MS);
    }
}

#[test]
fn a_cpu_that_goes_offline_is_left_and_comes_back() {
    let mut machine = Machine::new(2, &[1, 1, 1]);
    (0..3).for_each(|unit| machine.wake(unit));
    machine.pin(2, CpuSet::one(CpuId(1)));
    machine.run(300 * MS);
    machine.toggle(CpuId(1));
    machine.run(300 * MS);
    assert_eq!(machine.held[1], None);
    let before = machine.used_ns.clone();
    machine.run(300 * MS);
    gets(&machine, &before, [100; 3]);
    // A unit that is added meanwhile finds room in the CPU's queue later.
    let spec = Spec {
        share: machine.shares[0].clone(),
        hard: CpuSet::one(CpuId(1)),
        soft: CpuSet::ALL,
    };
    machine.sched.add(spec, |_| 3).unwrap();
    machine.toggle(CpuId(1));
    let before = machine.used_ns.clone();
    machine.run(300 * MS);
    gets(&machine, &before, [200; 3]);
    assert!(!machine.sched.take_offline(CpuId(7)));
    machine.toggle(CpuId(1));
    assert!(!machine.sched.take_offline(CpuId(0)), "the last one");
}

#[test]
fn pools_keep_apart() {
    let mut machine = Machine::new(3, &[2, 1]);
    (0..3).for_each(|unit| machine.wake(unit));
    machine.run(100 * MS);
    machine.set_pool(0, CpuSet::one(CpuId(0)));
    machine.set_pool(2, CpuSet(6));
    let before = machine.used_ns.clone();
    machine.run(400 * MS);
    gets(&machine, &before, [200, 200, 400]);
    // A CPU that is in no pool runs no unit.
    machine.set_pool(2, CpuSet::one(CpuId(1)));
    machine.run(100 * MS);
    assert_eq!((machine.held[1], machine.held[2]), (Some((2, true)), None));
}

#[test]
fn a_unit_that_runs_is_not_removed_and_a_name_is_used_once() {
    let mut machine = Machine::new(1, &[1]);
    let id = machine.units[0];
    machine.wake(0);
    machine.run(MS);
    assert_eq!(
        machine.sched.remove(id, machine.now_ns),
        Err(Busy(CpuId(0)))
    );
    machine.sleep(0);
    machine.run(MS);
    assert_eq!(machine.sched.running_on(id), None);
    assert_eq!(machine.sched.remove(id, machine.now_ns), Ok(Some(0)));
    assert_eq!(machine.sched.remove(id, machine.now_ns), Ok(None));
    let spec = Spec {
        share: machine.shares[0].clone(),
        hard: CpuSet::ALL,
        soft: CpuSet::ALL,
    };
    assert_ne!(machine.sched.add(spec, |_| 7), Ok(id));
    assert_eq!(machine.sched.wake(id, 0), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn nobody_is_lost_or_doubled(
        cpus in 1u32..5,
        steps in proptest::collection::vec((0usize..9, 0u8..9, 0u64..15_000_000, 1u64..16), 1..80),
    ) {
        let mut machine = Machine::new(cpus, &[4, 1, 2, 1, 1]);
        machine.shares[7].set_cap_percent(40).unwrap();
        for (unit, act, time_ns, bits) in steps {
            match act {
                0..=2 => machine.wake(unit),
                3 | 4 => machine.sleep(unit),
                5 => {
                    let hard = CpuSet(bits).and(CpuSet::first_n(cpus));
                    if !hard.is_empty() {
                        machine.pin(unit, hard);
                    }
                }
                6 => machine.sched.yield_now(CpuId((unit as u32) % cpus)),
                7 => machine.toggle(CpuId((unit as u32) % cpus)),
                _ => machine.set_pool(unit, CpuSet(bits).and(CpuSet::first_n(cpus))),
            }
            machine.run(time_ns);
        }
        // Every runnable unit gets to run.
        (0..9).for_each(|unit| machine.pin(unit, CpuSet::ALL));
        (0..9).for_each(|unit| machine.set_pool(unit, CpuSet::ALL));
        let before = machine.used_ns.clone();
        machine.run(1000 * MS);
        for unit in (0..9).filter(|&unit| machine.wanted[unit]) {
            prop_assert!(machine.used_ns[unit] > before[unit], "unit {} starves", unit);
        }
    }
}

/// Three CPUs as real threads, while another thread wakes, stops and moves units: no unit is ever on two CPUs, and no
/// thread waits for a lock for ever.
#[test]
fn cpus_at_once() {
    use std::sync::atomic::AtomicBool;
    const UNITS: usize = 6;
    let sched: Scheduler<usize> = Scheduler::new();
    (0..3).for_each(|cpu| sched.bring_online(CpuId(cpu)).unwrap());
    let share = Arc::new(Share::new());
    let add = |number: usize| {
        let spec = Spec {
            share: share.clone(),
            hard: CpuSet::ALL,
            soft: CpuSet::ALL,
        };
        sched.add(spec, |_| number).unwrap()
    };
    let units: Vec<UnitId> = (0..UNITS).map(add).collect();
    let busy: [AtomicBool; UNITS] = [const { AtomicBool::new(false) }; UNITS];
    let clock = AtomicU64::new(1);
    let now = || clock.fetch_add(50_000, Ordering::Relaxed);
    let cpu = |number: u32| {
        let mut held: Option<usize> = None;
        for turn in 0..4000 {
            let choice = sched.pick(CpuId(number), now()).choice;
            if let Choice::Switch(_, unit) = choice {
                if let Some(old) = held.replace(unit) {
                    busy[old].store(false, Ordering::SeqCst);
                }
                sched.saved(CpuId(number), now());
                assert!(
                    !busy[unit].swap(true, Ordering::SeqCst),
                    "unit {unit} on two CPUs"
                );
            } else if let (Choice::Idle, Some(old)) = (choice, held) {
                busy[old].store(false, Ordering::SeqCst);
                held = None;
                sched.saved(CpuId(number), now());
            }
            if turn % 7 == 0 {
                std::thread::yield_now();
            }
        }
        if let Some(old) = held {
            busy[old].store(false, Ordering::SeqCst);
        }
    };
    std::thread::scope(|scope| {
        let cpu = &cpu;
        let cpus: Vec<_> = (0..3)
            .map(|number| scope.spawn(move || cpu(number)))
            .collect();
        let mut step = 0_usize;
        while cpus.iter().any(|cpu| !cpu.is_finished()) {
            let unit = units[step % UNITS];
            let kick = match step / UNITS % 4 {
                0 | 2 => sched.wake(unit, now()).and_then(Ask::kick),
                1 => sched.sleep(unit, now()),
                3 if step.is_multiple_of(UNITS) => {
                    let cpu = CpuId(2);
                    if !sched.take_offline(cpu) {
                        sched.bring_online(cpu).unwrap();
                    }
                    Some(cpu)
                }
                _ => {
                    let hard = CpuSet(1 + (step as u64) % 7);
                    sched.set_affinity(unit, hard, CpuSet::ALL, now())
                }
            };
            assert!(kick.is_none_or(|cpu| cpu.0 < 3));
            step += 1;
        }
    });
}
