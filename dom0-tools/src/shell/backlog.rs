//! A domain's recent output, and how much of it has been shown.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

/// The most recent bytes of an unbounded output.
#[derive(Debug, Default)]
pub struct Backlog {
    kept: VecDeque<u8>,
    /// Number of bytes at the end of `kept` that have not been shown.
    unseen: usize,
    /// Whether bytes were dropped that had not been shown.
    lost: bool,
}

impl Backlog {
    /// Maximum number of bytes kept for a domain.
    pub const LIMIT: usize = 64 << 10;

    /// Adds new output of the domain.
    pub fn add(&mut self, bytes: &[u8]) {
        self.kept.extend(bytes);
        self.unseen += bytes.len();
        let excess = self.kept.len().saturating_sub(Self::LIMIT);
        self.kept.drain(..excess);
        if self.unseen > self.kept.len() {
            self.unseen = self.kept.len();
            self.lost = true;
        }
    }

    /// Returns the output that has not been shown, and marks it as shown.
    pub fn take_unseen(&mut self) -> Vec<u8> {
        let mut text = Vec::new();
        if core::mem::take(&mut self.lost) {
            text.extend_from_slice(b"[older output was dropped]\r\n");
        }
        text.extend(self.kept.range(self.kept.len() - self.unseen..));
        self.unseen = 0;
        text
    }

    /// All bytes that are kept.
    #[must_use]
    pub fn all(&self) -> Vec<u8> {
        self.kept.iter().copied().collect()
    }

    /// Whether `text` occurs in the kept output.
    #[must_use]
    pub fn contains(&self, text: &[u8]) -> bool {
        let (front, back) = self.kept.as_slices();
        let found = |bytes: &[u8]| {
            bytes
                .windows(text.len().max(1))
                .any(|window| window == text)
        };
        if back.is_empty() {
            found(front)
        } else {
            found(&self.all())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn keeps_the_newest(pieces in proptest::collection::vec(0_usize..30_000, 1..12), look in 0_usize..12) {
            let (mut log, mut all, mut seen) = (Backlog::default(), Vec::new(), 0);
            for (number, piece) in pieces.iter().enumerate() {
                let bytes: Vec<u8> = (0..*piece).map(|n| (n + number) as u8).collect();
                log.add(&bytes);
                all.extend_from_slice(&bytes);
                if number == look {
                    log.take_unseen();
                    seen = all.len();
                }
            }
            let start = all.len().saturating_sub(Backlog::LIMIT);
            prop_assert_eq!(&log.all()[..], &all[start..]);
            let unseen = log.take_unseen();
            prop_assert!(unseen.ends_with(&all[start.max(seen)..]));
            prop_assert_eq!(unseen.starts_with(b"[older"), start > seen);
        }
    }

    #[test]
    fn finds_words() {
        let mut log = Backlog::default();
        log.add(&[b'x'; Backlog::LIMIT - 3]);
        log.add(b"hello");
        assert!(log.contains(b"xhello") && !log.contains(b"help"));
    }
}
