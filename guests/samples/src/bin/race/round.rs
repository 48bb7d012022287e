//! Rounds: who does what, all of them starting together, and what is said of violations.

use core::fmt;
use core::hint::spin_loop;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use samples::Random;
use xenlike_rt::abi::vcpu::{VCPUOP_GET_RUNSTATE_INFO, VcpuRunstateInfo};
use xenlike_rt::sync::Lock;
use xenlike_rt::{cpu, events, hyper, println, smp, time};

/// Most vCPUs that act in a round.
pub const MAX_ACTORS: u32 = 4;
/// How long a looping operation goes on.
const BURST_NS: u64 = 100_000_000;
/// No operation takes so long.
const PATIENCE_NS: u64 = 60 * time::SECOND_NS;
/// A step of waiting that is longer than this is told.
const LEAP_NS: u64 = 10 * time::SECOND_NS;
/// Longest random pauses, in turns of an empty loop: each round picks one.
const PAUSES: [u64; 6] = [1, 16, 64, 256, 2048, 16384];
/// Turns of waiting before a vCPU sleeps, and for how long it does.
const SPINS: u32 = 2000;
const NAP_NS: u64 = 100_000;
/// Violations that are printed; one fault can make thousands.
const MAX_PRINTED: u32 = 20;

/// What the command line says.
pub struct Settings {
    pub seed: u64,
    pub seconds: u64,
    pub first: u64,
    pub rounds: u64,
    pub only: Option<&'static str>,
    pub same: bool,
}

/// What one vCPU does in a round.
pub type Operation = fn(&mut Actor);

/// A shared object, what is done to it at the same time, and what must hold afterwards.
pub struct Scenario {
    pub name: &'static str,
    /// The fewest actors that make sense.
    pub least: u32,
    /// How often a round repeats it: many times where operations are single calls.
    pub bouts: u32,
    /// Prepares the object, before anybody acts; false where the scenario has run out of objects.
    pub setup: fn(&mut Random) -> bool,
    /// Actor n picks an operation of row n. Actors beyond the last row don't take part.
    pub operations: &'static [&'static [Operation]],
    /// Looks at the object when all have acted, and puts it in order again.
    pub check: fn(),
}

/// One vCPU in one bout.
pub struct Actor {
    /// Its number, from 0.
    pub slot: u32,
    pub random: Random,
    longest_pause: u64,
    /// The time-stamp counter's value at which loops end.
    until: u64,
}

impl Actor {
    /// One that acts outside of rounds.
    pub fn alone(seed: u64, longest_pause: u64) -> Self {
        Self {
            slot: 0,
            random: Random::new(seed),
            longest_pause,
            until: u64::MAX,
        }
    }

    /// Waits for a random while.
    pub fn pause(&mut self) {
        spin(self.random.below(self.longest_pause));
    }

    /// Whether a looping operation goes on.
    pub fn goes_on(&self) -> bool {
        timestamp() < self.until
    }
}

/// An empty loop. Without the `pause` instruction, with which emulators give the CPU up.
pub fn spin(turns: u64) {
    for turn in 0..turns {
        core::hint::black_box(turn);
    }
}

/// The time-stamp counter.
pub fn timestamp() -> u64 {
    // SAFETY: always allowed.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// What a round does, which follows from the seed and its number.
#[derive(Clone)]
struct Plan {
    scenario: usize,
    actors: u32,
    random: Random,
}

static SCENARIOS: Lock<&'static [Scenario]> = Lock::new(&[]);
static SEED: AtomicU64 = AtomicU64::new(0);
/// The scenario that every round has, one up; 0: each its own.
static ONLY: AtomicU64 = AtomicU64::new(0);
static VCPUS: AtomicU32 = AtomicU32::new(1);
/// The bout under way: the round's number from bit 16 on, the bout's in it below. Bit 15 tells a round from the one
/// before, which may have the same number.
static TICKET: AtomicU64 = AtomicU64::new(0);
/// The last bout that has begun: its actors wait for that, so that they start together.
static GO: AtomicU64 = AtomicU64::new(0);
/// Actors that wait for it, and those that have done their part, without the first.
static READY: AtomicU32 = AtomicU32::new(0);
static DONE: AtomicU32 = AtomicU32::new(0);
/// What each vCPU shows of itself to whoever waits for it: the last bout that it took up, the number of looks at the
/// ticket, and its clock at the last of them.
static SHOWN: [[AtomicU64; 3]; MAX_ACTORS as usize] =
    [const { [const { AtomicU64::new(0) }; 3] }; MAX_ACTORS as usize];
/// [`BURST_NS`] by the time-stamp counter.
static BURST_TICKS: AtomicU64 = AtomicU64::new(0);
static STOP: AtomicBool = AtomicBool::new(false);
static FAILURES: AtomicU32 = AtomicU32::new(0);
static START_NS: AtomicU64 = AtomicU64::new(0);

/// Violations so far.
pub fn failures() -> u32 {
    FAILURES.load(Ordering::Relaxed)
}

/// Reports a violation of the round that is under way.
pub fn fail(what: fmt::Arguments<'_>) {
    if FAILURES.fetch_add(1, Ordering::Relaxed) >= MAX_PRINTED {
        return;
    }
    if scenarios().is_empty() {
        return println!("FAIL race: {what}");
    }
    let round = TICKET.load(Ordering::Relaxed) >> 16;
    let seed = SEED.load(Ordering::Relaxed);
    let after = (time::now_ns() - START_NS.load(Ordering::Relaxed)) / 1_000_000;
    let name = name_of(&plan(round));
    println!("FAIL race {name} seed={seed} round={round} after {after} ms: {what}");
}

fn scenarios() -> &'static [Scenario] {
    *SCENARIOS.lock()
}

