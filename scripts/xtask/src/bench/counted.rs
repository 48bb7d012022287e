//! Parses the output of QEMU's counting plug-in.

use std::collections::BTreeMap;

/// Counts of instructions by address.
pub type Counts = BTreeMap<u64, u64>;

/// Parses lines `count ADDRESS NUMBER`.
pub fn counts(text: &str) -> Counts {
    let lines = text.lines().filter_map(|line| {
        let (address, count) = line.strip_prefix("count 0x")?.split_once(' ')?;
        Some((u64::from_str_radix(address, 16).ok()?, count.parse().ok()?))
    });
    lines.collect()
}

/// The numbers of the lines `mark NAME NUMBER`, in order.
pub fn marks(text: &str, name: &str) -> Vec<u64> {
    let lines = text.lines().filter_map(|line| {
        let (found, count) = line.strip_prefix("mark ")?.split_once(' ')?;
        (found == name).then_some(count.parse().ok()?)
    });
    lines.collect()
}

/// A mark, with the counts of the shares at that time.
#[derive(Debug, Default, PartialEq)]
pub struct Event {
    /// Name of the mark.
    pub name: String,
    /// Number of all instructions.
    pub total: u64,
    shares: BTreeMap<String, u64>,
}

impl Event {
    /// Number of instructions of a share.
    pub fn share(&self, name: &str) -> u64 {
        self.shares.get(name).copied().unwrap_or_default()
    }
}

/// Parses lines `mark NAME NUMBER`, each followed by lines `share MARK NAME NUMBER`, in order.
pub fn events(text: &str) -> Vec<Event> {
    let mut events: Vec<Event> = Vec::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        match (&words[..], events.last_mut()) {
            (["mark", name, count], _) => events.push(Event {
                name: (*name).to_owned(),
                total: count.parse().unwrap_or_default(),
                shares: BTreeMap::new(),
            }),
            (["share", _, name, count], Some(event)) => {
                let count = count.parse().unwrap_or_default();
                event.shares.insert((*name).to_owned(), count);
            }
            _ => {}
        }
    }
    events
}

#[cfg(test)]
mod tests {
    use super::{counts, marks};

    const TEXT: &str = "mark entry 5\ncount 0xffff82d040000000 12\nmark entry 9\nmark x y\n";

    #[test]
    fn counts_and_marks_are_told_apart() {
        assert_eq!(
            counts(TEXT).into_iter().collect::<Vec<_>>(),
            [(0xffff_82d0_4000_0000, 12)]
        );
        assert_eq!(marks(TEXT, "entry"), [5, 9]);
        assert!(marks(TEXT, "x").is_empty());
    }
}
