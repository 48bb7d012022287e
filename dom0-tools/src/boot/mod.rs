//! What the boot domain finds: modules, identified by their command lines, and the options about domain 0 on
//! the hypervisor's command line.

pub mod archive;

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// The purpose of a boot module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose<'a> {
    /// A file for the embedded shell, with its name.
    File(&'a str),
    /// The boot manifest (see `manifest`).
    Manifest,
    /// The kernel of domain 0, with its command line.
    Kernel(&'a str),
    /// The initrd of domain 0.
    Initrd,
    /// A further module that nothing uses.
    Unused,
}

/// Determines the purposes of modules from their command lines, in order. `file=NAME` is a file for the shell,
/// `manifest` the manifest; of the others, the first is domain 0's kernel and the second its initrd.
#[must_use]
pub fn purposes<'a>(command_lines: &[&'a str]) -> Vec<Purpose<'a>> {
    let (mut kernel, mut initrd) = (false, false);
    let purpose = |line: &&'a str| {
        let line = line.trim();
        let first = line.split_ascii_whitespace().next().unwrap_or_default();
        if let Some(name) = first.strip_prefix("file=") {
            Purpose::File(name)
        } else if first == "manifest" {
            Purpose::Manifest
        } else if !core::mem::replace(&mut kernel, true) {
            Purpose::Kernel(line)
        } else if !core::mem::replace(&mut initrd, true) {
            Purpose::Initrd
        } else {
            Purpose::Unused
        }
    };
    command_lines.iter().map(purpose).collect()
}

/// Messages about modules that won't be used, with the reason, so that no module from a boot
/// menu is ignored silently.
#[must_use]
pub fn unused_modules(purposes: &[Purpose]) -> Vec<String> {
    let first_with = |purpose: &Purpose| purposes.iter().position(|other| other == purpose);
    let fault = |(at, purpose): (usize, &Purpose)| match purpose {
        Purpose::File("") => Some(format!("module {at}: `file=` lacks a name, ignored")),
        Purpose::File(name) => first_with(purpose)
            .filter(|&first| first < at)
            .map(|first| format!("module {at}: file={name} is module {first} already, ignored")),
        Purpose::Manifest => first_with(purpose)
            .filter(|&first| first < at)
            .map(|first| format!("module {at}: the manifest is module {first} already, ignored")),
        Purpose::Unused => Some(format!(
            "module {at}: there is a kernel and an initrd already, ignored"
        )),
        Purpose::Kernel(_) | Purpose::Initrd => None,
    };
    purposes.iter().enumerate().filter_map(fault).collect()
}

/// Options about domain 0, spelt as on Xen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dom0Options {
    /// `dom0_mem=SIZE`: memory at the start.
    memory: Option<Amount>,
    /// `dom0_mem=min:SIZE`: the least memory at the start.
    least: Option<Amount>,
    /// `dom0_mem=max:SIZE`: the maximum memory.
    most: Option<Amount>,
    /// `dom0_max_vcpus=`: the maximum number of vCPUs.
    pub max_vcpus: Option<u32>,
    /// `exec=COMMAND;COMMAND`: commands that the embedded shell runs before it powers the machine off.
    pub exec: Option<String>,
}

/// A size from the command line; absolute sizes are in pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Amount {
    Pages(u64),
    /// All memory except this number of pages.
    AllBut(u64),
    Percent(u64),
}

impl Amount {
    fn parse(text: &str) -> Option<Amount> {
        if let Some(percent) = text.strip_suffix('%') {
            return percent
                .parse()
                .ok()
                .filter(|&percent| percent <= 100)
                .map(Amount::Percent);
        }
        let (rest, less) = match text.strip_prefix('-') {
            Some(rest) => (rest, true),
            None => (text, false),
        };
        // A size without a unit is in KiB.
        let unit = rest.chars().last()?.to_ascii_uppercase();
        let shift = ['B', 'K', 'M', 'G', 'T']
            .iter()
            .position(|&known| known == unit);
        let digits = if shift.is_some() {
            rest.get(..rest.len() - 1)?
        } else {
            rest
        };
        let bytes = digits
            .parse::<u64>()
            .ok()?
            .checked_mul(1 << (10 * shift.unwrap_or(1)))?;
        let pages = bytes.div_ceil(4096);
        Some(if less {
            Amount::AllBut(pages)
        } else {
            Amount::Pages(pages)
        })
    }

    fn pages(self, free: u64) -> u64 {
        match self {
            Amount::Pages(pages) => pages,
            Amount::AllBut(pages) => free.saturating_sub(pages),
            Amount::Percent(percent) => free / 100 * percent,
        }
    }
}

