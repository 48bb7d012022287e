//! Random sequences of all operations of a few domains, with preemption injected. After each step, every
//! reference is recounted.

use std::sync::Arc;
use std::vec::Vec;

use guest_pv_abi::Width;
use proptest::prelude::*;

use super::fake::{FRAMES, Fake, IO, store};
use crate::kit::{DomId, Mfn};
use crate::mm::alloc::Past;
use crate::pagetype::{
    DomainPages, EntryAt, Keep, PageType, Progress, Pte, Refused, Types, Update, Work,
};

/// A domain in a test, with the references that its vCPU and other rooms of the hypervisor would hold.
pub(super) struct Dom {
    pub(super) pages: Arc<DomainPages>,
    pub(super) work: Work,
    pub(super) held: Vec<Mfn>,
}

const INDICES: [usize; 8] = [0, 1, 2, 3, 255, 260, 430, 511];

pub(super) fn any_frame(types: &Types<Fake>) -> Mfn {
    Mfn(types.0.roll(FRAMES + 1))
}

fn any_pte(types: &Types<Fake>) -> Pte {
    let mut flags = 0;
    for (bit, odds) in [
        (Pte::PRESENT, 7),
        (Pte::WRITABLE, 3),
        (Pte::USER, 4),
        (Pte::NX, 2),
        (Pte::GLOBAL, 1),
        (Pte::ACCESSED, 2),
    ] {
        if types.0.roll(8) < odds {
            flags |= bit;
        }
    }
    if types.0.roll(64) == 0 {
        flags |= Pte::PAT_OR_LARGE;
    }
    let mfn = if types.0.roll(32) == 0 {
        IO
    } else {
        any_frame(types)
    };
    Pte::new(mfn, flags)
}

/// Makes one random step of the domain with this id.
pub(super) fn step(types: &Types<Fake>, id: u16, dom: &mut Dom) {
    let me = DomId(id);
    if types.0.roll(4) != 0 && types.finish(&mut dom.work) == Progress::Again {
        return;
    }
    if !dom.work.is_empty() && types.finish(&mut dom.work) == Progress::Again {
        return;
    }
    let mfn = any_frame(types);
    let index = INDICES[types.0.roll(8) as usize];
    match types.0.roll(16) {
        0..=3 => write_memory(types, me, mfn, index),
        4..=5 => {
            let level = 1 + types.0.roll(4) as u32;
            let _ = types.pin(mfn, level, me, &mut dom.work);
        }
        6 => {
            let _ = types.unpin(mfn, me, &mut dom.work);
        }
        7..=9 => update(types, me, mfn, index, &mut dom.work),
        10 => {
            if let Ok(root) = types.get_root(mfn, me, &mut dom.work) {
                dom.held.push(root.mfn());
            }
        }
        11 => {
            if let Some(mfn) = dom.held.pop() {
                let _ = types.put_page_and_type(mfn, &mut dom.work);
            }
        }
        12 => {
            let _ = types.disown(&dom.pages, mfn, &mut types.leaving(&dom.pages));
        }
        13 => {
            let _ = types.give(&dom.pages);
        }
        14 => lend(types, me, dom, mfn),
        _ => others(types, me, dom, mfn, index),
    }
}

/// A guest's access to memory that it may write: takes a writable reference, writes an entry, and
/// drops the reference.
fn write_memory(types: &Types<Fake>, me: DomId, mfn: Mfn, index: usize) {
    if let Some(_writable) = types.get_writable(mfn, me) {
        let mut pte = any_pte(types);
        if types.0.roll(4) == 0 {
            pte = Pte::new(mfn, Pte::PRESENT);
        }
        types.set(mfn, index, pte);
    }
}

fn update(types: &Types<Fake>, me: DomId, table: Mfn, index: usize, work: &mut Work) {
    let keep = if types.0.roll(2) == 0 {
        Keep::Nothing
    } else {
        Keep::AccessedDirty
    };
    // Domain 0 maps frames of other domains. The hypercall prevents other domains from naming a foreign owner,
    // so they name themselves.
    let page_owner = match types.0.roll(4) {
        0 if me == DomId(0) => DomId(1),
        1 if me == DomId(0) => DomId::IO,
        _ => me,
    };
    let update = Update {
        table,
        index,
        new: any_pte(types),
        keep,
        page_owner,
    };
    let _ = types.change(me, &update, work);
}

fn lend(types: &Types<Fake>, me: DomId, dom: &mut Dom, mfn: Mfn) {
    let lent = match types.0.roll(2) {
        0 => types.get_writable(mfn, me),
        _ => types.get_segdesc(mfn, me),
    };
    if let Some(lent) = lent {
        dom.held.push(lent.keep());
    }
}

