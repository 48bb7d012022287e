//! A plug-in for QEMU's TCG (`-plugin libtcg_counter.so,out=FILE,…`) that counts executed instructions.
//!
//! `from=ADDRESS,to=ADDRESS` counts by address while the first has been executed and the second has not. When QEMU
//! ends, a line `count ADDRESS NUMBER` is written for each address. `mark=NAME@ADDRESS` writes a line `mark NAME
//! NUMBER` when the address is executed, with the number of all instructions since power-on. `share=NAME@FROM-TO`
//! counts the instructions at these addresses, and writes that count at each mark (`share MARK NAME NUMBER`); also,
//! a mark NAME is written just before the first of them is executed. Addresses are virtual and hexadecimal. These
//! are for one CPU.
//!
//! `runs=NAME@FROM-TO,from=ADDRESS,end=ADDRESS,least=NUMBER` measures, after `from` was executed, how many
//! instructions a CPU executes at these addresses without leaving them. A run also ends where `end` is executed;
//! several may be given. A line `run NUMBER ADDRESS …` is written for each run of at least `least` instructions, with
//! samples of its addresses. This works for any number of CPUs.

mod arguments;
mod plugin;
mod runs;
mod tally;

use arguments::Arguments;
use plugin::{Id, Info};
use std::ffi::{c_char, c_int};

/// The version of the plug-in interface for which this is written: the oldest one that QEMU 9.1 and newer accept.
#[expect(unsafe_code, reason = "QEMU looks for this name")]
// SAFETY: no other item has this name.
#[unsafe(no_mangle)]
pub static qemu_plugin_version: c_int = 2;

/// The first function that QEMU calls.
///
/// # Safety
/// `argv` holds `argc` strings, as QEMU passes them.
#[expect(unsafe_code, reason = "QEMU calls it")]
// SAFETY: no other item has this name.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qemu_plugin_install(
    id: Id,
    _info: *const Info,
    argc: c_int,
    argv: *const *const c_char,
) -> c_int {
    // SAFETY: the caller's promise.
    let words = unsafe { plugin::strings(argc, argv) };
    let ready = Arguments::parse(&words).and_then(tally::start);
    match ready {
        Ok(()) => plugin::install(id),
        Err(problem) => {
            eprintln!("tcg-counter: {problem}");
            return -1;
        }
    }
    0
}
