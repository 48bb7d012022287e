//! One frame that is mapped, written, pinned, loaded as a GDT, copied to and updated, all at the same time. While it
//! is a page table or holds descriptors, a guest's store must not change its contents.

use core::arch::asm;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use samples::Random;
use xenlike_rt::abi::Long;
use xenlike_rt::abi::grant_table::{GNTCOPY_SOURCE_GREF, GnttabCopy, GnttabCopyPtr};
use xenlike_rt::abi::hypercall::SET_GDT;
use xenlike_rt::abi::xen::{
    DOMID_SELF, MMUEXT_CLEAR_PAGE, MMUEXT_INVLPG_ALL, MMUEXT_SET_LDT, MMUEXT_TLB_FLUSH_ALL,
    MmuUpdate, MmuextOp,
};
use xenlike_rt::paging::{Access, PRESENT};
use xenlike_rt::{grants, hyper, traps};

use crate::page::{Page, STORES, WATCHED, arena};
use crate::place::{self, Place, READ_ONLY, WRITABLE};
use crate::round::{Actor, Operation, Scenario, fail, spin, timestamp};

/// An unmapping that puts the last writable reference races with flushing, mapping the frame, storing and unmapping;
/// one vCPU does all of that, or two share it.
pub const LAST_WRITABLE: Scenario = Scenario {
    name: "last-writable",
    least: 2,
    bouts: 1,
    setup,
    operations: &[
        &[unmaps_then_pins],
        &[keeps_translation, keeps_translation, maps_and_unmaps],
        &[keeps_translation, writes_when_it_can],
        &[maps_and_unmaps, writes_when_it_can, unmaps_then_pins],
    ],
    check,
};

/// Any uses of one frame.
pub const MANY_USES: Scenario = Scenario {
    name: "many-uses",
    least: 2,
    bouts: 1,
    setup,
    operations: &[ANY, ANY, ANY, ANY],
    check,
};

const ANY: &[Operation] = &[
    unmaps_then_pins,
    maps_and_unmaps,
    writes_when_it_can,
    keeps_translation,
    pins,
    loads_gdt,
    loads_ldt,
    updates,
    stores,
    stores_halves,
    changes_descriptors,
    copies,
    flushes,
    clears,
];

/// Reference of a grant of the frame to this domain itself, for copies; 0: none.
static GRANT: AtomicU32 = AtomicU32::new(0);
/// Makes every stored value unique.
static MARK: AtomicU64 = AtomicU64::new(0);

fn frame() -> &'static Page {
    &arena().pages[0]
}

fn setup(_random: &mut Random) -> bool {
    let page = frame();
    // Another scenario may have emptied the grant table since.
    let old = GRANT.swap(0, Ordering::Relaxed);
    if old != 0 && grants::take_back(old).is_err() {
        fail(format_args!("nobody copies, but the source is in use"));
        return false;
    }
    let other = &arena().pages[1];
    match grants::give_frame(arena().own, other.mfn as u32, Access::ReadOnly) {
        Ok(reference) => GRANT.store(reference, Ordering::Relaxed),
        Err(_) => return false,
    }
    page.fill(&[])
}

fn check() {
    for places in &arena().places {
        for place in places {
            place::set_entry(place.entry(), 0);
        }
    }
    let page = frame();
    page.must_be_free("after its uses");
    // The frame that the table's entries named.
    arena().pages[1].must_be_free("after the entries that named it are gone");
}

/// A unique word that is neither a present entry nor a present descriptor.
fn mark() -> u64 {
    (MARK.fetch_add(1, Ordering::Relaxed) << 4) & 0xff_ffff_ffff
}

fn own_place(actor: &Actor) -> &'static Place {
    &arena().places[actor.slot as usize][0]
}

/// Maps the frame writable, sometimes writes, and unmaps it without a flush.
fn maps_and_unmaps(actor: &mut Actor) {
    let place = own_place(actor);
    while actor.goes_on() {
        if !place.set((frame().mfn << 12) | WRITABLE, &mut actor.random) {
            actor.pause();
            continue;
        }
        actor.pause();
        if actor.random.below(2) == 0 {
            place.write(actor.random.below(WATCHED as u64) as usize, mark());
        }
        if actor.random.below(8) == 0 {
            place.set((frame().mfn << 12) | READ_ONLY, &mut actor.random);
        }
        place.clear(&mut actor.random);
        // Leaves it unmapped most of the time, so that others can use it differently.
        for _ in 0..actor.random.below(4) {
            actor.pause();
        }
    }
}

