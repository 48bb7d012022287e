//! The tests in QEMU. `scripts/test qemu [filter]` builds everything and runs them, two at a time;
//! each boots a machine of its own and can run alone.

mod answers;
mod bench;
mod bochs;
mod boot;
mod confined;
mod dom0;
mod dom0_devices;
mod dom0_machine;
mod grub;
mod hardware;
mod hostile;
mod images;
mod life;
mod linux;
mod mach;
mod manifest;
mod moved;
mod options;
mod race;
mod root;
mod samples;
mod sched;
mod screen;
mod stacks;
mod store;
mod xl;
