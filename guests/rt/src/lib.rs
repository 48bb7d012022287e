//! A small runtime for PV guests of Xen and xenlike, 64-bit and 32-bit.
//!
//! It brings a Rust program to `main` in the kernel mode of a paravirtual machine, with a heap, a console, a
//! panic that says where, and safe calls for what a PV kernel does: events, timers, grants, page
//! tables, more vCPUs, user mode. It has no threads and no file system, and uses nothing that a
//! domain on real Xen doesn't have.
//!
//! A guest is a package with two files:
//!
//! ```ignore
//! // build.rs
//! fn main() {
//!     let script = std::env::var("DEP_XENLIKE_RT_LINKER_SCRIPT").expect("a dependency on xenlike-rt");
//!     println!("cargo::rustc-link-arg-bins=-T{script}");
//!     println!("cargo::rustc-link-arg-bins=--no-pie");
//! }
//!
//! // src/main.rs
//! #![no_std]
//! #![no_main]
//! use xenlike_rt::println;
//! xenlike_rt::entry!(main);
//! fn main() {
//!     println!("hello");
//! }
//! ```
//!
//! built with `cargo build --release --target x86_64-unknown-none`, or for 32 bits with the target
//! `i586-unknown-linux-gnu` and the flags of `scripts/xtask`. `main` may return: the domain then powers off.
//!
//! What depends on the width is in `wide` (64-bit: kernel and user mode in ring 3, four levels of page tables) and
//! `narrow` (32-bit: kernel in ring 1, three levels); the other files see one of them as `arch`.
//!
//! The stack pointer tells which vCPU runs (see [`cpu`]), so guests stay on the stacks they get.
//!
//! The files in the order in which they may use each other, lowest first: `arch`, `hyper`, `info`; `frames`, `cpu`; `sync`;
//! `tables`; [`memory`]; [`paging`]; [`large`]; the heap, [`foreign`], [`grants`], [`user`]; [`events`]; [`time`],
//! [`traps`]; [`smp`], [`suspend`], [`xenstore`], [`console`], [`args`], [`modules`]; the panic handler; `start`.

#![no_std]
#![cfg_attr(not(guest), allow(dead_code, reason = "only guests are linked"))]

extern crate alloc;

#[cfg(target_pointer_width = "32")]
#[path = "narrow/mod.rs"]
mod arch;
#[cfg(target_pointer_width = "64")]
#[path = "wide/mod.rs"]
mod arch;

pub mod args;
pub mod console;
pub mod cpu;
pub mod events;
pub mod foreign;
mod frames;
pub mod grants;
mod heap;
pub mod hyper;
mod info;
pub mod large;
pub mod memory;
pub mod modules;
pub mod paging;
mod panic;
pub mod smp;
mod start;
pub mod suspend;
pub mod sync;
mod tables;
pub mod time;
pub mod traps;
pub mod user;
pub mod xenstore;

pub use arch::from_long;
pub use guest_pv_abi as abi;
pub use info::{entry_tsc, start_info};

/// Names the guest's main function: `entry!(main);` with `fn main()`.
#[macro_export]
macro_rules! entry {
    ($main:path) => {
        const _: () = {
            #[expect(unsafe_code, reason = "the symbol that the runtime calls")]
            // SAFETY: no other item has this name; the runtime declares it with this signature.
            #[unsafe(no_mangle)]
            extern "Rust" fn xenlike_rt_main() {
                let main: fn() = $main;
                main();
            }
        };
    };
}

/// Ends the domain with a reason of the public header `sched.h` (`SHUTDOWN_*`).
pub fn shutdown(reason: u32) -> ! {
    console::flush();
    loop {
        let mut argument = abi::sched::SchedShutdown { reason };
        let _ = hyper::sched_op(abi::sched::SCHEDOP_SHUTDOWN, &mut argument);
    }
}

/// Powers the domain off.
pub fn poweroff() -> ! {
    shutdown(abi::sched::SHUTDOWN_POWEROFF)
}
