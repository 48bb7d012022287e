//! Writes the linker script for the target's width, and tells the packages that use the runtime where it is.
//!
//! A guest's own build script passes it on (see the crate's documentation). Sets `cfg(guest)` on the targets of guests,
//! on which the runtime is linked and not only checked.

use std::env;
use std::fs;
use std::path::PathBuf;

fn main() {
    let variable = |name| env::var(name).expect("cargo sets it");
    let base: u64 = match variable("CARGO_CFG_TARGET_POINTER_WIDTH").as_str() {
        "32" => 0xc000_0000,
        _ => 0xffff_ffff_8000_0000,
    };
    let sections = fs::read_to_string("link.ld").expect("the script's sections");
    let script = PathBuf::from(variable("OUT_DIR")).join("link.ld");
    let text = format!("VIRT_BASE = {base:#x};\n{sections}");
    fs::write(&script, text).expect("a linker script");
    println!("cargo::metadata=linker_script={}", script.display());
    println!("cargo::rerun-if-changed=link.ld");

    println!("cargo::rustc-check-cfg=cfg(guest)");
    if variable("CARGO_CFG_TARGET_OS") == "none" || variable("CARGO_CFG_TARGET_ARCH") == "x86" {
        println!("cargo::rustc-cfg=guest");
    }
}
