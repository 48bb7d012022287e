//! The recount of frames, for test builds: counts all references anew and compares them with the words of the
//! frames. No operation may be under way: the audit's caller has stopped all CPUs, and the host's tests make
//! one step at a time.
//!
//! A [`Tally`] has a row for each frame. Other rooms add the references that they hold ([`Types::count_held`]).
//! Tables, flags ([`Types::count_frame`]) and the domains' lists are counted here. In the end,
//! [`Types::compare_frame`] checks whether the word of a frame agrees.

use crate::kit::atomic::Ordering;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Arguments;

use super::shape::Shape;
use super::{DomainPages, Memory, PageType, Pte, Types};
use crate::kit::{DomId, Mfn};
use crate::mm::Frame;
use crate::mm::frame::{Kind, State};

/// The counts of one frame.
#[derive(Clone, Copy, Default, Debug)]
struct Row {
    refs: u32,
    type_refs: u32,
    /// The number of lists that contain the frame, of a domain or of free blocks.
    lists: u32,
    /// The expected value of the frame's `linear` word.
    linear: i32,
}

/// The counts of all frames.
#[derive(Debug)]
pub struct Tally(Vec<Row>);

impl Tally {
    /// A tally of the frames below `end`. `None` if there is no memory for it.
    pub fn new(end: Mfn) -> Option<Self> {
        let mut rows = Vec::new();
        rows.try_reserve_exact(end.0 as usize).ok()?;
        rows.resize(end.0 as usize, Row::default());
        Some(Self(rows))
    }

    /// Resets all counts to zero.
    pub fn clear(&mut self) {
        self.0.fill(Row::default());
    }

    /// Counts a reference to a frame.
    pub fn count_ref(&mut self, mfn: Mfn) {
        self.add(mfn, 1, 0);
    }

    /// Counts a list that contains the frame.
    pub fn count_listed(&mut self, mfn: Mfn) {
        if let Some(row) = self.row(mfn) {
            row.lists = row.lists.saturating_add(1);
        }
    }

    fn add(&mut self, mfn: Mfn, refs: u32, type_refs: u32) {
        if let Some(row) = self.row(mfn) {
            row.refs = row.refs.saturating_add(refs);
            row.type_refs = row.type_refs.saturating_add(type_refs);
        }
    }

    fn add_linear(&mut self, mfn: Mfn, count: i32) {
        if let Some(row) = self.row(mfn) {
            row.linear = row.linear.saturating_add(count);
        }
    }

    fn row(&mut self, mfn: Mfn) -> Option<&mut Row> {
        self.0.get_mut(usize::try_from(mfn.0).ok()?)
    }
}

/// An L1 entry that maps a frame of a domain other than the table's.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Borrowed {
    /// The domain that owns the table.
    pub mapper: DomId,
    /// The frame that is mapped.
    pub mfn: Mfn,
    /// Whether the mapping is writable.
    pub writable: bool,
}

/// Bits of a frame's word that say nothing about its uses.
const UNCOUNTED: u64 = State::FREE | State::USED | State::DIRTY | State::HEAD;

/// The check that is made of each [`Borrowed`].
pub type OnBorrowed<'a> = dyn FnMut(Borrowed) -> Result<(), String> + 'a;

/// Names a frame and its owner in a message.
fn frame_of(mfn: Mfn, frame: &Frame) -> String {
    match frame.owner() {
        DomId::INVALID | DomId::IDLE => format!("frame {:#x} of the hypervisor", mfn.0),
        owner => format!("frame {:#x} of domain {}", mfn.0, owner.0),
    }
}

impl<M: Memory> Types<M> {
    /// Counts a reference and a type reference of `ty` that `holder` has.
    ///
    /// # Errors
    /// If the frame doesn't have this type, or is not in use.
    pub fn count_held(
        &self,
        tally: &mut Tally,
        mfn: Mfn,
        ty: PageType,
        holder: Arguments<'_>,
    ) -> Result<(), String> {
        let Some(frame) = self.0.frame(mfn) else {
            return Err(format!(
                "frame {:#x}: held by {holder}, and is no RAM",
                mfn.0
            ));
        };
        let state = frame.load();
        if state.kind() != Kind::Used || state.type_bits() != ty as u64 {
            let which = frame_of(mfn, frame);
            return Err(format!(
                "{which}: held as {ty:?} by {holder}, but it is {state:?}"
            ));
        }
        tally.add(mfn, 1, 1);
        Ok(())
    }