fn name_of(plan: &Plan) -> &'static str {
    scenarios()[plan.scenario].name
}

/// Spreads a seed, a round's number and a part's over all bits (splitmix64).
fn mix(seed: u64, round: u64, part: u64) -> Random {
    let mut x = seed
        .wrapping_add(round.wrapping_mul(0x9e37_79b9_7f4a_7c15))
        .wrapping_add(part.wrapping_mul(0xd1b5_4a32_d192_ed03));
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    Random::new(x ^ (x >> 31))
}

fn plan(round: u64) -> Plan {
    let mut random = mix(SEED.load(Ordering::Relaxed), round, 0);
    let scenarios = scenarios();
    let scenario = match ONLY.load(Ordering::Relaxed) {
        0 => random.below(scenarios.len() as u64) as usize,
        only => only as usize - 1,
    };
    let rows = scenarios[scenario].operations.len() as u32;
    let most = VCPUS.load(Ordering::Relaxed).min(rows);
    let actors = (2 + random.below(3) as u32)
        .max(scenarios[scenario].least)
        .min(most);
    Plan {
        scenario,
        actors,
        random,
    }
}

/// Does the part of actor `slot` in a bout.
fn act(slot: u32, plan: &Plan, ticket: u64) {
    let scenarios = scenarios();
    let seed = SEED.load(Ordering::Relaxed);
    let mut choice = mix(seed, ticket >> 16, 1 + u64::from(slot));
    let row = scenarios[plan.scenario].operations[slot as usize];
    let operation = row[choice.below(row.len() as u64) as usize];
    // Single calls need shorter pauses than loops: they are to meet.
    let pauses = if scenarios[plan.scenario].bouts > 1 {
        &PAUSES[..4]
    } else {
        &PAUSES[..]
    };
    let longest_pause = pauses[choice.below(pauses.len() as u64) as usize];
    let mut actor = Actor {
        slot,
        random: mix(seed, ticket & !(1 << 15), 9 + u64::from(slot)),
        longest_pause,
        until: timestamp() + BURST_TICKS.load(Ordering::Relaxed),
    };
    actor.pause();
    operation(&mut actor);
}

/// What vCPUs beside the first do.
fn helper(vcpu: u32) {
    let (mut seen, mut turns) = (0, 0);
    let [last_bout, looks, clock_ns] = &SHOWN[vcpu as usize];
    while !STOP.load(Ordering::Relaxed) {
        let ticket = TICKET.load(Ordering::Acquire);
        looks.fetch_add(1, Ordering::Relaxed);
        clock_ns.store(time::now_ns(), Ordering::Relaxed);
        if ticket == seen {
            wait_step(&mut turns);
            continue;
        }
        (seen, turns) = (ticket, 0);
        last_bout.store(seen, Ordering::Relaxed);
        let plan = plan(ticket >> 16);
        if vcpu >= plan.actors {
            // Leaves the machine to those who act.
            turns = SPINS;
            continue;
        }
        READY.fetch_add(1, Ordering::Release);
        let mut turns = 1u32;
        while GO.load(Ordering::Acquire) != ticket {
            turns = turns.wrapping_add(1);
            if turns.is_multiple_of(512) {
                hyper::yield_now();
            }
        }
        act(vcpu, &plan, ticket);
        DONE.fetch_add(1, Ordering::Release);
    }
}

/// A step of waiting that may be long: spins at first, then sleeps a little at a time, because the machine may have fewer
/// CPUs than there are vCPUs.
fn wait_step(turns: &mut u32) {
    if *turns < SPINS {
        *turns += 1;
        spin_loop();
    } else {
        let _ = events::wait(&[], time::now_ns() + NAP_NS);
    }
}

