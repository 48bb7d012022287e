//! A meeting of all CPUs for a microcode update while guests run: CPUs that share a core must not execute other code
//! while the update is loaded.
//!
//! The leader calls the others by NMI, which also blocks further NMIs on them. They may hold locks, so the
//! leader takes none until the meeting is over. The leader loads first. Then each CPU has its turn, while the
//! others do nothing but wait.

use crate::kit::atomic::{AtomicU32, Ordering};
use crate::kit::{AtomicCpuSet, CpuId, CpuSet};

/// Special values of the leader and turn words: no CPU; all CPUs are to come.
const NOBODY: u32 = u32::MAX;
const ALL_COME: u32 = u32::MAX - 1;

/// The only meeting of the machine, in which all its CPUs take part.
pub static MEETING: Meeting = Meeting::none();

/// The words that the leader and the others share.
pub struct Meeting {
    leader: AtomicU32,
    turn: AtomicU32,
    here: AtomicCpuSet,
    done: AtomicCpuSet,
    failed: AtomicCpuSet,
}

/// The outcome of a meeting.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End<E> {
    /// Every CPU has had its turn; the update failed on these.
    Held(CpuSet),
    /// The update failed on the leader, so no other CPU has tried it.
    Leader(E),
    /// Not all CPUs came, or there was a meeting already.
    NotHeld,
    /// This CPU has not come back from its turn.
    Lost(CpuId),
}

impl Meeting {
    const fn none() -> Self {
        Self {
            leader: AtomicU32::new(NOBODY),
            turn: AtomicU32::new(NOBODY),
            here: AtomicCpuSet::new(CpuSet::EMPTY),
            done: AtomicCpuSet::new(CpuSet::EMPTY),
            failed: AtomicCpuSet::new(CpuSet::EMPTY),
        }
    }

    /// Leads a meeting with `others`; `call` interrupts each of them. `patience` makes a waiting step that returns
    /// whether there is time left.
    pub fn lead<E, P: Fn() -> bool>(
        &self,
        me: CpuId,
        others: CpuSet,
        call: impl Fn(CpuId),
        load: impl FnOnce() -> Result<(), E>,
        patience: impl Fn() -> P,
    ) -> End<E> {
        let free = self
            .leader
            .compare_exchange(NOBODY, me.0, Ordering::SeqCst, Ordering::SeqCst);
        if free.is_err() {
            return End::NotHeld;
        }
        for cpu in others.iter() {
            self.done.remove(cpu);
            self.failed.remove(cpu);
        }
        self.turn.store(ALL_COME, Ordering::SeqCst);
        others.iter().for_each(call);
        let all_came = || others.iter().all(|cpu| self.here.get().contains(cpu));
        let end = if is_soon(all_came, patience()) {
            match load() {
                Ok(()) => self.give_turns(others, &patience),
                Err(why) => End::Leader(why),
            }
        } else {
            End::NotHeld
        };
        self.turn.store(NOBODY, Ordering::SeqCst);
        // The CPUs that are here leave now. If one doesn't, it would take the next meeting for this one, so there will
        // be none.
        if is_soon(|| self.here.get().is_empty(), patience()) {
            self.leader.store(NOBODY, Ordering::SeqCst);
        }
        end
    }

    fn give_turns<E, P: Fn() -> bool>(&self, others: CpuSet, patience: impl Fn() -> P) -> End<E> {
        for cpu in others.iter() {
            self.turn.store(cpu.0, Ordering::SeqCst);
            if !is_soon(|| self.done.get().contains(cpu), patience()) {
                return End::Lost(cpu);
            }
        }
        End::Held(self.failed.get().and(others))
    }

