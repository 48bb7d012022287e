//! Hardware errors that were corrected, or that date from before the boot. Each CPU polls its banks for them.
//! They are logged on the console and kept for domain 0's daemon to fetch (VIRQ_MCA). Errors that can't be
//! corrected end the machine in `entry`, without taking a lock.

use arrayvec::ArrayVec;
use guest_pv_abi::mca::VIRQ_MCA;
use log::warn;

use crate::arch::machine_check::{self, Bank};
use crate::arch::{percpu, time};
use crate::domain::notify;
use crate::kit::atomic::{AtomicBool, Ordering};
use crate::kit::cell::PerCpu;
use crate::kit::{CpuId, Lock, MAX_CPUS, Rank};

/// How often a CPU polls its banks, in ns, and how soon again after it has found an error.
const PERIOD_NS: u64 = 15_000_000_000;
const SOON_NS: u64 = 1_000_000_000;
/// The maximum number of errors that wait for domain 0. Further errors are only logged.
const MAX_WAITING: usize = 32;

/// An error, and where and when it was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// The CPU that found it.
    pub cpu: CpuId,
    /// MCG_STATUS of that CPU.
    pub global_status: u64,
    /// The TSC of that CPU.
    pub tsc: u64,
    /// Whether the error was there when the CPU started, so that it dates from before the boot.
    pub is_old: bool,
    /// The contents of the bank.
    pub bank: Bank,
}

struct Waiting {
    id: u64,
    record: Record,
    /// Domain 0 has fetched it, and has yet to acknowledge it.
    is_fetched: bool,
}

/// The errors that domain 0 has not acknowledged, the oldest first.
struct Log {
    waiting: ArrayVec<Waiting, MAX_WAITING>,
    last_id: u64,
}

static LOG: Lock<Log> = Lock::new(
    Rank::MachineChecks,
    Log {
        waiting: ArrayVec::new_const(),
        last_id: 0,
    },
);

impl Log {
    fn add(&mut self, record: Record) {
        self.last_id = self.last_id.wrapping_add(1);
        let waiting = Waiting {
            id: self.last_id,
            record,
            is_fetched: false,
        };
        // A full log keeps its oldest errors, because the first of many errors is the most informative.
        let _ = self.waiting.try_push(waiting);
    }
    fn fetch(&mut self) -> Option<(u64, Record)> {
        let oldest = self
            .waiting
            .iter_mut()
            .find(|waiting| !waiting.is_fetched)?;
        oldest.is_fetched = true;
        Some((oldest.id, oldest.record))
    }
    fn acknowledge(&mut self, id: u64) {
        self.waiting
            .retain(|waiting| waiting.id != id || !waiting.is_fetched);
    }
}

/// Fetches the oldest error that was not fetched yet, with the number by which to acknowledge it.
pub fn fetch() -> Option<(u64, Record)> {
    LOG.lock().fetch()
}

/// Removes an error that was fetched.
pub fn acknowledge(id: u64) {
    LOG.lock().acknowledge(id);
}

/// Polls this CPU's banks. Returns the time until the next poll, in ns.
pub fn look() -> u64 {
    static HAS_LOOKED: PerCpu<AtomicBool> =
        PerCpu::new([const { AtomicBool::new(false) }; MAX_CPUS]);
    let cpu = percpu::this_cpu();
    let is_old = !HAS_LOOKED.of(cpu).swap(true, Ordering::Relaxed);
    let found = if is_old {
        take(cpu, is_old, machine_check::banks())
    } else {
        take(cpu, is_old, machine_check::silent_banks())
    };
    match found {
        0 => PERIOD_NS,
        _ => SOON_NS,
    }
}

fn take(cpu: CpuId, is_old: bool, banks: impl Iterator<Item = Bank>) -> usize {
    let mut found = 0_usize;
    for bank in banks {
        bank.clear();
        found = found.saturating_add(1);
        let record = Record {
            cpu,
            global_status: machine_check::global_status(),
            tsc: time::tsc(),
            is_old,
            bank,
        };
        LOG.lock().add(record);
        let kind = match (is_old, bank.is_uncorrected()) {
            (true, _) => "from before the boot",
            (false, true) => "uncorrected, not consumed",
            (false, false) => "corrected",
        };
        warn!("hardware error on {cpu:?} ({kind}): {bank}");
    }
    if found != 0 {
        notify::global_virq(VIRQ_MCA);
    }
    found
}

/// Simulates an error on CPU 0.
#[cfg(test)]
pub fn pretend(bank: Bank) {
    take(CpuId(0), false, core::iter::once(bank));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(number: u32) -> Record {
        Record {
            cpu: CpuId(0),
            global_status: 0,
            tsc: 0,
            is_old: false,
            bank: Bank {
                number,
                ..Bank::default()
            },
        }
    }

    #[test]
    fn each_error_is_fetched_once_and_kept_until_acknowledged() {
        let mut log = Log {
            waiting: ArrayVec::new(),
            last_id: 0,
        };
        assert_eq!(log.fetch(), None);
        for number in 0..MAX_WAITING as u32 + 5 {
            log.add(record(number));
        }
        let (first, got) = log.fetch().unwrap();
        assert_eq!(got.bank.number, 0);
        let (second, got) = log.fetch().unwrap();
        assert_eq!(got.bank.number, 1);
        log.add(record(100));
        assert_eq!(log.waiting.len(), MAX_WAITING);
        log.acknowledge(second);
        log.acknowledge(second);
        // An error that was not fetched can't be acknowledged.
        log.acknowledge(first + 2);
        assert_eq!(log.waiting.len(), MAX_WAITING - 1);
        log.add(record(101));
        let numbers = std::iter::from_fn(|| log.fetch()).map(|(_, r)| r.bank.number);
        let last = numbers.last();
        assert_eq!(last, Some(101));
    }
}
