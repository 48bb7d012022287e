//! The ring of one CPU's trace records. The layout is that of `trace.h`: a head of two words, followed by the records.
//! A record never crosses the end; a filler up to the end precedes a record that would.
//!
//! The producer keeps its position outside of the buffer. The position in the buffer is only for the tool to read.

use arrayvec::ArrayVec;
use guest_pv_abi::trace::{
    TRACE_EXTRA_MAX, TRACE_EXTRA_SHIFT, TRC_HD_CYCLE_FLAG, TRC_LOST_RECORDS, TRC_TRACE_WRAP_BUFFER,
};

use crate::kit::atomic::{AtomicU32, AtomicU64, Ordering};

/// The words of `struct t_buf`: `cons`, which the tool writes, and `prod`.
const CONS: u32 = 0;
const PROD: u32 = 1;
const HEAD_WORDS: u32 = 2;
/// The number of words of a record without data: header and time.
const BARE_WORDS: u32 = 3;
const MAX_WORDS: usize = (BARE_WORDS + TRACE_EXTRA_MAX) as usize;

/// The memory of a buffer. The tool may write to it at any moment.
pub trait Words {
    /// The number of words; at least those of a page.
    fn count(&self) -> u32;
    /// The word at this index; `None` beyond the end.
    fn word(&self, index: u32) -> Option<&AtomicU32>;
}

/// A record: header, time, data.
pub type Record = ArrayVec<u32, MAX_WORDS>;

/// Makes a record of `event` at `tsc`, with up to [`TRACE_EXTRA_MAX`] words of data.
pub fn record(event: u32, tsc: u64, data: &[u32]) -> Record {
    let event = event & ((1 << TRACE_EXTRA_SHIFT) - 1);
    let extra = (data.len() as u32).min(TRACE_EXTRA_MAX) << TRACE_EXTRA_SHIFT;
    let head = [
        TRC_HD_CYCLE_FLAG | extra | event,
        tsc as u32,
        (tsc >> 32) as u32,
    ];
    head.into_iter()
        .chain(data.iter().copied())
        .take(MAX_WORDS)
        .collect()
}

/// Makes a record of `words` words that the tool skips.
fn filler(words: u32, tsc: u64) -> Record {
    const NOTHING: [u32; TRACE_EXTRA_MAX as usize] = [0; _];
    // A header without a time can't describe more than the most data, so a longer filler has a time too.
    if words - 1 > TRACE_EXTRA_MAX {
        let data = NOTHING.get(..(words - BARE_WORDS) as usize);
        return record(TRC_TRACE_WRAP_BUFFER, tsc, data.unwrap_or_default());
    }
    let header = (words - 1) << TRACE_EXTRA_SHIFT | TRC_TRACE_WRAP_BUFFER;
    [header]
        .into_iter()
        .chain(NOTHING)
        .take(words as usize)
        .collect()
}

/// The buffer of a CPU. Only that CPU calls its methods, except [`Self::forget_lost`].
pub struct Buffer<W> {
    memory: W,
    /// The position of the next record, in words modulo twice the size, so that a full buffer
    /// differs from an empty one.
    prod: AtomicU32,
    /// The number of records that were lost since the last one that fitted.
    lost: AtomicU32,
    /// The TSC value at which the first of them was lost.
    lost_since: AtomicU64,
}

impl<W: Words> Buffer<W> {
    /// Makes a buffer in memory that is zero.
    pub const fn new(memory: W) -> Self {
        Self {
            memory,
            prod: AtomicU32::new(0),
            lost: AtomicU32::new(0),
            lost_since: AtomicU64::new(0),
        }
    }

    /// The number of words for records.
    fn size(&self) -> u32 {
        self.memory.count() - HEAD_WORDS
    }

    /// The number of words that the tool has not read yet. An impossible `cons` counts as a full buffer, until the tool
    /// writes a possible one.
    fn unread(&self, prod: u32) -> u32 {
        let size = self.size();
        let cons = self
            .memory
            .word(CONS)
            .map_or(0, |word| word.load(Ordering::Acquire));
        match cons / 4 {
            at if at >= 2 * size || !cons.is_multiple_of(4) => size,
            at if at <= prod => size.min(prod - at),
            at => size.min(prod + 2 * size - at),
        }
    }

    /// Forgets the lost records, so that the next session doesn't report them. A record that is lost
    /// meanwhile may still be counted.
    pub fn forget_lost(&self) {
        self.lost.store(0, Ordering::Relaxed);
    }