fn others(types: &Types<Fake>, me: DomId, dom: &mut Dom, mfn: Mfn, index: usize) {
    match types.0.roll(4) {
        3 => build_narrow_root(types, me, dom, mfn),
        0 => {
            let bytes = 1 << types.0.roll(4);
            let _ = store(types, me, mfn, index * 8, bytes, any_pte(types).0);
        }
        1 => {
            let (at, pte) = (EntryAt { table: mfn, index }, any_pte(types));
            if types.take_usual(pte, DomId(0)).is_some()
                && types
                    .map_grant(dom.pages.width(), me, at, pte, &mut dom.work)
                    .is_err()
            {
                types.put_l1(pte);
            }
        }
        _ => {
            let charge = crate::pagetype::Charge::Counted;
            if types.steal(&dom.pages, mfn, charge).is_ok() {
                // The contents go with the frame to its new owner.
                if types.assign(&dom.pages, mfn, 0, charge).is_err() {
                    crate::pagetype::Memory::free(&types.0, mfn, 1, Past::NOBODY);
                }
            }
        }
    }
}

/// Makes a table of which a narrow guest needs more luck than with others: it must have an L2 in the last place.
fn build_narrow_root(types: &Types<Fake>, me: DomId, dom: &mut Dom, mfn: Mfn) {
    if let Some(_writable) = types.get_writable(mfn, me) {
        types.set(mfn, 3, Pte::new(any_frame(types), Pte::PRESENT));
    }
    let _ = types.pin(mfn, 3, me, &mut dom.work);
}

/// Destroys a domain in the same order as the hypervisor.
pub(super) fn destroy(types: &Types<Fake>, dom: &mut Dom) {
    dom.pages.set_dying();
    while let Some(mfn) = dom.held.pop() {
        let _ = types.put_page_and_type(mfn, &mut dom.work);
        while types.finish(&mut dom.work) == Progress::Again {}
    }
    while types.relinquish(&dom.pages, &mut dom.work) == Progress::Again {}
}

/// Half of the runs have a narrow domain 0, and half of them a narrow domain 1.
pub(super) fn width_of(seed: u64, id: u16) -> Width {
    match seed >> id & 1 {
        0 => Width::Wide,
        _ => Width::Narrow,
    }
}

pub(super) fn start(types: &Types<Fake>, id: u16, width: Width) -> Dom {
    let pages = types.0.add_domain(id, 20);
    types.set_width(&pages, width).unwrap();
    for _ in 0..12 {
        let _ = types.give(&pages);
    }
    Dom {
        pages,
        work: Work::new(),
        held: Vec::new(),
    }
}

fn run(seed: u64, preempt_rate: u64, steps: u32) {
    let types = Fake::new(seed);
    types
        .0
        .preempt_rate
        .store(preempt_rate, crate::kit::atomic::Ordering::Relaxed);
    let mut domains: Vec<Dom> = (0..3)
        .map(|id| start(&types, id, width_of(seed, id)))
        .collect();
    for n in 0..steps {
        let id = types.0.roll(3) as usize;
        if types.0.roll(400) == 0 {
            destroy(&types, &mut domains[id]);
            if domains[id].pages.is_empty() {
                domains[id] = start(&types, id as u16, width_of(seed, id as u16));
            }
        }
        step(&types, id as u16, &mut domains[id]);
        let held: Vec<Mfn> = domains
            .iter()
            .flat_map(|d| d.held.iter().copied())
            .collect();
        if let Err(what) = types.audit(&held) {
            panic!("seed {seed}, rate {preempt_rate}, step {n}: {what}");
        }
    }
    for dom in &mut domains {
        destroy(&types, dom);
    }
    types
        .audit(&[])
        .unwrap_or_else(|what| panic!("seed {seed}, at the end: {what}"));
    assert_eq!(
        types.0.free_frames() as u64,
        FRAMES - 1,
        "seed {seed}: frames lost"
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn every_reference_is_accounted_for(seed: u64, preempt_rate in 0u64..256) {
        run(seed, preempt_rate, 600);
    }
}

#[test]
fn the_dice_do_build_tables() {
    // The sequences above are meaningful only if some of them succeed in building whole trees.
    for (width, made) in [(Width::Wide, [1, 2, 3, 4]), (Width::Narrow, [1, 2, 3, 5])] {
        let seen = tables_seen(width);
        assert!(made.iter().all(|ty| seen[*ty] > 100), "{width:?}: {seen:?}");
    }
}

/// How often a frame was seen in use as each type.
fn tables_seen(width: Width) -> [u32; 8] {
    let types = Fake::new(7);
    let mut dom = start(&types, 0, width);
    let mut seen = [0; 8];
    for _ in 0..20_000 {
        step(&types, 0, &mut dom);
        for mfn in (1..FRAMES).map(Mfn) {
            let state = types.0.state(mfn);
            if state.type_refs() > 0 {
                seen[state.type_bits() as usize] += 1;
            }
        }
    }
    assert!(!matches!(
        types.pin(Mfn(0), 1, DomId(0), &mut dom.work),
        Err(Refused::Again)
    ));
    seen
}