    /// Takes part if there is a meeting that another CPU leads; returns whether there was. Called
    /// by the handler of NMIs.
    pub fn attend(&self, me: CpuId, load: impl FnOnce() -> bool, pause: impl Fn()) -> bool {
        if self.turn.load(Ordering::SeqCst) == NOBODY || self.leader.load(Ordering::SeqCst) == me.0
        {
            return false;
        }
        self.here.insert(me);
        let mut load = Some(load);
        loop {
            let turn = self.turn.load(Ordering::SeqCst);
            if turn == NOBODY {
                break;
            }
            if turn == me.0
                && let Some(load) = load.take()
            {
                if !load() {
                    self.failed.insert(me);
                }
                self.done.insert(me);
            }
            pause();
        }
        self.here.remove(me);
        true
    }
}

/// Panics, because a CPU that hangs in its update may hold locks that can't be taken from it.
pub fn end_without(cpu: CpuId) -> ! {
    panic!("{cpu:?} hangs in an update of its microcode");
}

/// Waits until `done` returns true, or `has_time` returns false.
fn is_soon(done: impl Fn() -> bool, has_time: impl Fn() -> bool) -> bool {
    loop {
        if done() {
            return true;
        }
        if !has_time() {
            return false;
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
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    /// The meeting; whether CPU 1 was interrupted; how many CPUs are loading; how many have loaded.
    type Shared = (Meeting, AtomicU32, AtomicU32, AtomicU32);

    fn loads(shared: &Shared) -> bool {
        assert_eq!(
            shared.2.fetch_add(1, Ordering::SeqCst),
            0,
            "two CPUs load at once"
        );
        shared.3.fetch_add(1, Ordering::SeqCst);
        shared.2.fetch_sub(1, Ordering::SeqCst);
        true
    }

    /// Whatever the leader's patience is, no two CPUs load at once, all or none of the others load, both CPUs finish,
    /// and the next meeting finds the room empty.
    #[test]
    fn one_at_a_time_or_none() {
        let [held, _] = ends_of(true);
        let [_, not] = ends_of(false);
        assert!(held > 10 && not > 10, "{held} held, {not} not");
    }

    /// How many meetings are held, and how many are not. A patient leader yields while it waits.
    fn ends_of(is_patient: bool) -> [usize; 2] {
        let ends = Arc::new([const { AtomicUsize::new(0) }; 2]);
        let counted = ends.clone();
        explore(3, move || {
            let shared: Arc<Shared> = Arc::new((
                Meeting::none(),
                AtomicU32::new(0),
                AtomicU32::new(0),
                AtomicU32::new(0),
            ));
            shared.0.turn.store(NOBODY, Ordering::SeqCst);
            shared.0.leader.store(NOBODY, Ordering::SeqCst);
            for set in [&shared.0.here, &shared.0.done, &shared.0.failed] {
                set.remove(CpuId(1));
            }
            for word in [&shared.1, &shared.2, &shared.3] {
                word.store(0, Ordering::SeqCst);
            }
            let theirs = shared.clone();
            let other = thread::spawn(move || {
                while theirs.1.load(Ordering::SeqCst) == 0 {
                    wait_step();
                }
                theirs.0.attend(CpuId(1), || loads(&theirs), wait_step);
            });
            let left = core::cell::Cell::new(5_i32);
            let end: End<()> = shared.0.lead(
                CpuId(0),
                CpuSet::one(CpuId(1)),
                |_| shared.1.store(1, Ordering::SeqCst),
                || {
                    loads(&shared);
                    Ok(())
                },
                || {
                    || {
                        if is_patient {
                            wait_step();
                        }
                        left.set(left.get() - 1);
                        left.get() > 0
                    }
                },
            );
            other.join().unwrap();
            let loaded = shared.3.load(Ordering::SeqCst);
            match end {
                End::Held(failed) => assert!(failed.is_empty() && loaded == 2),
                End::NotHeld => assert_eq!(loaded, 0),
                End::Lost(_) => assert!(loaded == 1 || loaded == 2),
                End::Leader(()) => unreachable!(),
            }
            assert!(shared.0.here.get().is_empty());
            counted[usize::from(loaded != 2)].fetch_add(1, Relaxed);
        });
        [0, 1].map(|n| ends[n].load(Relaxed))
    }
}
