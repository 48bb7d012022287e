//! The machine: registers, descriptors, TLB, APIC, time, per-CPU data.

pub mod frame;
