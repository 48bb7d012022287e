//! The machine: registers, descriptors, TLB, APIC, time, per-CPU data. Uses `kit` alone.
//!
//! Everything here exists on the host too. There, small stand-ins replace the instructions that only ring 0 has, so
//! that the rooms above compile and can be tested.

pub mod apic_timer;
pub mod calibrate;
pub mod cmos;
pub mod cpu;
pub mod cpuid_fault;
pub mod cr;
pub mod cr3;
pub mod debugreg;
pub mod desc;
pub mod errata;
pub mod exception;
pub mod extable;
pub mod fpu;
pub mod frame;
pub mod guest_choice;
pub mod halt;
pub mod ioapic;
pub mod ipi;
pub mod lapic;
pub mod machine_check;
#[cfg(any(test, target_os = "none"))]
pub mod memory_types;
pub mod microcode;
pub mod mmio;
pub mod msr;
pub mod paging;
pub mod pci;
pub mod percpu;
pub mod platform_clock;
pub mod port;
pub mod power;
pub mod rflags;
pub mod section;
pub mod seg;
pub mod smap;
pub mod speculation;
#[cfg(feature = "audit")]
pub mod standstill;
pub mod stop;
pub mod time;
mod time_up;
pub mod tlb;
pub mod tsc_compare;
pub mod work;
pub mod xstate;
