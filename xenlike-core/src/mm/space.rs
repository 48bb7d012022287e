//! Switching address spaces: to one of a domain's, or to the hypervisor's own.
#![expect(unsafe_code, reason = "runs on the master tables")]

use super::alloc::Past;
use super::layout;
use crate::arch::cr3::{self, RunRoot};
use crate::arch::tlb::{self, Reach, Tenant};

/// Runs this CPU, so far on the hypervisor's own tables, on those of a domain.
#[inline]
pub fn enter(root: RunRoot, domain: Past, reach: Reach) {
    tlb::set_tenant(Tenant::new(domain.number(), reach));
    cr3::load(root);
}

/// Runs this CPU on the hypervisor's own tables, which map no guest.
pub fn load_master() {
    if let Some(&master) = layout::MASTER.get() {
        // SAFETY: the master maps all of the hypervisor and is never freed.
        cr3::load(unsafe { RunRoot::new(master.maddr()) });
        tlb::set_tenant(Tenant::NONE);
    }
}
