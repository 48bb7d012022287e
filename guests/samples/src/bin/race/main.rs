//! Attack: two to four vCPUs work on one shared object at the same time, with random delays. The guest then checks,
//! from inside, whether it could write where it may not: to a page table through a stale translation or mapping, to a
//! frame after its grant ended, to a frame after it was returned.
//!
//! Each scenario ([`SCENARIOS`]) names its object, the operations from which its actors choose, and its check. The
//! seed and the number of a round determine its scenario, operations and delays; a round repeats them a few times. A
//! violation prints `FAIL race …` with both numbers.
//!
//! Command line: `seed=N`, `seconds=N` (duration), `first=N` (number of the first round), `rounds=N` (maximum),
//! `only=NAME` (one scenario), `same=1` (repeats the first round), `leave=chain` (leaves a chain of half-validated tables
//! behind and waits to be destroyed), `grants=2` (its grant table has version 2), `role=granter`, `role=passer` and
//! `role=mapper` (two or three domains, see [`pair`]).

#![no_std]
#![no_main]
#![expect(unsafe_code, reason = "maps, pins and gives away its own memory")]

extern crate alloc;

mod chain;
mod crosswise;
mod events;
mod frame;
mod grant;
mod memory;
mod page;
mod pair;
mod place;
mod round;
mod vcpu;

use xenlike_rt::{args, grants, println, time};

use round::{Scenario, Settings};

xenlike_rt::entry!(main);

/// Scenarios that leave the guest unusable; they run only by `only=`.
static ALONE: [Scenario; 1] = [events::FIFO];

/// All other scenarios.
static SCENARIOS: [Scenario; 8] = [
    frame::LAST_WRITABLE,
    frame::MANY_USES,
    crosswise::CROSSWISE,
    grant::MANY_USES,
    chain::PARTIAL,
    memory::GIVEN_BACK,
    events::PORTS,
    vcpu::LIFE,
];

fn main() {
    let settings = Settings {
        seed: args::number("seed", time::now_ns() | 1),
        seconds: args::number("seconds", 20),
        first: args::number("first", 0),
        rounds: args::number("rounds", u64::MAX),
        only: args::value("only"),
        same: args::number("same", 0) != 0,
    };
    println!("race: seed={} seconds={}", settings.seed, settings.seconds);
    if args::number("grants", 1) == 2
        && let Err(error) = grants::use_version_2()
    {
        return println!("FAIL race: no grant table of version 2: {error}");
    }
    let done = match args::value("role") {
        Some("granter") => return pair::granter(),
        Some("passer") => return pair::passer(),
        Some("mapper") => pair::mapper(&settings),
        _ if args::value("leave") == Some("chain") => return chain::leave(&settings),
        _ if settings.only == Some(ALONE[0].name) => round::run(&ALONE, &settings),
        _ => round::run(&SCENARIOS, &settings),
    };
    match done {
        Ok(rounds) if round::failures() == 0 => {
            println!("PASS race rounds={rounds} seed={}", settings.seed);
        }
        Ok(rounds) => println!(
            "FAIL race: {} violations, rounds={rounds} seed={}",
            round::failures(),
            settings.seed
        ),
        Err(why) => println!("FAIL race: {why}"),
    }
}
