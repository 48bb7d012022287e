//! The frames under test, each vCPU's places, and operations on a frame: pinning it, watching it, checking
//! that it is free.

use alloc::boxed::Box;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use xenlike_rt::abi::xen::{
    MMUEXT_PIN_L1_TABLE, MMUEXT_PIN_L2_TABLE, MMUEXT_PIN_L3_TABLE, MMUEXT_PIN_L4_TABLE,
    MMUEXT_UNPIN_TABLE,
};
use xenlike_rt::memory::{self, mfn_of, pfn_of};
use xenlike_rt::{events, paging, time};

use crate::place::{self, Place};
use crate::round::{Actor, MAX_ACTORS, fail, spin};

/// Words at a frame's start to which the guests' own stores go. While the frame is a table or holds descriptors,
/// these words must not change. The hypervisor's stores go to the words after them.
pub const WATCHED: usize = 8;
/// Counts stores that were attempted at places that may not be mapped.
pub static STORES: AtomicU64 = AtomicU64::new(0);
/// Pin commands by level.
pub const PINS: [u32; 4] = [
    MMUEXT_PIN_L1_TABLE,
    MMUEXT_PIN_L2_TABLE,
    MMUEXT_PIN_L3_TABLE,
    MMUEXT_PIN_L4_TABLE,
];

/// A frame of this guest, which its place in the direct mapping maps read-only.
#[derive(Clone, Copy)]
pub struct Page {
    view: u64,
    pub mfn: u64,
}

impl Page {
    /// Makes a new, zeroed page.
    pub fn new() -> Option<Self> {
        let view = memory::allocate_page()?.expose_provenance() as u64;
        let mfn = mfn_of(pfn_of(view))?;
        // SAFETY: no reference to the page exists.
        unsafe { paging::make_read_only(view) }.ok()?;
        Some(Self { view, mfn })
    }

    /// The address of word `index` as the guest sees it. A store there traps.
    pub fn word(&self, index: usize) -> *mut u64 {
        let first = core::ptr::with_exposed_provenance_mut::<u64>(self.view as usize);
        first.wrapping_add(index % 512)
    }

    /// Reads word `index`.
    pub fn read(&self, index: usize) -> u64 {
        // SAFETY: the page stays mapped.
        unsafe { self.word(index).read_volatile() }
    }

    /// The machine address of word `index`.
    pub fn machine(&self, index: usize) -> u64 {
        (self.mfn << 12) | (index as u64 % 512 * 8)
    }

    /// Fills the page, whatever it was before, with zeros and the given words. Returns false if it
    /// can't be written now.
    pub fn fill(&self, words: &[(usize, u64)]) -> bool {
        if paging::make_writable(self.view).is_err() {
            return false;
        }
        for index in 0..512 {
            // SAFETY: the page is writable, and no reference to it exists.
            unsafe { self.word(index).write_volatile(0) };
        }
        for &(index, value) in words {
            // SAFETY: as above.
            unsafe { self.word(index).write_volatile(value) };
        }
        // SAFETY: as above.
        unsafe { paging::make_read_only(self.view) }.is_ok()
    }

    /// Pins it as a table of a level, 1 to 4.
    pub fn pin(&self, level: usize) -> bool {
        place::extended(PINS[(level - 1) % 4], self.mfn)
    }

    /// Unpins it as a table.
    pub fn unpin(&self) {
        place::extended(MMUEXT_UNPIN_TABLE, self.mfn);
    }

    /// Checks that the watched words don't change, which they must not while the frame is `what`. Watches for a
    /// while, and until the actors that store where they can have had a chance.
    pub fn watch(&self, actor: &mut Actor, what: &str) {
        let look = || core::array::from_fn::<u64, WATCHED, _>(|index| self.read(index));
        let before = look();
        let turns = 1 + actor.random.below(300);
        let enough = STORES.load(Ordering::Relaxed) + turns / 2;
        let end = time::now_ns() + turns * 10_000;
        for turn in 0.. {
            spin(64);
            let now = look();
            if let Some(index) = (0..WATCHED).find(|&index| before[index] != now[index]) {
                return fail(format_args!(
                    "a store changed {what}: word {index} was {:#x}, is {:#x}",
                    before[index], now[index]
                ));
            }
            let stored = STORES.load(Ordering::Relaxed) >= enough;
            if turn >= turns && (stored || time::now_ns() > end) {
                return;
            }
        }
    }

    /// Checks that no reference to the frame is left, so that it can be anything; it is zeroed afterwards.
    pub fn must_be_free(&self, why: &str) {
        let writable = self.fill(&[]);
        let table = self.pin(1);
        if table {
            self.unpin();
        }
        if !(writable && table) {
            fail(format_args!(
                "frame {:#x} keeps a use {why}: writable {writable}, a table {table}",
                self.mfn
            ));
        }
    }
}

/// Objects that the scenarios share.
pub struct Arena {
    /// Two places for each vCPU.
    pub places: [[Place; 2]; MAX_ACTORS as usize],
    pub pages: [Page; 2],
    /// Id of this domain.
    pub own: u16,
}

static ARENA: AtomicUsize = AtomicUsize::new(0);

/// The arena, which [`prepare`] has made.
pub fn arena() -> &'static Arena {
    let address = ARENA.load(Ordering::Acquire);
    assert!(address != 0, "no arena yet");
    // SAFETY: `prepare` leaked it at this address.
    unsafe { &*core::ptr::with_exposed_provenance(address) }
}

/// Makes the arena.
pub fn prepare() -> Result<(), &'static str> {
    let make = || {
        Some(Arena {
            places: [pair()?, pair()?, pair()?, pair()?],
            pages: [Page::new()?, Page::new()?],
            own: events::own_domain().ok()?,
        })
    };
    let arena = Box::leak(Box::new(make().ok_or("no memory")?));
    ARENA.store(
        core::ptr::from_ref(arena).expose_provenance(),
        Ordering::Release,
    );
    Ok(())
}

fn pair() -> Option<[Place; 2]> {
    Some([Place::new()?, Place::new()?])
}
