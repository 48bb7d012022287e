//! Boots xenlike (or any multiboot2 kernel) in QEMU or Bochs and talks to it over its serial console.
//!
//! Key types: [`media::Media`] makes a bootable GRUB image, [`machine::Machine`] says on what
//! machine it boots ([`bochs::Bochs`] is another one), [`session::Session`] is the running machine with its console. The integration
//! tests in `tests/` and `xtask run` both stand on these.
//!
//! Everything that waits has a limit, and a failure carries what the console said.

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
