//! Hypercalls made by pretended guests: the domains are the core's own, guest memory and machine frames are the
//! host's stand-ins, and no CPU runs the vCPUs.

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