/// Flushes, maps the frame, stores, unmaps it, and keeps the translation for a while, storing again
/// from time to time.
fn keeps_translation(actor: &mut Actor) {
    let place = own_place(actor);
    while actor.goes_on() {
        place::flush();
        if !place.set((frame().mfn << 12) | WRITABLE, &mut actor.random) {
            continue;
        }
        let mut there = place.write(0, mark());
        place::set_entry(place.entry(), 0);
        for _ in 0..actor.random.below(200) {
            spin(actor.random.below(1024));
            there = there && place.write(actor.random.below(WATCHED as u64) as usize, mark());
            if !there {
                break;
            }
            STORES.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Flushes, then stores through another actor's place, mapped or not, any number of times. A translation that it gets
/// stays until the next flush.
pub fn writes_when_it_can(actor: &mut Actor) {
    while actor.goes_on() {
        if actor.random.below(4) != 0 {
            place::flush();
        }
        let victim = &arena().places[actor.random.below(4).max(1) as usize][0];
        let tries = actor.random.next() % (1 << actor.random.below(13));
        for _ in 0..=tries {
            let index = actor.random.below(WATCHED as u64) as usize;
            victim.write(index, mark());
            STORES.fetch_add(1, Ordering::Relaxed);
            if !actor.goes_on() {
                return;
            }
        }
    }
}

/// Maps and unmaps the frame. If that took long, other vCPUs may have intervened, and it tries to make
/// the frame a table.
fn unmaps_then_pins(actor: &mut Actor) {
    let place = own_place(actor);
    let entry = |val| MmuUpdate {
        ptr: place.entry(),
        val,
    };
    let both = [entry((frame().mfn << 12) | WRITABLE), entry(0)];
    let mut quickest = u64::MAX;
    while actor.goes_on() {
        let start = timestamp();
        // SAFETY: the place belongs to this vCPU, and only the races use the frame.
        if unsafe { hyper::mmu_update(&both, DOMID_SELF) }.is_err() {
            actor.pause();
            continue;
        }
        let took = timestamp() - start;
        quickest = quickest.min(took);
        if took > 8 * quickest || actor.random.below(256) == 0 {
            pin_and_watch(actor, 1);
        }
    }
}

fn pin_and_watch(actor: &mut Actor, level: usize) {
    if frame().pin(level) {
        frame().watch(actor, "a page table");
        frame().unpin();
    }
}

/// Pins the frame as a table of some level and unpins it.
fn pins(actor: &mut Actor) {
    while actor.goes_on() {
        let level = match actor.random.below(8) {
            0 => 4,
            1 => 3,
            2 => 2,
            _ => 1,
        };
        pin_and_watch(actor, level);
        actor.pause();
    }
}

/// Loads the frame as this vCPU's GDT.
fn loads_gdt(actor: &mut Actor) {
    let frames = [frame().mfn as Long];
    let list = core::ptr::from_ref(&frames).expose_provenance() as u64;
    while actor.goes_on() {
        // SAFETY: the runtime uses only the hypervisor's flat selectors.
        if unsafe { hyper::raw(SET_GDT, [list, 512, 0, 0, 0]) } == 0 {
            frame().watch(actor, "a descriptor table");
            // SAFETY: as above.
            unsafe { hyper::raw(SET_GDT, [list, 0, 0, 0, 0]) };
        }
        actor.pause();
    }
}

/// Loads the frame as this vCPU's LDT and looks a descriptor up, which gives the page the descriptor type. The type
/// ends with the LDT, and whenever a mapping of a descriptor page is removed, so there is nothing to watch.
fn loads_ldt(actor: &mut Actor) {
    let place = &arena().places[actor.slot as usize][1];
    while actor.goes_on() {
        if place.set((frame().mfn << 12) | READ_ONLY, &mut actor.random) {
            set_ldt(place.address(), 512);
            look_up(actor.random.below(512));
            actor.pause();
            if actor.random.below(2) == 0 {
                set_ldt(0, 0);
            }
            place.clear(&mut actor.random);
        }
        actor.pause();
    }
    set_ldt(0, 0);
}

fn set_ldt(address: u64, entries: u64) {
    let request = MmuextOp {
        cmd: MMUEXT_SET_LDT,
        arg1: address as Long,
        arg2: entries as Long,
        ..MmuextOp::default()
    };
    // SAFETY: the runtime uses no selector of an LDT.
    let _ = unsafe { hyper::mmuext_op(&[request]) };
}

/// Makes the CPU look up a descriptor of the LDT; without the page, a fault ends that.
fn look_up(index: u64) {
    let selector = (index as usize) << 3 | 7;
    // SAFETY: loads no register with the descriptor.
    let _ = traps::attempt(|| unsafe {
        asm!("lsl {limit}, {selector}", limit = out(reg) _, selector = in(reg) selector, options(nostack));
    });
}

/// An entry to write: empty, not present, or a mapping of the other frame.
fn entry(random: &mut Random) -> u64 {
    let other = arena().pages[1].mfn << 12;
    match random.below(4) {
        0 => 0,
        1 => mark(),
        2 => other | WRITABLE,
        _ => other | READ_ONLY,
    }
}

fn index(random: &mut Random) -> usize {
    WATCHED + 8 + random.below(16) as usize
}

/// Changes entries by hypercall.
fn updates(actor: &mut Actor) {
    while actor.goes_on() {
        let at = frame().machine(index(&mut actor.random));
        place::set_entry(at, entry(&mut actor.random));
        actor.pause();
    }
}

/// Changes entries by stores that trap.
fn stores(actor: &mut Actor) {
    while actor.goes_on() {
        let word = frame().word(index(&mut actor.random));
        let value = entry(&mut actor.random);
        // SAFETY: a word of the frame, in use or not; a fault ends the attempt.
        let _ = traps::attempt(|| unsafe { word.write_volatile(value) });
        actor.pause();
    }
}

/// Changes entries by halves, in the order of 32-bit kernels: the lower half is present only while the upper one is right.
/// What other actors do in between, they do to an entry that is half of each.
fn stores_halves(actor: &mut Actor) {
    while actor.goes_on() {
        let word = frame().word(index(&mut actor.random)).cast::<u32>();
        let value = entry(&mut actor.random);
        let (low, high) = ((0, value as u32), (1, (value >> 32) as u32));
        let halves = if value & PRESENT == 0 {
            [low, high]
        } else {
            [high, low]
        };
        for (n, half) in halves {
            // SAFETY: a half of a word of the frame, in use or not; a fault ends the attempt.
            let _ = traps::attempt(|| unsafe { word.add(n).write_volatile(half) });
            actor.pause();
        }
    }
}

/// Changes descriptors by hypercall.
fn changes_descriptors(actor: &mut Actor) {
    while actor.goes_on() {
        let at = frame().machine(index(&mut actor.random));
        // SAFETY: only the races use the frame.
        let _ = unsafe { hyper::update_descriptor(at, mark()) };
        actor.pause();
    }
}

/// Makes the hypervisor copy into the frame.
fn copies(actor: &mut Actor) {
    while actor.goes_on() {
        let mut request = [GnttabCopy {
            source: GnttabCopyPtr {
                u: Long::from(GRANT.load(Ordering::Relaxed)),
                domid: arena().own,
                ..GnttabCopyPtr::default()
            },
            dest: GnttabCopyPtr {
                u: frame().mfn as Long,
                domid: DOMID_SELF,
                ..GnttabCopyPtr::default()
            },
            len: 64,
            flags: GNTCOPY_SOURCE_GREF,
            ..GnttabCopy::default()
        }];
        let _ = grants::copy(&mut request);
        actor.pause();
    }
}

/// Flushes the TLBs of all vCPUs, completely or for one address.
fn flushes(actor: &mut Actor) {
    while actor.goes_on() {
        if actor.random.below(2) == 0 {
            place::extended(MMUEXT_TLB_FLUSH_ALL, 0);
        } else {
            place::extended(MMUEXT_INVLPG_ALL, own_place(actor).address());
        }
        actor.pause();
    }
}

/// Makes the hypervisor clear the frame, which must fail while it is a table.
fn clears(actor: &mut Actor) {
    while actor.goes_on() {
        place::extended(MMUEXT_CLEAR_PAGE, frame().mfn);
        actor.pause();
    }
}
