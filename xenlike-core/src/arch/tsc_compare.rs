//! Measures how far another CPU's clock is from the boot CPU's, by many questions to the CPU while it is being started.
//!
//! The CPU that is being started only answers, and waits for the next question for as long as it takes. The boot CPU
//! asks, and gives up when its patience ends. So neither depends on the speed of the other, and a CPU that dies in
//! between can't hold up the boot. A question names its CPU, because CPUs that have started before may still listen.

use crate::kit::CpuId;
use crate::kit::atomic::{AtomicU32, AtomicU64, Ordering};

/// The number of the answer that a CPU gives unasked: it has arrived.
const HAS_COME: u32 = 0;
/// The number of the answer of a CPU that can't be used.
const UNFIT: u32 = 0xffff;

/// The words that the two CPUs share. A question or answer is a CPU's number (upper half) and a question's number.
pub struct Questions {
    asked: AtomicU32,
    answered: AtomicU32,
    answer: AtomicU64,
}

/// The state in which a CPU has arrived.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Arrival {
    /// The CPU answers questions.
    Ready,
    /// The CPU can't be used, for this reason.
    Unfit(u64),
}

const fn question(cpu: CpuId, number: u32) -> u32 {
    cpu.0 << 16 | number
}

impl Questions {
    /// Makes words without a question or an answer.
    pub const fn none() -> Self {
        Self {
            asked: AtomicU32::new(0),
            answered: AtomicU32::new(0),
            answer: AtomicU64::new(0),
        }
    }

    /// Clears all questions and answers, before the next CPU is started.
    pub fn reset(&self) {
        self.asked.store(0, Ordering::SeqCst);
        self.answered.store(0, Ordering::SeqCst);
    }

    /// Reports that this CPU, `cpu`, can't be used.
    pub fn refuse(&self, cpu: CpuId, reason: u64) {
        self.answer.store(reason, Ordering::SeqCst);
        self.answered.store(question(cpu, UNFIT), Ordering::SeqCst);
    }

    /// Answers all questions to this CPU, `cpu`, until `is_over` returns true. Calls `wait`
    /// whenever there is no question.
    pub fn serve(
        &self,
        cpu: CpuId,
        clock: impl Fn() -> u64,
        is_over: impl Fn() -> bool,
        wait: impl Fn(),
    ) {
        let mut last = question(cpu, HAS_COME);
        self.answered.store(last, Ordering::SeqCst);
        while !is_over() {
            let asked = self.asked.load(Ordering::SeqCst);
            if asked == last || asked >> 16 != cpu.0 {
                wait();
                continue;
            }
            self.answer.store(clock(), Ordering::SeqCst);
            self.answered.store(asked, Ordering::SeqCst);
            last = asked;
        }
    }

    /// How `cpu` has arrived, if it has.
    pub fn arrival(&self, cpu: CpuId) -> Option<Arrival> {
        let answered = self.answered.load(Ordering::SeqCst);
        if answered == question(cpu, UNFIT) {
            return Some(Arrival::Unfit(self.answer.load(Ordering::SeqCst)));
        }
        (answered == question(cpu, HAS_COME)).then_some(Arrival::Ready)
    }

    /// Asks `cpu` for its clock, between two readings of `clock`: returns the first reading, the answer, and the second
    /// reading. `None` if `wait` returns false, because the patience has ended. No `number` is used twice.
    pub fn ask(
        &self,
        cpu: CpuId,
        number: u32,
        clock: impl Fn() -> u64,
        wait: impl Fn() -> bool,
    ) -> Option<[u64; 3]> {
        let question = question(cpu, number);
        let before = clock();
        self.asked.store(question, Ordering::SeqCst);
        while self.answered.load(Ordering::SeqCst) != question {
            if !wait() {
                return None;
            }
        }
        let after = clock();
        Some([before, self.answer.load(Ordering::SeqCst), after])
    }
}

/// The bounds, in ticks, of how far another clock is ahead, as far as all readings tell. The numbers are negative for a
/// clock that is behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ahead {
    least: i64,
    most: i64,
}

impl Ahead {
    /// The bounds before the first reading.
    pub const UNKNOWN: Self = Self {
        least: i64::MIN,
        most: i64::MAX,
    };

