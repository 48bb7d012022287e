//! Switching address spaces: to a guest's tables, which the frame table says are fit for it, or to
//! the core's own.
#![expect(unsafe_code, reason = "loads CR3")]

use core::num::NonZeroU64;

use super::alloc::Past;
use super::frame::{State, frames};
use super::layout;
use crate::arch::cr3;
use crate::arch::tlb::{self, Reach, Tenant};
use crate::kit::{Maddr, Mfn};

/// The type number of a validated L4 in the frame table.
const L4: u64 = 4;

/// An L4 that a CPU may run on: it was found validated, with a type reference, which keeps it so. Whoever
/// keeps a `Root` holds that reference for as long.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Root(NonZeroU64);

impl Root {
    /// The tables under `l4`, of which the caller holds a type reference; nothing if the frame table
    /// doesn't have it as a validated L4.
    pub fn of(l4: Mfn) -> Option<Self> {
        let state = frames().get(l4)?.load();
        let fit = state.type_bits() == L4 && state.has(State::VALIDATED) && state.type_refs() != 0;
        NonZeroU64::new(l4.maddr().0).filter(|_| fit).map(Self)
    }

    /// Its frame.
    pub const fn mfn(self) -> Mfn {
        Maddr(self.0.get()).mfn()
    }
}

/// Runs this CPU, so far on the core's own tables, on those of a domain, under `root`.
#[inline]
pub fn enter(root: Root, domain: Past, reach: Reach) {
    tlb::set_tenant(Tenant::new(domain.number(), reach));
    load(root);
}

/// Runs this CPU on other tables of the same domain, under `root`.
#[inline]
pub fn load(root: Root) {
    // SAFETY: a validated L4 holds the core's slots, and the reference that goes with the root keeps it one.
    unsafe { cr3::load(Maddr(root.0.get())) };
}

/// Runs this CPU on the core's own tables, which map no guest.
pub fn load_master() {
    if let Some(&master) = layout::MASTER.get() {
        // SAFETY: the master maps all of the core and is never freed.
        unsafe { cr3::load(master.maddr()) };
        tlb::set_tenant(Tenant::NONE);
    }
}
