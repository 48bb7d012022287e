//! How far another CPU's clock is from the boot CPU's, found by asking it again and again while it is being started.
//!
//! The CPU that is being started only answers, and waits for the next question as long as it takes; the boot CPU
//! asks, and gives up when its patience ends. So neither depends on how fast the other one is, and a CPU that dies
//! halfway can't hold up the boot. A question names the CPU, as CPUs that have started already still listen.

use crate::kit::CpuId;
use crate::kit::atomic::{AtomicU32, AtomicU64, Ordering};

/// The number of a "question" that a CPU answers by itself: whether it has come.
const HAS_COME: u32 = 0;
/// The number by which a CPU answers that it can't be used.
const UNFIT: u32 = 0xffff;

/// The words that the two CPUs share.
pub struct Questions {
    asked: AtomicU32,
    answered: AtomicU32,
    answer: AtomicU64,
}

/// A CPU has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Arrival {
    /// It answers questions.
    Ready,
    /// It can't be used, with its reason.
    Unfit(u64),
}

const fn question(cpu: CpuId, number: u32) -> u32 {
    cpu.0 << 16 | number
}

impl Questions {
    /// Nothing asked.
    pub const fn none() -> Self {
        Self {
            asked: AtomicU32::new(0),
            answered: AtomicU32::new(0),
            answer: AtomicU64::new(0),
        }
    }

    /// Forgets all answers, before the next CPU is started.
    pub fn reset(&self) {
        self.asked.store(0, Ordering::SeqCst);
        self.answered.store(0, Ordering::SeqCst);
    }

    /// This CPU, `cpu`, can't be used.
    pub fn refuse(&self, cpu: CpuId, reason: u64) {
        self.answer.store(reason, Ordering::SeqCst);
        self.answered.store(question(cpu, UNFIT), Ordering::SeqCst);
    }

    /// Answers all questions to this CPU, `cpu`, until `is_over`; `wait` is what it does between two looks.
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

    /// Whether `cpu` has come.
    pub fn arrival(&self, cpu: CpuId) -> Option<Arrival> {
        let answered = self.answered.load(Ordering::SeqCst);
        if answered == question(cpu, UNFIT) {
            return Some(Arrival::Unfit(self.answer.load(Ordering::SeqCst)));
        }
        (answered == question(cpu, HAS_COME)).then_some(Arrival::Ready)
    }

    /// What the clock of `cpu` shows between two looks at `clock`: the first look, its, and the second. Nothing if
    /// `wait` says that the patience has ended. Each `number` is asked once.
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

/// Between which numbers of ticks another clock is ahead, as far as all looks tell. A clock that is behind is ahead
/// by less than nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ahead {
    least: i64,
    most: i64,
}

impl Ahead {
    /// Nothing is known.
    pub const UNKNOWN: Self = Self {
        least: i64::MIN,
        most: i64::MAX,
    };

    /// The other clock showed `there` between `before` and `after`. Any of them may have passed zero.
    pub fn look(&mut self, [before, there, after]: [u64; 3]) {
        self.least = self.least.max(there.wrapping_sub(after).cast_signed());
        self.most = self.most.min(there.wrapping_sub(before).cast_signed());
    }

    /// By how many ticks the other clock is to be put forward; 0 if the clocks may well be equal.
    pub const fn correction(self) -> i64 {
        if self.least <= 0 && self.most >= 0 {
            return 0;
        }
        // The middle: what remains is half of what the tightest look leaves open.
        let between = self.most.wrapping_sub(self.least) / 2;
        self.least.wrapping_add(between).wrapping_neg()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Looks at a clock that is `skew` ahead: each takes so many ticks there and so many back.
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
        /// A correction leaves no more than half of the tightest look, and a clock that may be right stays.
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

        /// No order of times makes it panic.
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

    /// However the two are interleaved, an answer belongs to its question, and a boot CPU that gives up at any moment
    /// neither hangs nor leaves the other one without an end.
    #[test]
    fn answers_belong_to_their_questions() {
        let answers = Arc::new(AtomicUsize::new(0));
        let counted = answers.clone();
        explore(3, move || {
            // The time of both: it goes on with every look.
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
