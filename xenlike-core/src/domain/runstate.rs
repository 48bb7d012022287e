//! Accounting of a vCPU's time (vcpu.h, `struct vcpu_runstate_info`).

use guest_pv_abi::trace::TRC_SCHED_RUNSTATE_CHANGE;

use crate::trace;

/// The state of a vCPU, by the public numbers of vcpu.h.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Activity {
    /// RUNSTATE_running: on a CPU.
    Running = 0,
    /// RUNSTATE_runnable: it waits for a CPU.
    Runnable = 1,
    /// RUNSTATE_blocked: waiting for an event.
    Blocked = 2,
    /// RUNSTATE_offline: it is paused or down.
    Offline = 3,
}

/// The state of a vCPU, since when it has it, and the time in each state.
#[derive(Clone, Copy, Debug)]
pub struct Runstate {
    /// The present state.
    pub activity: Activity,
    /// The system time in ns when it was entered.
    pub since_ns: u64,
    /// The time in each state in ns, without the present one.
    pub time_ns: [u64; 4],
}

impl Runstate {
    /// The time that it has run, in ns.
    pub fn ran_ns(&self) -> u64 {
        let [running, ..] = self.time_ns;
        running
    }

    /// The accounting of a new vCPU, which is offline since `now_ns`.
    pub const fn new(now_ns: u64) -> Self {
        Self {
            activity: Activity::Offline,
            since_ns: now_ns,
            time_ns: [0; 4],
        }
    }

    /// Enters the state `next` at time `now_ns`.
    pub fn change(&mut self, next: Activity, now_ns: u64) {
        *self = self.settled(now_ns);
        self.activity = next;
    }

    /// The same, with the time in the present state up to `now_ns` added.
    pub fn settled(&self, now_ns: u64) -> Self {
        let mut settled = *self;
        let stay = now_ns.saturating_sub(self.since_ns);
        if let Some(sum) = settled.time_ns.get_mut(self.activity as usize) {
            *sum = sum.saturating_add(stay);
        }
        settled.since_ns = self.since_ns.max(now_ns);
        settled
    }
}

/// Records that `vcpu` (see [`trace::word_of`]) goes from `old` to `new`, which are both in the number of the event.
pub fn trace(vcpu: u32, old: Activity, new: Activity) {
    let event = TRC_SCHED_RUNSTATE_CHANGE | (old as u32) << 8 | (new as u32) << 4;
    trace::record(event, &[vcpu]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_each_stay_once() {
        let mut r = Runstate::new(100);
        r.change(Activity::Runnable, 110);
        r.change(Activity::Running, 115);
        assert_eq!(r.settled(120).time_ns, [5, 5, 0, 10]);
        assert_eq!(r.time_ns, [0, 5, 0, 10]);
    }

    #[test]
    fn time_never_goes_back() {
        let mut r = Runstate::new(100);
        r.change(Activity::Running, 90);
        assert_eq!(r.since_ns, 100);
        assert_eq!(r.time_ns, [0; 4]);
    }
}
