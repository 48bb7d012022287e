//! Parses traces: windows of one CPU each, as xentrace writes them, and the records inside.

use alloc::vec::Vec;

use guest_pv_abi::trace::{
    TRACE_EXTRA_MAX, TRACE_EXTRA_SHIFT, TRC_HD_CYCLE_FLAG, TRC_TRACE_CPU_CHANGE,
    TRC_TRACE_WRAP_BUFFER,
};

/// Upper limit of CPU numbers in a trace.
const MAX_CPUS: u32 = 4096;
const WORD: usize = 4;

/// A vCPU, by domain and number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Vcpu {
    /// Id of its domain.
    pub domain: u16,
    /// Number of the vCPU.
    pub number: u16,
}

/// A trace record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record {
    /// The CPU that wrote the record.
    pub cpu: u32,
    /// The event, one of `TRC_*`.
    pub event: u32,
    /// Time-stamp counter of the CPU. A record without a time has that of the CPU's previous record.
    pub tsc: u64,
    words: [u32; TRACE_EXTRA_MAX as usize],
    count: usize,
}

impl Record {
    /// The data words of the record.
    #[must_use]
    pub fn data(&self) -> &[u32] {
        self.words.get(..self.count).unwrap_or_default()
    }

    /// Two data words, combined to one number.
    #[must_use]
    pub fn long(&self, at: usize) -> Option<u64> {
        let &[low, high] = self.data().get(at..at + 2)? else {
            return None;
        };
        Some(u64::from(high) << 32 | u64::from(low))
    }
}

/// The result of parsing a trace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Parsed {
    /// The records; those of each CPU are in order.
    pub records: Vec<Record>,
    /// Whether the last window is incomplete.
    pub is_cut: bool,
    /// Whether there were more records than wanted.
    pub is_full: bool,
}

/// An error in a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// Offset of the error in bytes.
    pub at: usize,
    /// A message about the error.
    pub what: &'static str,
}

impl core::fmt::Display for Fault {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "at byte {}: {}", self.at, self.what)
    }
}

/// The header word of a record.
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

/// The header of a window with `bytes` bytes of records of a CPU.
#[must_use]
pub fn window(cpu: u32, bytes: u32) -> [u32; 3] {
    [TRC_TRACE_CPU_CHANGE | 2 << TRACE_EXTRA_SHIFT, cpu, bytes]
}

/// Parses a trace, up to `most` records.
///
/// # Errors
/// The first error in the trace.
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

/// Parses the records of a CPU's window. The last record may be incomplete.
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
            // Time never goes backwards on a CPU.
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