    /// Counts the references that the frame's own flags stand for, and, if it is a table, those of its entries.
    ///
    /// # Errors
    /// If the frame's word or one of its entries is inconsistent.
    pub fn count_frame(
        &self,
        mfn: Mfn,
        tally: &mut Tally,
        on_borrowed: &mut OnBorrowed<'_>,
    ) -> Result<(), String> {
        let Some(frame) = self.0.entry(mfn) else {
            return Ok(());
        };
        let state = frame.load();
        if state.0 & !UNCOUNTED == 0 {
            return Ok(()); // as for nearly all frames that are not a domain's
        }
        check_word(state).map_err(|what| format!("{}: {what}: {state:?}", frame_of(mfn, frame)))?;
        if state.has(State::ALLOCATED) {
            tally.add(mfn, 1, 0);
        }
        for flag in [State::PINNED, State::PARTIAL] {
            if state.has(flag) {
                tally.add(mfn, 1, 1);
            }
        }
        if state.has(State::SHARED | State::USED) && frame.owner() == DomId::XEN {
            // Shared forever by the core itself.
            tally.add(mfn, 1, 1);
        }
        let level = PageType::from_bits(state.type_bits()).level();
        match level.filter(|_| state.type_refs() > 0) {
            Some(_) => self.count_table(mfn, frame, tally, on_borrowed),
            None => Ok(()),
        }
    }

    fn count_table(
        &self,
        mfn: Mfn,
        frame: &Frame,
        tally: &mut Tally,
        on_borrowed: &mut OnBorrowed<'_>,
    ) -> Result<(), String> {
        let state = frame.load();
        let shape = Shape::of(state);
        let words = self.0.words(mfn).ok_or("a table without contents")?;
        let valid = match state.has(State::PARTIAL) {
            true => frame.progress.load(Ordering::Relaxed) as usize,
            false => words.len(),
        };
        for (index, word) in words.iter().enumerate().take(valid) {
            let pte = Pte(word.load(Ordering::Relaxed));
            if shape.is_guest_entry(index) {
                self.count_entry((mfn, frame), (shape, index), pte, tally, on_borrowed)
                    .map_err(|what| {
                        let (which, ty) = (frame_of(mfn, frame), shape.ty());
                        format!(
                            "{which}: entry {index} of this {ty:?}, {:#x}: {what}",
                            pte.0
                        )
                    })?;
            }
        }
        if state.has(State::VALIDATED) {
            self.check_own_slots(mfn, frame)?;
        }
        Ok(())
    }

    fn count_entry(
        &self,
        table: (Mfn, &Frame),
        (shape, index): (Shape, usize),
        pte: Pte,
        tally: &mut Tally,
        on_borrowed: &mut OnBorrowed<'_>,
    ) -> Result<(), String> {
        let (owner, level) = (table.1.owner(), shape.level());
        if !pte.is_present() {
            let allowed = self.check_absent(level, owner, pte);
            return allowed.map_err(|_| "not present, and gives memory away".into());
        }
        if !pte.has(shape.added_flags()) || pte.has(Pte::GLOBAL) {
            return Err("flags that are never stored".into());
        }
        let Some(there) = self.0.frame(pte.mfn()) else {
            return match level {
                1 => Ok(()),
                _ => Err("leads to what is no RAM".into()),
            };
        };
        if pte.0 & (Pte::PWT | Pte::PCD | Pte::PAT_OR_LARGE) != 0 {
            return Err("flags that RAM never has".into());
        }
        let (target, state) = (pte.mfn(), there.load());
        if state.kind() != Kind::Used {
            return Err(format!("names a frame that is {state:?}"));
        }
        if level == 1 {
            tally.add(target, 1, u32::from(pte.is_writable()));
            if pte.is_writable() && state.type_bits() != PageType::Writable as u64 {
                return Err(format!("maps writable what is {state:?}"));
            }
            if there.owner() != owner {
                on_borrowed(Borrowed {
                    mapper: owner,
                    mfn: target,
                    writable: pte.is_writable(),
                })?;
            }
            return Ok(());
        }
        if there.owner() != owner {
            return Err(format!("names a frame of domain {}", there.owner().0));
        }
        self.count_upper(table.0, (shape, index), pte, state, tally)
    }

    fn count_upper(
        &self,
        table: Mfn,
        (shape, index): (Shape, usize),
        pte: Pte,
        state: State,
        tally: &mut Tally,
    ) -> Result<(), String> {
        let target = pte.mfn();
        let there = Shape::of(state);
        let linear = there.level() == shape.level();
        if linear && (pte.is_writable() || !shape.may_be_linear()) {
            return Err("maps page tables writable".into());
        }
        if target == table {
            return Ok(());
        }
        if linear {
            tally.add_linear(table, 1);
            tally.add_linear(target, -1);
        } else if Some(there.ty()) != shape.lower(index) {
            return Err(format!("names what is {state:?}"));
        }
        tally.add(target, 1, 1);
        if state.has(State::VALIDATED) {
            Ok(())
        } else {
            Err(format!("names a table that is {state:?}"))
        }
    }

    /// Checks that the hypervisor's slots of a validated table are as the hypervisor has written them.
    fn check_own_slots(&self, mfn: Mfn, frame: &Frame) -> Result<(), String> {
        let words = self.0.words(mfn).ok_or("a table without contents")?;
        let shape = Shape::of(frame.load());
        for slot in shape.own_entries() {
            let (is, wanted) = (
                words
                    .get(slot)
                    .map_or(0, |word| word.load(Ordering::Relaxed)),
                self.0.own_slot(frame.owner(), shape.ty(), slot),
            );
            if (is ^ wanted) & !Pte::MACHINE_SET != 0 {
                return Err(format!(
                    "{}: slot {slot} of this {:?} is the hypervisor's, and has {is:#x} for {wanted:#x}",
                    frame_of(mfn, frame),
                    shape.ty()
                ));
            }
        }
        Ok(())
    }

