//! The output of `uptime`, as text in xl's format and as JSON.

use alloc::format;
use alloc::string::{String, ToString};

use serde::Serialize;

use super::{Align, Table};
use crate::hyper::DomId;

/// A domain's row in `uptime`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UptimeRow {
    name: String,
    domid: u16,
    uptime_seconds: Option<u64>,
}

impl UptimeRow {
    /// A domain that has run for `seconds`, if known.
    #[must_use]
    pub fn new(name: String, id: DomId, seconds: Option<u64>) -> Self {
        Self {
            name,
            domid: id.0,
            uptime_seconds: seconds,
        }
    }
}

/// Formats the rows of `uptime` as text.
#[must_use]
pub fn uptime_table(rows: &[UptimeRow]) -> String {
    let mut table = Table::new(&[
        ("Name", Align::Left),
        ("ID", Align::Right),
        ("Uptime", Align::Right),
    ]);
    for row in rows {
        let uptime = row.uptime_seconds.map_or("unknown".to_string(), duration);
        table.row([row.name.clone(), row.domid.to_string(), uptime]);
    }
    table.print()
}

fn duration(all: u64) -> String {
    let (days, hours, minutes, seconds) = (all / 86_400, all / 3600 % 24, all / 60 % 60, all % 60);
    let days = match days {
        0 => String::new(),
        1 => "1 day, ".to_string(),
        days => format!("{days} days, "),
    };
    format!("{days}{hours:2}:{minutes:02}:{seconds:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_and_the_unknown() {
        let row = |seconds| UptimeRow::new("a".to_string(), DomId(1), seconds);
        assert_eq!(
            uptime_table(&[row(Some(3661)), row(Some(90_061)), row(None)]),
            "Name  ID           Uptime\n\
             a      1          1:01:01\n\
             a      1  1 day,  1:01:01\n\
             a      1          unknown\n"
        );
    }
}