/// Splits a command line at blanks outside of double quotes, and removes the quotes.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted) = (Vec::new(), String::new(), false);
    for c in line.chars() {
        match c {
            '"' => quoted = !quoted,
            c if c.is_whitespace() && !quoted => {
                if !word.is_empty() {
                    words.push(core::mem::take(&mut word));
                }
            }
            c => word.push(c),
        }
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

impl Dom0Options {
    /// Reads the hypervisor's command line. The second value lists what can't be read.
    #[must_use]
    pub fn parse(command_line: &str) -> (Dom0Options, Vec<String>) {
        let mut options = Dom0Options::default();
        let mut faults = Vec::new();
        for word in words(command_line) {
            let Some((key, value)) = word.split_once('=') else {
                continue;
            };
            let mut bad = Vec::new();
            match key {
                "dom0_mem" => bad = options.memory(value),
                "dom0_max_vcpus" if !options.vcpus(value) => bad.push(value),
                "exec" => options.exec = Some(value.into()),
                _ => {}
            }
            let named = |part| format!("{key}={part}: can't be read, ignored");
            faults.extend(bad.into_iter().map(named));
        }
        (options, faults)
    }

    /// Applies the readable parts of a `dom0_mem=` value and returns the others. A later option overrides
    /// only what it names.
    fn memory<'a>(&mut self, value: &'a str) -> Vec<&'a str> {
        let mut bad = Vec::new();
        for part in value.split(',') {
            let (place, size) = match (part.strip_prefix("min:"), part.strip_prefix("max:")) {
                (Some(size), _) => (&mut self.least, size),
                (_, Some(size)) => (&mut self.most, size),
                _ => (&mut self.memory, part),
            };
            match Amount::parse(size) {
                Some(amount) => *place = Some(amount),
                None => bad.push(part),
            }
        }
        bad
    }

    /// A value `N` or `MIN-MAX`; of the latter, the maximum is used.
    fn vcpus(&mut self, value: &str) -> bool {
        let last = value.rsplit('-').next().unwrap_or(value);
        let vcpus = last.parse().ok().filter(|&vcpus| vcpus > 0);
        self.max_vcpus = vcpus.or(self.max_vcpus);
        vcpus.is_some()
    }

    /// Number of pages with which domain 0 starts, and its maximum, if `free` pages are free.
    #[must_use]
    pub fn pages(&self, free: u64) -> (u64, u64) {
        // Xen's default for the memory that it keeps: a sixteenth, at most 128 MiB.
        let usual = free - (free / 16).min(128 << 8);
        let start = self.memory.map_or(usual, |amount| amount.pages(free));
        let least = self.least.map_or(0, |amount| amount.pages(free));
        let most = self.most.map_or(u64::MAX, |amount| amount.pages(free));
        let start = start.max(least).min(most).min(free);
        // Without a maximum, the domain may grow to all memory.
        (start, most.max(start))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 256;

    #[test]
    fn modules_have_purposes() {
        let lines = [
            "file=hello.cfg",
            "placeholder root=/dev/sda1 ro",
            "manifest",
            "",
            "file=a b",
            "more",
        ];
        let wanted = [
            Purpose::File("hello.cfg"),
            Purpose::Kernel("placeholder root=/dev/sda1 ro"),
            Purpose::Manifest,
            Purpose::Initrd,
            Purpose::File("a"),
            Purpose::Unused,
        ];
        assert_eq!(purposes(&lines), wanted);
    }

    #[test]
    fn modules_without_use_are_named() {
        let lines = [
            "file=a", "file=", "kernel", "file=a x", "manifest", "initrd", "manifest", "more",
        ];
        let wanted = [
            "module 1: `file=` lacks a name, ignored",
            "module 3: file=a is module 0 already, ignored",
            "module 6: the manifest is module 4 already, ignored",
            "module 7: there is a kernel and an initrd already, ignored",
        ];
        assert_eq!(unused_modules(&purposes(&lines)), wanted);
        assert!(unused_modules(&purposes(&lines[..1])).is_empty());
    }

    #[test]
    fn sizes_are_xen_s() {
        let pages = |line: &str| Dom0Options::parse(line).0.pages(4096 * MIB);
        assert_eq!(pages("dom0_mem=512M"), (512 * MIB, u64::MAX));
        assert_eq!(pages("dom0_mem=524288"), (512 * MIB, u64::MAX));
        assert_eq!(pages("dom0_mem=1G,max:2g"), (1024 * MIB, 2048 * MIB));
        assert_eq!(pages("dom0_mem=max:512M"), (512 * MIB, 512 * MIB));
        assert_eq!(pages("dom0_mem=-1G").0, 3072 * MIB);
        assert_eq!(pages("dom0_mem=25%").0, 4096 * MIB / 100 * 25);
        assert_eq!(pages("dom0_mem=64G").0, 4096 * MIB);
        assert_eq!(pages("").0, (4096 - 128) * MIB);
    }

    #[test]
    fn faults_are_named() {
        let (options, faults) =
            Dom0Options::parse("console=com1 dom0_mem=lots dom0_max_vcpus=0 exec=\"list; info\"");
        assert_eq!(
            faults,
            [
                "dom0_mem=lots: can't be read, ignored",
                "dom0_max_vcpus=0: can't be read, ignored"
            ]
        );
        assert_eq!(options.exec.as_deref(), Some("list; info"));
        // Valid parts are applied in spite of bad ones, and two options combine.
        let line = "dom0_mem=512M,max=512M dom0_mem=max:1G";
        let (options, faults) = Dom0Options::parse(line);
        assert_eq!(faults, ["dom0_mem=max=512M: can't be read, ignored"]);
        assert_eq!(options.pages(4096 * MIB), (512 * MIB, 1024 * MIB));
        assert_eq!(
            Dom0Options::parse("dom0_max_vcpus=1-4").0.max_vcpus,
            Some(4)
        );
    }
}
