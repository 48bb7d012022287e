//! A vCPU that several others initialise, bring up, take down, query and give areas at the same time.

use alloc::boxed::Box;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use samples::Random;
use xenlike_rt::abi::arch_x86::VcpuGuestContext;
use xenlike_rt::abi::vcpu::{
    VCPUOP_DOWN, VCPUOP_GET_RUNSTATE_INFO, VCPUOP_INITIALISE, VCPUOP_IS_UP,
    VCPUOP_REGISTER_RUNSTATE_MEMORY_AREA, VCPUOP_UP, VcpuRegisterRunstateMemoryArea,
    VcpuRunstateInfo,
};
use xenlike_rt::{hyper, memory, smp, time};

use crate::round::{Actor, MAX_ACTORS, Operation, Scenario, fail};

/// The scenario of this module. A vCPU can be initialised only once, so the number of
/// first initialisations is limited.
pub const LIFE: Scenario = Scenario {
    name: "vcpu-life",
    least: 2,
    bouts: 4,
    setup,
    operations: &[
        &[initialises, comes_up],
        &[initialises, comes_up, goes_down],
        ANY,
        ANY,
    ],
    check,
};

const ANY: &[Operation] = &[comes_up, goes_down, registers, is_asked];
const PATIENCE_NS: u64 = 20 * time::SECOND_NS;

/// The vCPU that a bout works on.
static OBJECT: AtomicU32 = AtomicU32::new(MAX_ACTORS);
/// All vCPUs below this number have been initialised.
static FRESH: AtomicU32 = AtomicU32::new(MAX_ACTORS);
/// Address of the context of the newest vCPU.
static CONTEXT: AtomicU64 = AtomicU64::new(0);
static RUNS: AtomicU32 = AtomicU32::new(0);
/// A page for runstate areas.
static AREA: AtomicU64 = AtomicU64::new(0);

fn object() -> u32 {
    OBJECT.load(Ordering::Relaxed)
}

fn setup(random: &mut Random) -> bool {
    let vcpus = smp::vcpus();
    let fresh = FRESH.load(Ordering::Relaxed);
    if vcpus <= MAX_ACTORS {
        return false;
    }
    if fresh < vcpus {
        let Some(context) = smp::context(fresh, runs) else {
            return false;
        };
        let context = core::ptr::from_ref(Box::leak(context)).expose_provenance();
        CONTEXT.store(context as u64, Ordering::Relaxed);
        OBJECT.store(fresh, Ordering::Relaxed);
        FRESH.store(fresh + 1, Ordering::Relaxed);
    } else {
        let any = random.below(u64::from(vcpus - MAX_ACTORS)) as u32;
        OBJECT.store(MAX_ACTORS + any, Ordering::Relaxed);
    }
    if AREA.load(Ordering::Relaxed) == 0 {
        let Some(page) = memory::allocate_page() else {
            return false;
        };
        AREA.store(page.expose_provenance() as u64, Ordering::Relaxed);
    }
    true
}

fn runs(_vcpu: u32) {
    RUNS.fetch_add(1, Ordering::Relaxed);
}

fn initialises(_actor: &mut Actor) {
    let context = core::ptr::with_exposed_provenance::<VcpuGuestContext>(
        CONTEXT.load(Ordering::Relaxed) as usize,
    );
    // SAFETY: `setup` leaked the context, and it is not changed afterwards.
    let mut context = unsafe { *context };
    let _ = hyper::vcpu_op(VCPUOP_INITIALISE, object(), &mut context);
}

fn comes_up(actor: &mut Actor) {
    for _ in 0..actor.random.below(200) {
        let _ = hyper::vcpu_op(VCPUOP_UP, object(), &mut 0u64);
        actor.pause();
    }
}

fn goes_down(actor: &mut Actor) {
    for _ in 0..actor.random.below(200) {
        let _ = hyper::vcpu_op(VCPUOP_DOWN, object(), &mut 0u64);
        actor.pause();
    }
}

/// The union of a handle and a 64-bit address, of which a 32-bit guest sets the handle.
#[cfg(target_pointer_width = "32")]
fn area(address: u64) -> [u32; 2] {
    [address as u32, 0]
}
#[cfg(target_pointer_width = "64")]
fn area(address: u64) -> u64 {
    address
}

fn registers(actor: &mut Actor) {
    for _ in 0..actor.random.below(100) {
        let mut area = VcpuRegisterRunstateMemoryArea {
            addr: area(AREA.load(Ordering::Relaxed) + actor.random.below(60) * 64),
        };
        let _ = hyper::vcpu_op(VCPUOP_REGISTER_RUNSTATE_MEMORY_AREA, object(), &mut area);
        actor.pause();
    }
}

fn is_asked(actor: &mut Actor) {
    for _ in 0..actor.random.below(200) {
        let mut info = VcpuRunstateInfo::default();
        let _ = hyper::vcpu_op(VCPUOP_GET_RUNSTATE_INFO, object(), &mut info);
        let _ = hyper::vcpu_op(VCPUOP_IS_UP, object(), &mut 0u64);
        actor.pause();
    }
}

/// Checks that the vCPU runs when it is brought up, and goes down by itself.
fn check() {
    initialises(&mut Actor::alone(1, 1));
    if let Err(error) = hyper::vcpu_op(VCPUOP_UP, object(), &mut 0u64) {
        return fail(format_args!("vCPU {} doesn't come up: {error}", object()));
    }
    let is_down = || hyper::vcpu_op(VCPUOP_IS_UP, object(), &mut 0u64) == Ok(0);
    if !time::wait_for(PATIENCE_NS, is_down) {
        fail(format_args!("vCPU {} doesn't go down", object()));
    }
}
