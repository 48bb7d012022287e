//! Hypercalls made by pretended guests: domains as the core makes them, guest memory and machine
//! frames of the host's stand-ins, no CPU that runs them.

mod control;
mod debug_registers;
mod descriptors;
mod events;
mod fuzz;
mod grants;
mod guest;
mod memory;
mod older;
mod scheduling;
mod shares;
mod tracing;
mod vcpu_state;
mod vcpus;
