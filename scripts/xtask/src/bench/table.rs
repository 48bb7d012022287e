//! The table that `scripts/bench` prints.

/// Rows of figures, ours and the peer's.
#[derive(Default)]
pub struct Table {
    rows: Vec<(String, u64, Option<u64>)>,
}

impl Table {
    /// Adds a row.
    pub fn row(&mut self, name: &str, ours: u64, theirs: Option<u64>) {
        self.rows.push((name.to_owned(), ours, theirs));
    }

    /// Prints it.
    pub fn print(&self) {
        println!("executed instructions; ratio below 1: xenlike needs fewer");
        println!(
            "{:<38} {:>13} {:>13} {:>6}",
            "", "xenlike", "Xen 4.20", "ratio"
        );
        for (name, ours, theirs) in &self.rows {
            let (peer, ratio) = theirs.map_or((String::new(), String::new()), |theirs| {
                (grouped(theirs), format!("{:.2}", quotient(*ours, theirs)))
            });
            println!("{name:<38} {:>13} {peer:>13} {ratio:>6}", grouped(*ours));
        }
    }
}

/// A quotient to show.
#[expect(clippy::cast_precision_loss, reason = "two digits are shown")]
pub fn quotient(dividend: u64, divisor: u64) -> f64 {
    dividend as f64 / divisor.max(1) as f64
}

/// Digits in groups of three.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::grouped;

    #[test]
    fn digits_are_grouped_from_the_right() {
        assert_eq!(grouped(7), "7");
        assert_eq!(grouped(626_700), "626 700");
        assert_eq!(grouped(1_000_000), "1 000 000");
    }
}
