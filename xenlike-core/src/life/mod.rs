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

use crate::domain;
use crate::irq;
use crate::kit::{DomId, Mfn};
use crate::pagetype::{self, IoAccess};

/// Sets the functions that `pagetype` calls about domains. Called once, at boot, before the first
/// domain is created.
pub fn init() {
    pagetype::set_hooks(pagetype::Hooks {
        io_access,
        emptied: destroy::emptied,
        segdesc_unmapped,
    });
}

fn segdesc_unmapped(owner: DomId) {
    if let Some(dom) = domain::lookup(owner) {
        dom.drop_ldt_pages();
    }
}

fn io_access(dom: DomId, mfn: Mfn) -> IoAccess {
    let may = |dom: &domain::Domain| dom.io_rights.lock().iomem.contains(mfn.0..=mfn.0);
    if !domain::lookup(dom).is_some_and(|dom| may(&dom)) {
        IoAccess::Nothing
    } else if is_only_read(mfn) {
        IoAccess::Read
    } else {
        IoAccess::All
    }
}

/// Whether domain 0 may only read `mfn`, so that its stores there are discarded: an MSI-X table in use, or the
/// HPET, which the core may use as its clock.
pub fn is_only_read(mfn: Mfn) -> bool {
    irq::machine::book().is_some_and(|book| book.has_table_at(mfn)) || hardware_domain::is_hpet(mfn)
}
