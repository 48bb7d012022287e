//! Tells the packages that use the runtime where its linker script is.
//!
//! A guest's own build script passes it on (see the crate's documentation).

use std::env;
use std::path::PathBuf;

fn main() {
    let dir = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    println!(
        "cargo::metadata=linker_script={}",
        dir.join("link.ld").display()
    );
    println!("cargo::rerun-if-changed=link.ld");
}
