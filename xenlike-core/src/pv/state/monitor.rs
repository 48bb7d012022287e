//! The L4 on which a CPU runs a narrow vCPU. Its first entry is the guest's root, an L3, so that the guest has the first
//! 4 GiB. The hypervisor has its slots as in every L4. There is nothing else: the guest's kernel runs in ring 1, which
//! is supervisor for the CPU, and could use any mapping that its 32-bit addresses reach.

use crate::arch::paging::TABLE_LINK;
use crate::kit::atomic::Ordering;
use crate::kit::{DomId, Maddr, Mfn};
use crate::mm::SharedPage;
use crate::mm::alloc::{Where, alloc_frame, free};
use crate::mm::layout::{FIRST_SLOT, LAST_SLOT};
use crate::pagetype::{GuestRoot, Memory, PageType, machine};

/// A frame of the hypervisor with such an L4. It is freed when this value is dropped, while no CPU runs on it.
#[derive(Debug)]
pub struct Monitor(Mfn);

impl Monitor {
    /// Makes the L4 of a vCPU of `owner`. `None` if there is no memory.
    pub fn new(owner: DomId) -> Option<Self> {
        let monitor = Self(alloc_frame(Where::ANY)?);
        let page = SharedPage::new(monitor.0)?;
        for slot in FIRST_SLOT..=LAST_SLOT {
            let own = machine().0.own_slot(owner, PageType::L4, slot);
            page.words().get(slot)?.store(own, Ordering::Relaxed);
        }
        Some(monitor)
    }

    /// Puts the guest's root into the L4, and returns the machine address of the L4, which the caller loads into CR3
    /// on this CPU. The load drops what the CPU has cached of the previous root. No other CPU has the L4 loaded,
    /// because the vCPU runs here.
    pub fn show(&self, root: &GuestRoot) -> Maddr {
        if let Some(slot) = SharedPage::new(self.0).and_then(|page| page.u64(0)) {
            slot.store(root.maddr().0 | TABLE_LINK, Ordering::Release);
        }
        self.0.maddr()
    }

    /// The guest's root in the L4, for the audit.
    #[cfg(feature = "audit")]
    pub fn shown(&self) -> Option<Mfn> {
        let entry = SharedPage::new(self.0)?.u64(0)?.load(Ordering::Relaxed);
        (entry != 0).then(|| crate::pagetype::Pte(entry).mfn())
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        free(self.0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_root_and_the_hypervisors_slots_are_there() {
        let monitor = Monitor::new(DomId(0x7001)).unwrap();
        let words = SharedPage::new(monitor.0).unwrap().words();
        let root = GuestRoot::of_pinned(Mfn(77));
        assert_eq!(monitor.show(&root), monitor.0.maddr());
        for (index, word) in words.iter().enumerate() {
            let own = (FIRST_SLOT..=LAST_SLOT).contains(&index);
            match word.load(Ordering::Relaxed) {
                entry if index == 0 => assert_eq!(entry, Mfn(77).maddr().0 | TABLE_LINK),
                entry => assert!(own || entry == 0, "slot {index}: {entry:#x}"),
            }
        }
    }
}
