//! The ring of one CPU's records. The layout is `trace.h`'s: a head of two words, then the records. A record never
//! crosses the end: one that would is preceded by a filler up to there.
//!
//! The producer's place is kept here. What the buffer says of it is for the tool alone.

use guest_pv_abi::trace::{
    TRACE_EXTRA_MAX, TRACE_EXTRA_SHIFT, TRC_HD_CYCLE_FLAG, TRC_LOST_RECORDS, TRC_TRACE_WRAP_BUFFER,
};

use crate::kit::PAGE_SIZE;
use crate::kit::atomic::{AtomicU32, AtomicU64, Ordering};

/// Words of a page.
pub const PAGE_WORDS: u32 = (PAGE_SIZE / size_of::<u32>()) as u32;
/// The words of `struct t_buf`: `cons`, the tool's, and `prod`.
const CONS: u32 = 0;
const PROD: u32 = 1;
const HEAD_WORDS: u32 = 2;
/// Words of a record without data: header and time.
const BARE_WORDS: u32 = 3;
const LOST_WORDS: u32 = BARE_WORDS + 4;

/// The memory of a buffer, which the tool writes at any moment.
pub trait Words {
    /// How many words it has, at least a page's.
    fn count(&self) -> u32;
    /// One of them.
    fn word(&self, index: u32) -> Option<&AtomicU32>;
}

/// One record.
pub struct Record<'a> {
    /// `TRC_*`.
    pub event: u32,
    /// When.
    pub tsc: u64,
    /// Up to [`TRACE_EXTRA_MAX`] words.
    pub data: &'a [u32],
}

impl Record<'_> {
    fn data(&self) -> &[u32] {
        let most = self.data.len().min(TRACE_EXTRA_MAX as usize);
        self.data.get(..most).unwrap_or_default()
    }
    fn words(&self) -> u32 {
        BARE_WORDS + self.data().len() as u32
    }
}

/// Header and time of a record with so many words of data.
fn head(event: u32, extra: u32, tsc: u64) -> [u32; 3] {
    let event = event & ((1 << TRACE_EXTRA_SHIFT) - 1);
    let header = TRC_HD_CYCLE_FLAG | extra << TRACE_EXTRA_SHIFT | event;
    [header, tsc as u32, (tsc >> 32) as u32]
}

/// How full a record has left its buffer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Filled {
    /// Half full; it was emptier before.
    Half,
    /// Anything else.
    Otherwise,
}

/// A CPU's buffer. All methods are for that CPU alone.
pub struct Buffer<W> {
    memory: W,
    /// Where the next record begins, in words modulo twice the size.
    prod: AtomicU32,
    /// Records lost since the last that fitted.
    lost: AtomicU32,
    /// When the first of them was.
    lost_since: AtomicU64,
    /// The session that they were lost in.
    session: AtomicU32,
}

impl<W: Words> Buffer<W> {
    /// Over memory that is zero.
    pub const fn new(memory: W) -> Self {
        Self {
            memory,
            prod: AtomicU32::new(0),
            lost: AtomicU32::new(0),
            lost_since: AtomicU64::new(0),
            session: AtomicU32::new(0),
        }
    }

    /// Words of records that fit.
    fn size(&self) -> u32 {
        self.memory.count() - HEAD_WORDS
    }

    /// Words that the tool has not read yet. A `cons` that can't be counts as a full buffer, until the tool writes one
    /// that can.
    fn unread(&self, prod: u32) -> u32 {
        let size = self.size();
        let cons = self
            .memory
            .word(CONS)
            .map_or(0, |word| word.load(Ordering::Acquire));
        let behind = match cons / 4 {
            cons if cons >= 2 * size => size,
            cons if cons <= prod => prod - cons,
            cons => prod + 2 * size - cons,
        };
        if cons.is_multiple_of(4) {
            behind.min(size)
        } else {
            size
        }
    }

    /// Adds a record, and before it how many were lost, if there were; or counts it as lost. `runs` is the vCPU on
    /// this CPU.
    pub fn add(&self, record: &Record<'_>, session: u32, runs: u32) -> Filled {
        if self.session.load(Ordering::Relaxed) != session {
            self.session.store(session, Ordering::Relaxed);
            self.lost.store(0, Ordering::Relaxed);
        }
        let start = self.prod.load(Ordering::Relaxed);
        let (before, size) = (self.unread(start), self.size());
        let lost = self.lost.load(Ordering::Relaxed);
        let mut needed = 0;
        if lost != 0 {
            needed = self.with_filler(start, LOST_WORDS);
        }
        needed += self.with_filler(start + needed, record.words());
        if needed > size - before {
            self.lose(lost, record.tsc);
            return Filled::Otherwise;
        }
        let mut at = start;
        if lost != 0 {
            let since = self.lost_since.load(Ordering::Relaxed);
            // Domain and vCPU are the other way round here.
            let data = [
                lost,
                runs.rotate_left(16),
                since as u32,
                (since >> 32) as u32,
            ];
            let told = Record {
                event: TRC_LOST_RECORDS,
                tsc: record.tsc,
                data: &data,
            };
            at = self.write(at, &told);
            self.lost.store(0, Ordering::Relaxed);
        }
        at = self.write(at, record);
        let end = at % (2 * size);
        self.prod.store(end, Ordering::Relaxed);
        if let Some(word) = self.memory.word(PROD) {
            // The tool that sees this sees the records.
            word.store(end * 4, Ordering::Release);
        }
        if before < size / 2 && before + needed >= size / 2 {
            Filled::Half
        } else {
            Filled::Otherwise
        }
    }