    /// Walks a domain's lists, and compares their lengths with the domain's charge. Returns the number of
    /// frames on them.
    ///
    /// # Errors
    /// If a list is broken, or contains a frame that doesn't belong there.
    pub fn count_lists(&self, pages: &DomainPages, tally: &mut Tally) -> Result<u64, String> {
        let lists = pages.lists.lock();
        let mut own = 0;
        for head in [lists.pages, lists.pinned, lists.leaving] {
            own = self.count_list(pages, head, 0, tally)?.saturating_add(own);
        }
        let shared = self.count_list(pages, lists.shared, State::SHARED, tally)?;
        drop(lists);
        for (what, counted, noted) in [
            ("frames", own, pages.total()),
            ("frames of the hypervisor's", shared, pages.shared()),
        ] {
            if counted != noted {
                let id = pages.id().0;
                return Err(format!(
                    "domain {id}: {counted} {what} on its lists, charged for {noted}"
                ));
            }
        }
        Ok(own.saturating_add(shared))
    }

    /// Counts the frames on the list that begins at `head`. In all of them, the SHARED bit must be as in `flag`,
    /// and the NARROW bit as the domain's width.
    fn count_list(
        &self,
        pages: &DomainPages,
        head: u32,
        flag: u64,
        tally: &mut Tally,
    ) -> Result<u64, String> {
        let most = pages.total().saturating_add(pages.shared());
        let flag = flag | pages.frame_flag();
        let (mut at, mut before, mut count) = (head, 0, 0u64);
        while at != 0 {
            let mfn = Mfn(u64::from(at));
            let frame = self.0.frame(mfn).ok_or("a list of frames leaves RAM")?;
            let state = frame.load();
            let fits = frame.owner() == pages.id()
                && frame.prev.load(Ordering::Relaxed) == before
                && state.0 & (State::SHARED | State::NARROW) == flag
                && count < most;
            if !fits {
                let (which, id) = (frame_of(mfn, frame), pages.id().0);
                return Err(format!(
                    "{which}: a list of domain {id} is broken here: {state:?}"
                ));
            }
            tally.count_listed(mfn);
            count = count.saturating_add(1);
            (before, at) = (at, frame.next.load(Ordering::Relaxed));
        }
        Ok(count)
    }

    /// Compares a frame's word with the counts. A frame in use must be on a list if a domain owns it, and a
    /// free frame must be on one.
    ///
    /// # Errors
    /// If the word differs from the counts.
    pub fn compare_frame(&self, mfn: Mfn, tally: &mut Tally) -> Result<(), String> {
        let (Some(frame), Some(row)) = (self.0.entry(mfn), tally.row(mfn)) else {
            return Ok(());
        };
        let state = frame.load();
        let is_listed = match state.kind() {
            Kind::NotRam => false,
            Kind::Free => true,
            Kind::Used => frame.owner() < DomId::FIRST_RESERVED,
        };
        let linear = frame.linear.load(Ordering::Relaxed) as i32;
        let agrees = u64::from(row.refs) == state.refs()
            && u64::from(row.type_refs) == state.type_refs()
            && row.lists == u32::from(is_listed)
            && row.linear == linear;
        if agrees {
            return Ok(());
        }
        for (what, counted, noted) in [
            ("references", i64::from(row.refs), state.refs() as i64),
            (
                "type references",
                row.type_refs.into(),
                state.type_refs() as i64,
            ),
            ("lists that have it", row.lists.into(), is_listed.into()),
            ("linear entries", row.linear.into(), linear.into()),
        ] {
            if counted != noted {
                let which = frame_of(mfn, frame);
                return Err(format!(
                    "{which}: {counted} {what} counted, {noted} in its word: {state:?}"
                ));
            }
        }
        Ok(())
    }
}

/// Checks that a state word is consistent while no operation is under way.
fn check_word(state: State) -> Result<(), &'static str> {
    if state.kind() != Kind::Used {
        let of_a_user = State::ALLOCATED | State::PINNED | State::PARTIAL | State::VALIDATED;
        let unused = state.refs() == 0 && state.type_refs() == 0 && state.0 & of_a_user == 0;
        return unused.then_some(()).ok_or("counted without being in use");
    }
    let is_table = PageType::from_bits(state.type_bits()).level().is_some();
    let (validated, partial) = (state.has(State::VALIDATED), state.has(State::PARTIAL));
    match state.type_refs() {
        0 if validated || partial => Err("validated or partial without a type reference"),
        0 if state.has(State::PINNED) => Err("pinned without a type reference"),
        0 => Ok(()),
        _ if validated && partial => Err("validated and partial"),
        _ if partial && !is_table => Err("partial, and no table"),
        _ if !validated && !partial => Err("busy, but nothing is under way"),
        _ if state.has(State::PINNED) && !is_table => Err("pinned, and no table"),
        _ => Ok(()),
    }
}
