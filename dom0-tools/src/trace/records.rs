//! Reading records: windows of one CPU each, as xentrace writes them, and the records inside.

use alloc::vec::Vec;

use guest_pv_abi::trace::{
    TRACE_EXTRA_MAX, TRACE_EXTRA_SHIFT, TRC_HD_CYCLE_FLAG, TRC_TRACE_CPU_CHANGE,
    TRC_TRACE_WRAP_BUFFER,
};

/// CPUs have numbers below this.
const MAX_CPUS: u32 = 4096;
const WORD: usize = 4;

/// A vCPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Vcpu {
    /// Its domain.
    pub domain: u16,
    /// Its number.
    pub number: u16,
}

/// One record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record {
    /// The CPU that wrote it.
    pub cpu: u32,
    /// `TRC_*`.
    pub event: u32,
    /// When, by the CPU's time-stamp counter; of one without a time, that of the CPU's record before.
    pub tsc: u64,
    words: [u32; TRACE_EXTRA_MAX as usize],
    count: usize,
}

impl Record {
    /// Its data.
    #[must_use]
    pub fn data(&self) -> &[u32] {
        self.words.get(..self.count).unwrap_or_default()
    }

    /// Two words of the data as one number.
    #[must_use]
    pub fn long(&self, at: usize) -> Option<u64> {
        let &[low, high] = self.data().get(at..at + 2)? else {
            return None;
        };
        Some(u64::from(high) << 32 | u64::from(low))
    }
}

/// What was read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Parsed {
    /// The records, each CPU's in their order.
    pub records: Vec<Record>,
    /// The last window is cut short.
    pub is_cut: bool,
    /// There were more records than wanted.
    pub is_full: bool,
}

/// What is wrong with a trace: at which byte, and what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// The byte.
    pub at: usize,
    /// What.
    pub what: &'static str,
}

impl core::fmt::Display for Fault {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "at byte {}: {}", self.at, self.what)
    }
}

/// A record's header.
#[derive(Clone, Copy)]
struct Header(u32);

impl Header {
    const fn event(self) -> u32 {
        self.0 & ((1 << TRACE_EXTRA_SHIFT) - 1)
    }
    const fn extra(self) -> usize {
        (self.0 >> TRACE_EXTRA_SHIFT & TRACE_EXTRA_MAX) as usize
    }
    const fn has_time(self) -> bool {
        self.0 & TRC_HD_CYCLE_FLAG != 0
    }
}

/// What goes before `bytes` of records of a CPU.
#[must_use]
pub fn window(cpu: u32, bytes: u32) -> [u32; 3] {
    [TRC_TRACE_CPU_CHANGE | 2 << TRACE_EXTRA_SHIFT, cpu, bytes]
}

/// Reads a trace; of the records no more than `most`.
///
/// # Errors
/// The first thing that can't be.
pub fn parse(bytes: &[u8], most: usize) -> Result<Parsed, Fault> {
    let (words, rest) = bytes.as_chunks::<WORD>();
    let words: Vec<u32> = words.iter().map(|word| u32::from_le_bytes(*word)).collect();
    let mut parsed = Parsed {
        is_cut: !rest.is_empty(),
        ..Parsed::default()
    };
    let mut last = Vec::new();
    let mut at = 0;
    while let Some(&header) = words.get(at) {
        let fault = |what| Fault {
            at: at * WORD,
            what,
        };
        let header = Header(header);
        if header.event() != TRC_TRACE_CPU_CHANGE || header.extra() != 2 || header.has_time() {
            return Err(fault("no beginning of a CPU's records"));
        }
        let Some(&[cpu, bytes]) = words.get(at + 1..at + 3) else {
            parsed.is_cut = true;
            break;
        };
        if cpu >= MAX_CPUS {
            return Err(fault("a CPU of that number can't be"));
        }
        if !bytes.is_multiple_of(WORD as u32) {
            return Err(fault("records of no whole number of words"));
        }
        let start = at + 3;
        let end = start.saturating_add(bytes as usize / WORD);
        let is_cut = end > words.len();
        parsed.is_cut |= is_cut;
        let inside = words.get(start..end.min(words.len())).unwrap_or_default();
        last.resize(last.len().max(cpu as usize + 1), 0);
        if let Some(tsc) = last.get_mut(cpu as usize) {
            read_window(inside, (cpu, tsc), &mut parsed.records).map_err(|(at, what)| Fault {
                at: (start + at) * WORD,
                what,
            })?;
        }
        if parsed.records.len() > most {
            parsed.records.truncate(most);
            parsed.is_full = true;
            break;
        }
        at = end;
        if is_cut {
            break;
        }
    }
    Ok(parsed)
}

/// Reads the records of a CPU's window; the last may be cut short.
fn read_window(
    words: &[u32],
    (cpu, tsc): (u32, &mut u64),
    records: &mut Vec<Record>,
) -> Result<(), (usize, &'static str)> {
    let mut at = 0;
    while let Some(&header) = words.get(at) {
        let header = Header(header);
        let data = at + if header.has_time() { 3 } else { 1 };
        let Some(extra) = words.get(data..data + header.extra()) else {
            break;
        };
        if let Some(&[low, high]) = words.get(at + 1..at + 3).filter(|_| header.has_time()) {
            // Time never goes back on a CPU.
            *tsc = (*tsc).max(u64::from(high) << 32 | u64::from(low));
        }
        match header.event() {
            0 => return Err((at, "a record of no event")),
            TRC_TRACE_CPU_CHANGE => return Err((at, "a CPU's records inside those of another")),
            TRC_TRACE_WRAP_BUFFER => {}
            event => {
                let mut kept = [0; TRACE_EXTRA_MAX as usize];
                kept.iter_mut()
                    .zip(extra)
                    .for_each(|(to, from)| *to = *from);
                records.push(Record {
                    cpu,
                    event,
                    tsc: *tsc,
                    words: kept,
                    count: extra.len(),
                });
            }
        }
        at = data + extra.len();
    }
    Ok(())
}