    fn lose(&self, lost: u32, tsc: u64) {
        if lost == 0 {
            self.lost_since.store(tsc, Ordering::Relaxed);
        }
        self.lost.store(lost.saturating_add(1), Ordering::Relaxed);
    }

    /// Words from `at` to the end.
    fn to_end(&self, at: u32) -> u32 {
        self.size() - at % self.size()
    }

    /// The words that a record of `words` takes at `at`, with the filler before it.
    fn with_filler(&self, at: u32, words: u32) -> u32 {
        match self.to_end(at) {
            left if left < words => left + words,
            _ => words,
        }
    }

    /// Writes a record, and before it a filler if it needs one; gives where it ends.
    fn write(&self, mut at: u32, record: &Record<'_>) -> u32 {
        let left = self.to_end(at);
        if left < record.words() {
            // Fewer words than a record of the most data has. A header alone tells of no more than that data: what is
            // longer has a time, too.
            let timed = left - 1 > TRACE_EXTRA_MAX;
            let bare = if timed { BARE_WORDS } else { 1 };
            let [mut header, low, high] = head(TRC_TRACE_WRAP_BUFFER, left - bare, record.tsc);
            if !timed {
                header &= !TRC_HD_CYCLE_FLAG;
            }
            self.put(at, [header, low, high].into_iter().take(bare as usize));
            at += left;
        }
        let data = record.data();
        let words = head(record.event, data.len() as u32, record.tsc);
        self.put(at, words.into_iter().chain(data.iter().copied()));
        at + record.words()
    }

    fn put(&self, at: u32, words: impl Iterator<Item = u32>) {
        let first = HEAD_WORDS + at % self.size();
        for (index, value) in (first..).zip(words) {
            if let Some(word) = self.memory.word(index) {
                word.store(value, Ordering::Relaxed);
            }
        }
    }
}

#[cfg(test)]
mod tool {
    //! The tool's side, as xentrace reads a buffer.

    use super::*;
    use std::vec::Vec;

    /// Memory of a buffer.
    pub struct Memory(pub Vec<AtomicU32>);

    impl Memory {
        pub fn new(words: usize) -> Self {
            Self((0..words).map(|_| AtomicU32::new(0)).collect())
        }
    }

    impl Words for &Memory {
        fn count(&self) -> u32 {
            self.0.len() as u32
        }
        fn word(&self, index: u32) -> Option<&AtomicU32> {
            self.0.get(index as usize)
        }
    }

    /// A record that was read: its event, and its data.
    pub type Read = (u32, Vec<u32>);