    /// Adds a record, preceded by a report of lost records if there were any; or counts it as lost if it doesn't fit.
    /// `runs` is the vCPU on this CPU. Returns true if that has made the buffer half full.
    pub fn add(&self, record: &Record, tsc: u64, runs: u32) -> bool {
        let (start, lost) = (
            self.prod.load(Ordering::Relaxed),
            self.lost.load(Ordering::Relaxed),
        );
        let (before, size) = (self.unread(start), self.size());
        let since = match lost {
            0 => tsc,
            _ => self.lost_since.load(Ordering::Relaxed),
        };
        // In this record, domain and vCPU are in the opposite order.
        let data = [
            lost,
            runs.rotate_left(16),
            since as u32,
            (since >> 32) as u32,
        ];
        let told = self::record(TRC_LOST_RECORDS, tsc, &data);
        let records = [&told, record].into_iter().skip(usize::from(lost == 0));
        let end = records.clone().fold(start, |at, record| {
            at + self.gap(at, record) + record.len() as u32
        });
        let after = before + end - start;
        if after > size {
            self.lost_since.store(since, Ordering::Relaxed);
            self.lost.store(lost.saturating_add(1), Ordering::Relaxed);
            return false;
        }
        records.fold(start, |at, record| {
            let behind = match self.gap(at, record) {
                0 => at,
                gap => self.put(at, &filler(gap, tsc)),
            };
            self.put(behind, record)
        });
        self.lost.store(0, Ordering::Relaxed);
        self.prod.store(end % (2 * size), Ordering::Relaxed);
        if let Some(word) = self.memory.word(PROD) {
            // Release: a tool that sees this position also sees the records.
            word.store(end % (2 * size) * 4, Ordering::Release);
        }
        before < size / 2 && after >= size / 2
    }

    /// The number of words from `at` to the end, if the record doesn't fit there.
    fn gap(&self, at: u32, record: &Record) -> u32 {
        match self.size() - at % self.size() {
            left if left < record.len() as u32 => left,
            _ => 0,
        }
    }

    /// Writes a record; returns the position behind it.
    fn put(&self, at: u32, record: &Record) -> u32 {
        for (index, value) in (HEAD_WORDS + at % self.size()..).zip(record) {
            if let Some(word) = self.memory.word(index) {
                word.store(*value, Ordering::Relaxed);
            }
        }
        at + record.len() as u32
    }
}

#[cfg(test)]
mod tool {
    //! The tool's side: reads a buffer as xentrace does.

    use super::*;
    use std::sync::Arc;
    use std::vec::Vec;

    /// The memory of a buffer.
    #[derive(Clone)]
    pub struct Memory(pub Arc<Vec<AtomicU32>>);

    impl Memory {
        pub fn new(words: usize) -> Self {
            Self(Arc::new((0..words).map(|_| AtomicU32::new(0)).collect()))
        }
    }

    impl Words for Memory {
        fn count(&self) -> u32 {
            self.0.len() as u32
        }
        fn word(&self, index: u32) -> Option<&AtomicU32> {
            self.0.get(index as usize)
        }
    }

    /// A record that was read: its event and its data.
    pub type Read = (u32, Vec<u32>);

    /// Reads all records except fillers, and updates `cons`.
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
        /// The tool writes an arbitrary `cons`.
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

    /// Adds record number `number`, all of whose data words contain that number.
    fn add(buffer: &Buffer<Memory>, number: u32, words: usize) -> bool {
        let (event, tsc) = (0x21000 | number & 0xfff, u64::from(number));
        buffer.add(&record(event, tsc, &[number; 9][..words]), tsc, 0x0005_0001)
    }

    proptest! {
        /// The tool reads all records in order, except those that are reported as lost.
        #[test]
        fn each_record_is_read_or_counted(size in 40..90_usize, steps in steps(false)) {
            let memory = Memory::new(size + 2);
            let buffer = Buffer::new(memory.clone());
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

        /// Whatever the tool writes, the producer stays within the buffer; once `cons` is possible again, it continues.
        #[test]
        fn nonsense_in_the_head(size in 40..90_usize, steps in steps(true)) {
            let memory = Memory::new(size + 2);
            let buffer = Buffer::new(memory.clone());
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
        let buffer = Buffer::new(memory.clone());
        let halves: Vec<bool> = (0..9).map(|n| add(&buffer, n, 1)).collect();
        assert_eq!(halves.iter().position(|is_half| *is_half), Some(2));
        assert_eq!(buffer.lost.load(Ordering::Relaxed), 4);
        assert_eq!(read(&memory).len(), 5);
        buffer.forget_lost();
        add(&buffer, 1, 0);
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

    /// A CPU records while the tool reads and a third CPU ends the session: no record is
    /// read partially, and none twice.
    #[test]
    fn the_tool_reads_whole_records() {
        explore(3, || {
            // The memory has room for two records.
            let memory = Memory::new(10);
            for word in memory.0.iter() {
                word.load(Ordering::Relaxed);
            }
            let buffer = Arc::new(Buffer::new(memory.clone()));
            for word in [&buffer.prod, &buffer.lost] {
                word.load(Ordering::Relaxed);
            }
            buffer.lost_since.load(Ordering::Relaxed);
            let producer = thread::spawn({
                let buffer = buffer.clone();
                move || {
                    for number in 0..3 {
                        buffer.add(&record(0x21000 + number, 0, &[number]), 0, 0);
                    }
                }
            });
            let ender = thread::spawn(move || buffer.forget_lost());
            let mut expected = 0;
            let mut look = || {
                for (event, data) in read(&memory) {
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
