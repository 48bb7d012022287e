//! Links the hypervisor at its address when built for bare metal.

use std::env;
use std::path::Path;

fn main() {
    println!("cargo:rerun-if-changed=xenlike.ld");
    println!("cargo:rerun-if-env-changed=XENLIKE_BOOTDOM");
    println!("cargo:rustc-check-cfg=cfg(xenlike_bootdom)");
    if env::var_os("XENLIKE_BOOTDOM").is_some() {
        println!("cargo:rustc-cfg=xenlike_bootdom");
    }
    if env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("none") {
        let here = env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
        let script = Path::new(&here).join("xenlike.ld");
        println!("cargo:rustc-link-arg-bins=-T{}", script.display());
        println!("cargo:rustc-link-arg-bins=--no-pie");
        println!("cargo:rustc-link-arg-bins=-zmax-page-size=4096");
        println!("cargo:rustc-link-arg-bins=--gc-sections");
    }
}
