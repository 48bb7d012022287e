//! Guesses which known word a misspelt one stands for.

use alloc::vec::Vec;

/// The nearest of `known`, if at most a third of its letters are wrong, or one letter of a short name.
pub fn of<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // No command is longer, and the time grows with the product of both lengths.
    if word.len() > 32 {
        return None;
    }
    let rated = known.map(|name| (distance(word, name), name));
    let (least, name) = rated.min_by_key(|(distance, _)| *distance)?;
    (least <= (name.len() / 3).max(1)).then_some(name)
}

/// Number of letters to insert, delete, replace or swap with their neighbour (optimal string alignment).
fn distance(from: &str, to: &str) -> usize {
    let (from, to): (Vec<char>, Vec<char>) = (from.chars().collect(), to.chars().collect());
    let mut rows: Vec<Vec<usize>> = Vec::from([(0..=to.len()).collect()]);
    let cell = |rows: &[Vec<usize>], row: usize, column: usize| {
        let row = rows.get(row).and_then(|row| row.get(column));
        row.copied().unwrap_or(usize::MAX / 2)
    };
    for (row, a) in from.iter().enumerate() {
        let mut next = Vec::from([row + 1]);
        for (column, b) in to.iter().enumerate() {
            let kept = cell(&rows, row, column) + usize::from(a != b);
            let inserted = next.last().map_or(usize::MAX, |cost| cost + 1);
            let deleted = cell(&rows, row, column + 1) + 1;
            let earlier =
                |word: &[char], at: usize| at.checked_sub(1).and_then(|at| word.get(at).copied());
            let swaps = earlier(&from, row) == Some(*b) && earlier(&to, column) == Some(*a);
            let swapped = match (row.checked_sub(1), column.checked_sub(1)) {
                (Some(row), Some(column)) if swaps => cell(&rows, row, column) + 1,
                _ => usize::MAX,
            };
            next.push(kept.min(inserted).min(deleted).min(swapped));
        }
        rows.push(next);
    }
    cell(&rows, from.len(), to.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_of_the_finger() {
        let known = ["list", "create", "destroy", "vcpu-list", "dmesg"];
        let nearest = |word| of(word, known.into_iter());
        assert_eq!(nearest("lsit"), Some("list"));
        assert_eq!(nearest("crate"), Some("create"));
        assert_eq!(nearest("vcpulist"), Some("vcpu-list"));
        assert_eq!(nearest("demsg"), Some("dmesg"));
        assert_eq!(nearest("frobnicate"), None);
        assert_eq!(nearest(""), None);
    }

    #[test]
    fn distances() {
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("abc", "abc"), 0);
        assert_eq!(distance("acb", "abc"), 1);
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
