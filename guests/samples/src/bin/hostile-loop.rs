//! Attack: keep the CPU busy with events masked, for `seconds=N` (2), in ring 3 and in hypercalls. The hypervisor
//! must keep scheduling others. `forever=1` never ends and waits to be destroyed.

#![no_std]
#![no_main]

use samples::Attack;
use xenlike_rt::abi::version::XENVER_VERSION;
use xenlike_rt::abi::{hypercall, xen};
use xenlike_rt::{args, events, hyper, println, time};

xenlike_rt::entry!(main);

fn main() {
    let attack = Attack::new("hostile-loop", "keep the CPU");
    events::close_upcalls();
    let seconds = args::number("seconds", 2);
    if args::number("forever", 0) != 0 {
        println!("hostile-loop: expects to be destroyed: loops for ever");
        loop {
            core::hint::spin_loop();
        }
    }
    let end = time::now_ns() + seconds * time::SECOND_NS;
    let mut turns = 0u64;
    while time::now_ns() < end {
        turns += 1;
    }
    println!("  {turns} turns in ring 3");
    let end = time::now_ns() + seconds * time::SECOND_NS;
    let mut calls = 0u64;
    while time::now_ns() < end {
        let _ = hyper::op_without_argument(hypercall::XEN_VERSION, XENVER_VERSION);
        // The longest call without effect: 64 K invalid requests.
        let wrong = [xen::MmuUpdate { ptr: 3, val: 0 }; 16];
        // SAFETY: command 3 on frame 0 is refused.
        #[expect(unsafe_code, reason = "a refused update")]
        let _ = unsafe { hyper::mmu_update(&wrong, xen::DOMID_SELF) };
        calls += 2;
    }
    println!("  {calls} hypercalls");
    attack.finish();
}
