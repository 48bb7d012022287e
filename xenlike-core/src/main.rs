//! The hypervisor image. Everything is in the library; this only makes it a program.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
use xenlike_core as _;

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("xenlike-core runs on bare metal: build it with scripts/build");
}