/// Says what each of a bout's vCPUs does: one that is blocked has not been woken, one that runs doesn't end its loop.
fn where_they_are(plan: &Plan) {
    let (ready, done) = (READY.load(Ordering::Acquire), DONE.load(Ordering::Acquire));
    println!(
        "race {}: of {} actors {ready} began and {done} ended, without the first; it is {} ns and bout {:#x}",
        name_of(plan),
        plan.actors,
        time::now_ns(),
        TICKET.load(Ordering::Acquire),
    );
    for vcpu in 1..VCPUS.load(Ordering::Relaxed) {
        let mut info = VcpuRunstateInfo::default();
        let asked = hyper::vcpu_op(VCPUOP_GET_RUNSTATE_INFO, vcpu, &mut info);
        let [last_bout, looks, clock_ns] = SHOWN[vcpu as usize]
            .each_ref()
            .map(|word| word.load(Ordering::Relaxed));
        println!(
            "race: vCPU {vcpu} {asked:?} is in runstate {} from {} ns on; it has looked {looks} times, the last time at \
             {clock_ns} ns, and took up bout {last_bout:#x}",
            info.state, info.state_entry_time
        );
    }
}

/// How long somebody has waited. A machine whose clock goes on while it stands still (one that is paused, say) doesn't make
/// it long: between two looks no more than a second counts.
struct Waited {
    last_ns: u64,
    sum_ns: u64,
}

impl Waited {
    fn new() -> Self {
        let last_ns = time::now_ns();
        Self { last_ns, sum_ns: 0 }
    }

    /// Whether it has been too long by now.
    fn too_long(&mut self) -> bool {
        let now_ns = time::now_ns();
        let step_ns = now_ns.saturating_sub(self.last_ns);
        if step_ns > LEAP_NS {
            println!("race: the clock went {} ms in a step", step_ns / 1_000_000);
        }
        self.last_ns = now_ns;
        self.sum_ns += step_ns.min(time::SECOND_NS);
        self.sum_ns > PATIENCE_NS
    }
}

/// Waits until the others of a bout have come to a point.
fn wait_for_others(count: &AtomicU32, plan: &Plan) -> Result<(), &'static str> {
    let (mut turns, mut waited) = (0, Waited::new());
    while count.load(Ordering::Acquire) + 1 < plan.actors {
        wait_step(&mut turns);
        if turns == SPINS && waited.too_long() {
            where_they_are(plan);
            return Err("a vCPU doesn't come back from its operation");
        }
    }
    Ok(())
}

/// One bout: prepares, lets all act at the same time, checks.
fn bout(scenario: &Scenario, plan: &mut Plan, ticket: u64) -> Result<bool, &'static str> {
    if !(scenario.setup)(&mut plan.random) {
        return Ok(false);
    }
    DONE.store(0, Ordering::Relaxed);
    READY.store(0, Ordering::Relaxed);
    TICKET.store(ticket, Ordering::Release);
    wait_for_others(&READY, plan)?;
    GO.store(ticket, Ordering::Release);
    act(0, plan, ticket);
    wait_for_others(&DONE, plan)?;
    (scenario.check)();
    Ok(true)
}

/// Starts the other vCPUs and runs rounds until the time is over; gives their number.
pub fn run(scenarios: &'static [Scenario], settings: &Settings) -> Result<u64, &'static str> {
    *SCENARIOS.lock() = scenarios;
    SEED.store(settings.seed, Ordering::Relaxed);
    let found = |name| scenarios.iter().position(|scenario| scenario.name == name);
    if let Some(name) = settings.only {
        let index = found(name).ok_or("no scenario has that name")?;
        ONLY.store(index as u64 + 1, Ordering::Relaxed);
    }
    let vcpus = smp::vcpus().min(MAX_ACTORS);
    VCPUS.store(vcpus, Ordering::Relaxed);
    crate::page::prepare()?;
    debug_assert_eq!(cpu::number(), 0);
    for vcpu in 1..vcpus {
        smp::start(vcpu, helper).map_err(|_| "a vCPU doesn't start")?;
    }
    let (before, wait) = (timestamp(), time::now_ns() + BURST_NS);
    while time::now_ns() < wait {}
    BURST_TICKS.store(timestamp() - before, Ordering::Relaxed);
    let start = time::now_ns();
    START_NS.store(start, Ordering::Relaxed);
    let end = start + settings.seconds * time::SECOND_NS;
    let mut counts = [0u32; 16];
    let (mut round, mut rounds) = (settings.first, 0);
    while rounds < settings.rounds && time::now_ns() < end {
        let mut plan = plan(round);
        let scenario = &scenarios[plan.scenario];
        for number in 1..=u64::from(scenario.bouts) {
            let ticket = (round << 16) | ((rounds & 1) << 15) | number;
            if !bout(scenario, &mut plan, ticket)? {
                break;
            }
        }
        counts[plan.scenario] += 1;
        rounds += 1;
        round += u64::from(!settings.same);
    }
    STOP.store(true, Ordering::Relaxed);
    for (scenario, count) in scenarios.iter().zip(counts) {
        println!("  {}: {count} rounds", scenario.name);
    }
    Ok(rounds)
}
