//! From the first Rust function to `main`. The ELF notes and the entry point are in `arch`.

#![expect(unsafe_code, reason = "calls the guest's main function")]

use crate::{console, cpu, info, memory, traps};

unsafe extern "Rust" {
    fn xenlike_rt_main();
}

/// The first Rust function. Its arguments are the start info page, the builder's stack pointer and the TSC.
pub(crate) extern "C" fn start(start_info: usize, builder_stack: usize, tsc: u64) -> ! {
    info::init(start_info as u64, tsc);
    memory::init(builder_stack as u64);
    cpu::init_boot();
    console::init();
    traps::init();
    // SAFETY: `entry!` defines it with this signature.
    unsafe { xenlike_rt_main() };
    crate::poweroff()
}
