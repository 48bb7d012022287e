//! Places of the address space at which frames are mapped and unmapped by setting the entry, and
//! accesses that may fault.

use core::arch::asm;
use core::sync::atomic::{AtomicU64, Ordering};

use samples::{NARROW, Random};
use xenlike_rt::abi::xen::{
    DOMID_SELF, MMU_NORMAL_PT_UPDATE, MMUEXT_TLB_FLUSH_LOCAL, MmuUpdate, MmuextOp, UVMF_NONE,
};
use xenlike_rt::abi::{Long, errno};
use xenlike_rt::memory::{direct, pfn_of_mfn};
use xenlike_rt::paging::{self, NO_EXECUTE, PRESENT, RAM_FLAGS, READ_ONLY_FLAGS, Window};
use xenlike_rt::{hyper, traps};

/// Entry bits of a writable mapping.
pub const WRITABLE: u64 = RAM_FLAGS | NO_EXECUTE;
/// Entry bits of a read-only mapping.
pub const READ_ONLY: u64 = READ_ONLY_FLAGS | NO_EXECUTE;

/// A page of address space for mapping frames.
pub struct Place {
    window: Window,
    /// Machine address of its L1 entry.
    entry: u64,
}

impl Place {
    /// Makes a place with nothing mapped.
    pub fn new() -> Option<Self> {
        let window = Window::reserve(1).ok()?;
        window.prepare().ok()?;
        let entry = paging::entry_machine_address(window.address())?;
        Some(Self { window, entry })
    }

    /// Virtual address of the place.
    pub fn address(&self) -> u64 {
        self.window.address()
    }

    /// Machine address of its L1 entry.
    pub fn entry(&self) -> u64 {
        self.entry
    }

    /// The frame that is mapped here.
    pub fn mapped(&self) -> Option<u64> {
        let entry = self.slot().load(Ordering::Acquire);
        (entry & PRESENT != 0).then_some((entry & paging::FRAME_MASK) >> 12)
    }

    /// Its entry, through the guest's read-only view of the table. A store there traps and is emulated.
    fn slot(&self) -> &AtomicU64 {
        let at = direct(pfn_of_mfn(self.entry >> 12)) + (self.entry & 0xfff);
        // SAFETY: an aligned word of a page table that stays a table.
        unsafe { AtomicU64::from_ptr(core::ptr::with_exposed_provenance_mut(at as usize)) }
    }

    /// Sets its entry in one of the ways that the ABI has, without a flush; returns whether that was allowed.
    pub fn set(&self, entry: u64, random: &mut Random) -> bool {
        match random.below(4) {
            // SAFETY: only this guest's races use what is mapped here.
            0 | 1 => unsafe { hyper::update_va_mapping(self.address(), entry, UVMF_NONE) }.is_ok(),
            2 => set_entry(self.entry, entry),
            3 => traps::attempt(|| store(self.slot(), entry)).is_ok(),
            _ => unreachable!(),
        }
    }

    /// Unmaps what is mapped here, without a flush.
    pub fn clear(&self, random: &mut Random) {
        if !self.set(0, random) {
            set_entry(self.entry, 0);
        }
    }

    /// Stores to word `index` and its neighbour, through the present mapping or a stale translation; returns whether
    /// the store succeeded. The instruction is one that the hypervisor does not emulate, in case the frame is a page
    /// table by now and mapped read-only: an emulated store could change the table.
    pub fn write(&self, index: usize, value: u64) -> bool {
        let pair = self.window.as_ptr().wrapping_add(index / 2 % 256 * 16);
        // SAFETY: inside the place and aligned to 16; a fault ends the attempt. The guest's other code doesn't use
        // xmm0.
        traps::attempt(|| unsafe {
            asm!(
                "movq xmm0, [{value}]",
                "punpcklqdq xmm0, xmm0",
                "movaps [{pair}], xmm0",
                value = in(reg) &value,
                pair = in(reg) pair,
                options(nostack, preserves_flags)
            );
        })
        .is_ok()
    }

    /// Reads word `index`, through the present mapping or a stale translation.
    pub fn read(&self, index: usize) -> Option<u64> {
        let word = self.window.as_ptr().cast::<u64>().wrapping_add(index % 512);
        let mut value = 0;
        // SAFETY: as in `write`.
        let read = traps::attempt(|| value = unsafe { word.read_volatile() });
        read.is_ok().then(|| core::hint::black_box(value))
    }
}

/// Stores an entry at once, by an instruction that the hypervisor emulates: cmpxchg8b where a word has 32 bits, for which
/// a plain store uses the FPU.
fn store(slot: &AtomicU64, entry: u64) {
    if NARROW {
        slot.swap(entry, Ordering::AcqRel);
    } else {
        slot.store(entry, Ordering::Release);
    }
}

/// Sets an entry by its machine address; returns whether that was allowed.
pub fn set_entry(at: u64, value: u64) -> bool {
    let update = MmuUpdate {
        ptr: at | MMU_NORMAL_PT_UPDATE,
        val: value,
    };
    // SAFETY: as in `Place::set`.
    let outcome = unsafe { hyper::mmu_update(&[update], DOMID_SELF) };
    debug_assert!(outcome != Err(errno::EFAULT));
    outcome.is_ok()
}

/// Makes one request of mmuext_op about a frame; returns whether it succeeded.
pub fn extended(cmd: u32, mfn: u64) -> bool {
    let request = MmuextOp {
        cmd,
        arg1: mfn as Long,
        ..MmuextOp::default()
    };
    // SAFETY: this guest may pin and clear its own frames.
    unsafe { hyper::mmuext_op(&[request]) }.is_ok()
}

/// Flushes this vCPU's translations.
pub fn flush() {
    extended(MMUEXT_TLB_FLUSH_LOCAL, 0);
}
