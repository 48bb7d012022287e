//! A plug-in for QEMU's TCG (`-plugin libtcg_counter.so,out=FILE,…`): counts executed instructions.
//!
//! `from=ADDRESS,to=ADDRESS`: by address, whenever the first was executed and the second not yet. At QEMU's end one
//! line `count ADDRESS NUMBER` for each address. `mark=NAME@ADDRESS`: a line `mark NAME NUMBER` when the address is
//! executed, with all instructions since power-on. `share=NAME@FROM-TO`: those at these addresses are told at each mark
//! (`share MARK NAME NUMBER`); and just before the first of them is executed there is a mark NAME. Addresses are virtual,
//! in hexadecimal. For one CPU.
//!
//! `runs=NAME@FROM-TO,from=ADDRESS,end=ADDRESS,least=NUMBER`: once `from` was executed, how many instructions a CPU
//! executes at these addresses without leaving them. A run also ends where `end` is executed, of which there may be
//! several. One line `run NUMBER ADDRESS …` for each that is not shorter than `least`, with samples of where it was. For
//! any number of CPUs.

mod arguments;
mod plugin;
mod runs;
mod tally;

use arguments::Arguments;
use plugin::{Id, Info};
use std::ffi::{c_char, c_int};

/// The plug-in interface's version that this is written for: the oldest one that QEMU 9.1 and newer take.
#[expect(unsafe_code, reason = "QEMU looks for this name")]
// SAFETY: no other item has this name.
#[unsafe(no_mangle)]
pub static qemu_plugin_version: c_int = 2;

/// QEMU's first call.
///
/// # Safety
/// `argv` has `argc` strings, as QEMU passes them.
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
