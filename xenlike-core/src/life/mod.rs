//! The life of a domain across all services: it is created, given vCPUs and registers, paused, and destroyed.
//!
//! [`create`] assembles a domain from each service's part and lists it; [`vcpus`] creates its vCPUs;
//! `pv::vcpu_context` sets their registers. [`destroy`] takes everything apart again, in steps that can be
//! interrupted, until every frame is freed. `domain` holds what is made here; `hypercall::domctl` decides who
//! may ask for it.
#![cfg_attr(
    not(test),
    warn(
        clippy::indexing_slicing,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::arithmetic_side_effects
    )
)]

pub mod create;
pub mod destroy;
pub mod endings;
pub mod hardware_domain;
pub mod hotplug;
pub mod hypercall_page;
pub mod machine_check;
pub mod pausing;
pub mod pools;
pub mod trace_buffers;
pub mod vcpus;
