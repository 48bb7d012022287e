//! All CPUs meet for an update while guests run: those that share a core must not run code while it is loaded.
//!
//! The leader calls the others by NMI, so that no other NMI hits them meanwhile. They may hold locks: the leader
//! takes none until the meeting is over. It loads first; then each has its turn, and the rest do nothing but wait.

use crate::arch::cpuset::{AtomicCpuSet, CpuSet};
use crate::kit::CpuId;
use crate::kit::atomic::{AtomicU32, Ordering};

/// In the place of a CPU: nobody; all are to come.
const NOBODY: u32 = u32::MAX;
const ALL_COME: u32 = u32::MAX - 1;

/// The one meeting that there can be: all CPUs of the machine take part.
pub static MEETING: Meeting = Meeting::none();

/// What the leader and the others share.
pub struct Meeting {
    leader: AtomicU32,
    turn: AtomicU32,
    here: AtomicCpuSet,
    done: AtomicCpuSet,
    failed: AtomicCpuSet,
}

/// What came of a meeting.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End<E> {
    /// Every CPU has had its turn; it failed on these.
    Held(CpuSet),
    /// It failed on the leader, before any other CPU.
    Leader(E),
    /// Not all came, or there was one already.
    NotHeld,
    /// This CPU has not come back from its turn.
    Lost(CpuId),
}

impl Meeting {
    const fn none() -> Self {
        Self {
            leader: AtomicU32::new(NOBODY),
            turn: AtomicU32::new(NOBODY),
            here: AtomicCpuSet::new(),
            done: AtomicCpuSet::new(),
            failed: AtomicCpuSet::new(),
        }
    }

    /// Leads a meeting with `others`, each of which `call` interrupts. `patience` gives a waiting step, which tells whether
    /// there is time left.
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
        // Who is here leaves now. A CPU that doesn't would take the next meeting for this one: there is none then.
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

    /// For the handler of NMIs: takes part, if there is a meeting that another CPU leads, and tells whether there was.
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

/// A CPU that hangs in its update holds what nobody can take from it.
pub fn end_without(cpu: CpuId) -> ! {
    panic!("{cpu:?} hangs in an update of its microcode");
}

/// Waits until `done`, or until `has_time` says no.
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

    /// The meeting, whether CPU 1 was interrupted, how many load now, how many have.
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

    /// Whatever the leader's patience, nobody loads beside another CPU, all or none of the others load, both come to
    /// an end, and the next meeting finds nobody here.
    #[test]
    fn one_at_a_time_or_none() {
        let [held, _] = ends_of(true);
        let [_, not] = ends_of(false);
        assert!(held > 10 && not > 10, "{held} held, {not} not");
    }

    /// How often a meeting is held, and not. A patient leader gives way while it waits.
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