    /// Narrows the bounds: the other clock showed `there` between `before` and `after`. Any of
    /// the clocks may have wrapped.
    pub fn look(&mut self, [before, there, after]: [u64; 3]) {
        self.least = self.least.max(there.wrapping_sub(after).cast_signed());
        self.most = self.most.min(there.wrapping_sub(before).cast_signed());
    }

    /// The number of ticks by which the other clock must be put forward; 0 if the clocks may be equal.
    pub const fn correction(self) -> i64 {
        if self.least <= 0 && self.most >= 0 {
            return 0;
        }
        // The middle of the bounds leaves an error of at most half of the tightest reading.
        let between = self.most.wrapping_sub(self.least) / 2;
        self.least.wrapping_add(between).wrapping_neg()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Reads a clock that is `skew` ahead; `ways` are the ticks that each question and its answer take.
    fn looks(skew: i64, ways: &[(u64, u64)]) -> Ahead {
        let (mut ahead, mut time) = (Ahead::UNKNOWN, 1000_u64);
        for (there, back) in ways {
            let before = time;
            let other = time.wrapping_add(*there).wrapping_add_signed(skew);
            time += there + back;
            ahead.look([before, other, time]);
            time += 100;
        }
        ahead
    }

    proptest! {
        /// A correction leaves at most half of the tightest reading as error, and a clock that may
        /// be right is left alone.
        #[test]
        fn clocks_meet(
            skew in -1_000_000_000_000_i64..1_000_000_000_000,
            near in -300_i64..300,
            ways in prop::collection::vec((1_u64..400, 1_u64..400), 1..40),
        ) {
            let tightest = ways.iter().map(|(there, back)| there + back).min().unwrap();
            for skew in [skew, near] {
                let correction = looks(skew, &ways).correction();
                let left = skew + correction;
                if correction != 0 {
                    prop_assert!(left.unsigned_abs() <= tightest / 2 + 1, "{left}");
                    prop_assert_eq!(looks(left, &ways).correction(), 0);
                } else {
                    prop_assert!(left.unsigned_abs() < tightest, "{left}");
                }
            }
        }

        /// No sequence of times makes it panic.
        #[test]
        fn any_answer_is_taken(looks in prop::collection::vec(any::<[u64; 3]>(), 0..10)) {
            let mut ahead = Ahead::UNKNOWN;
            looks.into_iter().for_each(|look| ahead.look(look));
            ahead.correction();
        }
    }
}

#[cfg(all(test, loom))]
mod models {
    use super::*;
    use crate::kit::atomic::model::explore;
    use crate::kit::lock::wait_step;
    use loom::thread;
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;

    const CPU: CpuId = CpuId(1);

    /// However the two CPUs interleave, an answer belongs to its question. If the boot CPU gives up at any moment, it
    /// doesn't hang, and the other CPU still ends.
    #[test]
    fn answers_belong_to_their_questions() {
        let answers = Arc::new(AtomicUsize::new(0));
        let counted = answers.clone();
        explore(3, move || {
            // The time of both CPUs, which advances at every reading.
            let shared = Arc::new((Questions::none(), AtomicU64::new(1), AtomicU32::new(0)));
            shared.0.reset();
            shared.0.answer.store(0, Ordering::SeqCst);
            shared.1.load(Ordering::Relaxed);
            shared.2.store(0, Ordering::SeqCst);
            let theirs = shared.clone();
            let other = thread::spawn(move || {
                let (questions, time, over) = &*theirs;
                let clock = || time.fetch_add(1, Ordering::SeqCst);
                let is_over = || over.load(Ordering::SeqCst) != 0;
                questions.serve(CPU, clock, is_over, wait_step);
            });
            let (questions, time, over) = &*shared;
            let clock = || time.fetch_add(1, Ordering::SeqCst);
            let patience = core::cell::Cell::new(4);
            let wait = || {
                wait_step();
                patience.set(patience.get() - 1);
                patience.get() > 0
            };
            while questions.arrival(CPU) != Some(Arrival::Ready) && wait() {}
            for number in 1..3 {
                let Some([before, there, after]) = questions.ask(CPU, number, clock, wait) else {
                    break;
                };
                assert!(before < there && there < after);
                counted.fetch_add(number as usize, std::sync::atomic::Ordering::Relaxed);
            }
            over.store(1, Ordering::SeqCst);
            other.join().unwrap();
        });
        let answers = answers.load(std::sync::atomic::Ordering::Relaxed);
        assert!(answers > 10, "the two hardly met");
    }
}
