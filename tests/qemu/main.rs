//! The tests in QEMU. `scripts/test qemu [filter]` builds everything and runs them, two at a time. Each boots a
//! machine of its own and can run alone.

mod acpi;
mod answers;
mod bench;
mod bochs;
mod boot;
mod confined;
mod consoles;
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
mod microcode;
mod moved;
mod multiboot1;
mod options;
mod power;
mod race;
mod root;
mod run;
mod samples;
mod sched;
mod screen;
mod stacks;
mod store;
mod verbs;
mod xl;
mod xl_narrow;