    /// Reads all that is there, without the fillers, and says so.
    pub fn read(memory: &Memory) -> Vec<Read> {
        let word = |index: u32| memory.0[index as usize].load(Ordering::Relaxed);
        let size = memory.0.len() as u32 - HEAD_WORDS;
        let mut cons = word(CONS) / 4;
        let prod = memory.0[PROD as usize].load(Ordering::Acquire) / 4;
        let mut records = Vec::new();
        while cons != prod {
            let at = HEAD_WORDS + cons % size;
            let header = word(at);
            let bare = if header & TRC_HD_CYCLE_FLAG != 0 {
                3
            } else {
                1
            };
            let words = bare + (header >> TRACE_EXTRA_SHIFT & TRACE_EXTRA_MAX);
            assert!(at + words <= size + HEAD_WORDS, "beyond the end");
            let event = header & ((1 << TRACE_EXTRA_SHIFT) - 1);
            if event != TRC_TRACE_WRAP_BUFFER {
                records.push((event, (at + bare..at + words).map(word).collect()));
            }
            cons = (cons + words) % (2 * size);
        }
        memory.0[CONS as usize].store(cons * 4, Ordering::Release);
        records
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::tool::{Memory, read};
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    #[derive(Clone, Debug)]
    enum Step {
        Add(usize),
        Read,
        /// The tool writes nonsense.
        Scribble(u32),
    }

    fn steps(hostile: bool) -> impl Strategy<Value = Vec<Step>> {
        let nonsense = if hostile { 1 } else { 0 };
        let step = prop_oneof![
            8 => (0..9_usize).prop_map(Step::Add),
            2 => Just(Step::Read),
            nonsense => any::<u32>().prop_map(Step::Scribble),
            nonsense => (0..200_u32).prop_map(Step::Scribble),
        ];
        prop::collection::vec(step, 1..200)
    }

    /// Adds record number `number`, whose data all have the number.
    fn add(buffer: &Buffer<&Memory>, number: u32, words: usize) -> Filled {
        let record = Record {
            event: 0x21000 | number & 0xfff,
            tsc: u64::from(number),
            data: &[number; 9][..words],
        };
        buffer.add(&record, 1, 0x0005_0001)
    }

    proptest! {
        /// The tool reads all records in order, but those that it's told are lost.
        #[test]
        fn each_record_is_read_or_counted(size in 40..90_usize, steps in steps(false)) {
            let memory = Memory::new(size + 2);
            let buffer = Buffer::new(&memory);
            let (mut next, mut expected) = (0, 0);
            for step in steps.into_iter().chain([Step::Read, Step::Add(0), Step::Read, Step::Add(0), Step::Read]) {
                if let Step::Add(words) = step {
                    add(&buffer, next, words);
                    next += 1;
                    continue;
                }
                for (event, data) in read(&memory) {
                    if event == TRC_LOST_RECORDS {
                        prop_assert_eq!(&data[1..], &[0x0001_0005, expected, 0]);
                        expected += data[0];
                        continue;
                    }
                    prop_assert_eq!(event & 0xfff, expected & 0xfff);
                    prop_assert!(data.len() <= 7 && data.iter().all(|word| *word == expected));
                    expected += 1;
                }
            }
            prop_assert!(next - expected <= 1, "{expected} of {next}");
        }

        /// Whatever the tool writes, the producer stays inside; with a `cons` that can be, it goes on.
        #[test]
        fn nonsense_in_the_head(size in 40..90_usize, steps in steps(true)) {
            let memory = Memory::new(size + 2);
            let buffer = Buffer::new(&memory);
            for (number, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Add(words) => {
                        add(&buffer, number as u32, words);
                    }
                    Step::Read => memory.0[0].store(memory.0[1].load(Ordering::Relaxed), Ordering::Relaxed),
                    Step::Scribble(word) => memory.0[0].store(word, Ordering::Relaxed),
                }
                let prod = buffer.prod.load(Ordering::Relaxed);
                prop_assert!((prod as usize) < 2 * size);
                prop_assert_eq!(memory.0[1].load(Ordering::Relaxed), prod * 4);
            }
            memory.0[0].store(memory.0[1].load(Ordering::Relaxed), Ordering::Relaxed);
            let before = buffer.prod.load(Ordering::Relaxed);
            for _ in 0..2 {
                add(&buffer, 0, 0);
                memory.0[0].store(memory.0[1].load(Ordering::Relaxed), Ordering::Relaxed);
            }
            prop_assert_ne!(buffer.prod.load(Ordering::Relaxed), before);
        }
    }

    #[test]
    fn a_session_does_not_tell_what_an_earlier_one_lost() {
        let memory = Memory::new(22);
        let buffer = Buffer::new(&memory);
        let halves: Vec<Filled> = (0..9).map(|n| add(&buffer, n, 1)).collect();
        assert_eq!(
            halves.iter().position(|filled| *filled == Filled::Half),
            Some(2)
        );
        assert_eq!(buffer.lost.load(Ordering::Relaxed), 4);
        assert_eq!(read(&memory).len(), 5);
        let record = Record {
            event: 0x21001,
            tsc: 0,
            data: &[],
        };
        buffer.add(&record, 3, 0);
        assert_eq!(read(&memory), [(0x21001, Vec::new())]);
    }
}

#[cfg(all(test, loom))]
mod models {
    use super::tool::{Memory, read};
    use super::*;
    use crate::kit::atomic::model::explore;
    use loom::thread;
    use std::sync::Arc;

    /// A CPU records while the tool reads and a third CPU ends the session: no record is read in part, none twice,
    /// and what is missing before the end of the session has been counted.
    #[test]
    fn the_tool_reads_whole_records() {
        explore(3, || {
            // Two records fit.
            let shared = Arc::new((Memory::new(10), AtomicU32::new(1)));
            shared
                .0
                .0
                .iter()
                .for_each(|word| _ = word.load(Ordering::Relaxed));
            shared.1.load(Ordering::Relaxed);
            let producer = thread::spawn({
                let shared = shared.clone();
                move || {
                    let buffer = Buffer::new(&shared.0);
                    for number in 0..3 {
                        let record = Record {
                            event: 0x21000 + number,
                            tsc: 0,
                            data: &[number],
                        };
                        let session = shared.1.load(Ordering::Acquire);
                        if session & 1 != 0 {
                            buffer.add(&record, session, 0);
                        }
                    }
                }
            });
            let ender = thread::spawn({
                let shared = shared.clone();
                move || shared.1.store(2, Ordering::Release)
            });
            let mut expected = 0;
            let mut look = || {
                for (event, data) in read(&shared.0) {
                    assert_eq!((event, &data[..]), (0x21000 + expected, &[expected][..]));
                    expected += 1;
                }
            };
            look();
            look();
            producer.join().unwrap();
            ender.join().unwrap();
            look();
        });
    }
}
