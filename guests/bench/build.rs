//! Links the guest with the runtime's linker script.

fn main() {
    let script = std::env::var("DEP_XENLIKE_RT_LINKER_SCRIPT").expect("a dependency on xenlike-rt");
    println!("cargo::rustc-link-arg-bins=-T{script}");
    println!("cargo::rustc-link-arg-bins=--no-pie");
    println!("cargo::rerun-if-changed={script}");
}
