//! Rounds: the choice of operations, starting all actors at the same time, and reports of violations.

#[cfg(target_arch = "x86")]
use core::arch::x86 as isa;
#[cfg(target_arch = "x86_64")]
use core::arch::x86_64 as isa;
use core::fmt;
use core::hint::spin_loop;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use samples::Random;
use xenlike_rt::abi::vcpu::{VCPUOP_GET_RUNSTATE_INFO, VcpuRunstateInfo};
use xenlike_rt::sync::Lock;
use xenlike_rt::{cpu, events, hyper, println, smp, time};

/// Maximum number of vCPUs that act in a round.
pub const MAX_ACTORS: u32 = 4;
/// Duration of a looping operation.
const BURST_NS: u64 = 100_000_000;
/// More time than any operation takes.
const PATIENCE_NS: u64 = 60 * time::SECOND_NS;
/// Steps of the clock above this are reported while waiting.
const LEAP_NS: u64 = 10 * time::SECOND_NS;
/// Longest random pauses, in iterations of an empty loop. Each round picks one.
const PAUSES: [u64; 6] = [1, 16, 64, 256, 2048, 16384];
/// Iterations of waiting before a vCPU sleeps, and the length of a sleep.
const SPINS: u32 = 2000;
const NAP_NS: u64 = 100_000;
/// Maximum number of violations that are printed, since one fault can cause thousands.
const MAX_PRINTED: u32 = 20;

/// The settings from the command line.
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

/// A shared object, the operations that race on it, and the condition that must hold afterwards.
pub struct Scenario {
    pub name: &'static str,
    /// Minimum number of actors that makes sense.
    pub least: u32,
    /// How often a round repeats the scenario; often where operations are single calls.
    pub bouts: u32,
    /// Prepares the object before the actors start. Returns false if the scenario has run out of objects.
    pub setup: fn(&mut Random) -> bool,
    /// Actor n picks an operation of row n. Actors beyond the last row don't take part.
    pub operations: &'static [&'static [Operation]],
    /// Checks the object when all actors are done, and restores it.
    pub check: fn(),
}

/// A vCPU in a bout.
pub struct Actor {
    /// Number of the actor, from 0.
    pub slot: u32,
    pub random: Random,
    longest_pause: u64,
    /// Value of the time-stamp counter at which loops end.
    until: u64,
}

impl Actor {
    /// An actor outside of rounds.
    pub fn alone(seed: u64, longest_pause: u64) -> Self {
        Self {
            slot: 0,
            random: Random::new(seed),
            longest_pause,
            until: u64::MAX,
        }
    }

    /// Waits for a random time.
    pub fn pause(&mut self) {
        spin(self.random.below(self.longest_pause));
    }

    /// Whether a looping operation continues.
    pub fn goes_on(&self) -> bool {
        timestamp() < self.until
    }
}

/// An empty loop. It has no `pause` instruction, at which emulators switch to another CPU.
pub fn spin(turns: u64) {
    for turn in 0..turns {
        core::hint::black_box(turn);
    }
}

/// Reads the time-stamp counter.
pub fn timestamp() -> u64 {
    // SAFETY: always allowed.
    unsafe { isa::_rdtsc() }
}

/// The choices of a round, determined by the seed and the round's number.
#[derive(Clone)]
struct Plan {
    scenario: usize,
    actors: u32,
    random: Random,
}

static SCENARIOS: Lock<&'static [Scenario]> = Lock::new(&[]);
static SEED: AtomicU64 = AtomicU64::new(0);
/// The index of the scenario for every round, plus one; 0 if each round chooses its own.
static ONLY: AtomicU64 = AtomicU64::new(0);
static VCPUS: AtomicU32 = AtomicU32::new(1);
/// The current bout: the round's number from bit 16 on, the bout's number in the low bits. Bit 15 alternates, to tell
/// a round from the one before, which may have the same number.
static TICKET: AtomicU64 = AtomicU64::new(0);
/// The last bout that was started. Its actors wait for this, so that they start together.
static GO: AtomicU64 = AtomicU64::new(0);
/// Numbers of actors that wait for the start and that are done, without the first actor.
static READY: AtomicU32 = AtomicU32::new(0);
static DONE: AtomicU32 = AtomicU32::new(0);
/// The state that each vCPU publishes for reports: the last bout that it began, how often it has read the ticket, and
/// its clock at the last read.
static SHOWN: [[AtomicU64; 3]; MAX_ACTORS as usize] =
    [const { [const { AtomicU64::new(0) }; 3] }; MAX_ACTORS as usize];
/// [`BURST_NS`] in ticks of the time-stamp counter.
static BURST_TICKS: AtomicU64 = AtomicU64::new(0);
static STOP: AtomicBool = AtomicBool::new(false);
static FAILURES: AtomicU32 = AtomicU32::new(0);
static START_NS: AtomicU64 = AtomicU64::new(0);

/// Number of violations so far.
pub fn failures() -> u32 {
    FAILURES.load(Ordering::Relaxed)
}

/// Reports a violation of the current round.
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

/// Spreads a seed, a round's number and a part's number over all bits (splitmix64).
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

/// Performs the part of actor `slot` in a bout.
fn act(slot: u32, plan: &Plan, ticket: u64) {
    let scenarios = scenarios();
    let seed = SEED.load(Ordering::Relaxed);
    let mut choice = mix(seed, ticket >> 16, 1 + u64::from(slot));
    let row = scenarios[plan.scenario].operations[slot as usize];
    let operation = row[choice.below(row.len() as u64) as usize];
    // Single calls need shorter pauses than loops, so that they coincide.
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

/// The main function of all vCPUs but the first.
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
            // Leaves the CPUs to the actors.
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

/// A step of a possibly long wait: spins at first, then sleeps briefly, because the machine may have fewer CPUs
/// than there are vCPUs.
fn wait_step(turns: &mut u32) {
    if *turns < SPINS {
        *turns += 1;
        spin_loop();
    } else {
        let _ = events::wait(&[], time::now_ns() + NAP_NS);
    }
}

/// Prints what each vCPU of a bout is doing. A blocked one has not been woken; a running one doesn't end its loop.
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

/// How long a wait has taken. Each step of the clock counts as a second at most, since the clock of a paused machine,
/// for instance, may keep running.
struct Waited {
    last_ns: u64,
    sum_ns: u64,
}

impl Waited {
    fn new() -> Self {
        let last_ns = time::now_ns();
        Self { last_ns, sum_ns: 0 }
    }

    /// Whether the wait has taken too long.
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

/// Waits until the other actors of a bout have reached a point.
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

/// Runs a bout: prepares the object, lets all act at the same time, checks the object.
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

/// Starts the other vCPUs and runs rounds until the time is over; returns the number of rounds.
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
