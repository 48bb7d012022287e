//! Sets of physical CPUs in the syntax of `cpus=`: `"0-3,5,^1"`, `"all"`, `"node:0"` (xl.cfg(5), "cpus="). All CPUs
//! are in node 0, the only one that the hypervisor reports.

use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;

use serde::{Deserialize, Serialize};

/// The largest CPU number that a configuration may use.
pub const MAX_CPU: u32 = 4095;

/// A set of physical CPU numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpuSet(BTreeSet<u32>);

impl CpuSet {
    /// Reads a list of numbers, ranges and exclusions. `all` and the empty text mean every CPU and give `None`.
    ///
    /// # Errors
    /// A message that names the part that isn't a CPU.
    pub fn parse(text: &str) -> Result<Option<CpuSet>, String> {
        let text = text.trim();
        if matches!(
            text,
            "" | "all" | "node:0" | "nodes:0" | "node:all" | "nodes:all"
        ) {
            return Ok(None);
        }
        let mut set = BTreeSet::new();
        if text.starts_with('^') || text.starts_with("all,") {
            set.extend(0..=MAX_CPU);
        }
        for part in text.split(',').map(str::trim) {
            let (exclude, range) = match part.strip_prefix('^') {
                Some(range) => (true, range),
                None => (false, part),
            };
            let nodes = range.strip_prefix("nodes:").or(range.strip_prefix("node:"));
            let (first, last) = match range.split_once('-') {
                _ if range == "all" => (0, MAX_CPU),
                _ if nodes.is_some_and(|nodes| matches!(nodes, "all" | "0" | "0-0")) => {
                    (0, MAX_CPU)
                }
                _ if nodes.is_some() => {
                    return Err(alloc::format!("{part}: there is no node but 0"));
                }
                Some((first, last)) => (number(first, part)?, number(last, part)?),
                None => (number(range, part)?, number(range, part)?),
            };
            if first > last {
                return Err(alloc::format!("CPU range {part} runs backwards"));
            }
            for cpu in first..=last {
                if exclude {
                    set.remove(&cpu);
                } else {
                    set.insert(cpu);
                }
            }
        }
        if set.is_empty() {
            return Err(alloc::format!("CPU list {text:?} leaves no CPU"));
        }
        Ok(Some(CpuSet(set)))
    }

    /// The set that a bitmap describes; bit 0 of byte 0 is CPU 0.
    #[must_use]
    pub fn from_bitmap(bitmap: &[u8]) -> CpuSet {
        let has = |cpu: &usize| bitmap.get(cpu / 8).is_some_and(|b| b >> (cpu % 8) & 1 != 0);
        CpuSet(
            (0..bitmap.len() * 8)
                .filter(has)
                .map(|cpu| cpu as u32)
                .collect(),
        )
    }

    /// The set as a bitmap for `cpus` CPUs; bit 0 of byte 0 is CPU 0.
    #[must_use]
    pub fn bitmap(&self, cpus: u32) -> Vec<u8> {
        let mut bitmap = vec![0u8; cpus.div_ceil(8) as usize];
        for cpu in self.0.range(..cpus) {
            if let Some(byte) = bitmap.get_mut((cpu / 8) as usize) {
                *byte |= 1 << (cpu % 8);
            }
        }
        bitmap
    }

    /// The CPU numbers in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.0.iter().copied()
    }
}

fn number(text: &str, part: &str) -> Result<u32, String> {
    match text.trim().parse() {
        Ok(cpu) if cpu <= MAX_CPU => Ok(cpu),
        Ok(_) => Err(alloc::format!("CPU {part} is above {MAX_CPU}")),
        Err(_) => Err(alloc::format!("{part:?} is not a CPU number")),
    }
}

impl fmt::Display for CpuSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut cpus = self.0.iter().copied().peekable();
        let mut separator = "";
        while let Some(first) = cpus.next() {
            let mut last = first;
            while let Some(next) = cpus.next_if(|&next| next == last + 1) {
                last = next;
            }
            match last - first {
                0 => write!(f, "{separator}{first}")?,
                1 => write!(f, "{separator}{first},{last}")?,
                _ => write!(f, "{separator}{first}-{last}")?,
            }
            separator = ",";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn reads_and_prints() {
        let set = CpuSet::parse("0-3, 7,^1,8-9").unwrap().unwrap();
        assert_eq!(set.to_string(), "0,2,3,7-9");
        assert_eq!(set.bitmap(10), [0b1000_1101, 0b11]);
        assert_eq!(CpuSet::from_bitmap(&set.bitmap(16)), set);
        assert_eq!(CpuSet::parse("all").unwrap(), None);
        assert_eq!(CpuSet::parse("node:0").unwrap(), None);
        let without = CpuSet::parse("nodes:0,^1").unwrap().unwrap();
        assert_eq!(without.bitmap(4), [0b1101]);
        assert_eq!(CpuSet::parse("^0").unwrap().unwrap().bitmap(4), [0b1110]);
    }

    #[test]
    fn refuses_in_words() {
        for (text, part) in [
            ("x", "not a CPU"),
            ("3-1", "backwards"),
            ("1,^1", "no CPU"),
            ("5000", "above"),
            ("node:1", "no node but 0"),
        ] {
            assert!(CpuSet::parse(text).unwrap_err().contains(part), "{text}");
        }
    }
}
