//! Boots xenlike (or any multiboot2 kernel) in QEMU or Bochs and talks to it over its serial console.
//!
//! Key types: [`media::Media`] makes a bootable GRUB image, [`machine::Machine`] describes the machine to boot on
//! ([`bochs::Bochs`] is another one), and [`session::Session`] is the running machine with its console. The
//! integration tests in `tests/` and `xtask run` use these.
//!
//! Every wait has a time limit, and a failure includes the console's output.

pub mod bochs;
pub mod cpio;
pub mod machine;
pub mod media;
pub mod monitor;
pub mod paths;
pub mod scenario;
pub mod screen;
pub mod session;
pub mod terminal;
