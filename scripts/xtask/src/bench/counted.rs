//! What QEMU's counting plug-in writes.

use std::collections::BTreeMap;

/// Counts by address.
pub type Counts = BTreeMap<u64, u64>;

/// Lines `count ADDRESS NUMBER`.
pub fn counts(text: &str) -> Counts {
    let lines = text.lines().filter_map(|line| {
        let (address, count) = line.strip_prefix("count 0x")?.split_once(' ')?;
        Some((u64::from_str_radix(address, 16).ok()?, count.parse().ok()?))
    });
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::counts;

    const TEXT: &str = "count 0xffff82d040000000 12\nmark entry 9\n";

    #[test]
    fn counts_are_found() {
        assert_eq!(
            counts(TEXT).into_iter().collect::<Vec<_>>(),
            [(0xffff_82d0_4000_0000, 12)]
        );
    }
}
