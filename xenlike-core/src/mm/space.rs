//! Switching between the address spaces of domains and the hypervisor's own.
#![expect(unsafe_code, reason = "runs on the master tables")]

use super::alloc::Past;
use super::layout;
use crate::arch::cr3::{self, RunRoot};
use crate::arch::tlb::{self, Reach, Tenant};

/// Switches this CPU from the hypervisor's own tables to those of a domain.
#[inline]
pub fn enter(root: RunRoot, domain: Past, reach: Reach) {
    tlb::set_tenant(Tenant::new(domain.number(), reach));
    cr3::load(root);
}

/// Switches this CPU to the hypervisor's own tables, which map no guest.
pub fn load_master() {
    if let Some(&master) = layout::MASTER.get() {
        // SAFETY: the master maps all of the hypervisor, and is never freed.
        cr3::load(unsafe { RunRoot::new(master.maddr()) });
        tlb::set_tenant(Tenant::NONE);
    }
}
