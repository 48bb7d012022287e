//! The short table in README.md between two marks.

use super::table::{Table, shown};

const BEGIN: &str = "<!-- benchmarks: written by scripts/bench -->\n";
const END: &str = "<!-- /benchmarks -->";

/// The most informative rows.
const ROWS: [&str; 9] = [
    "xen_version",
    "user_syscall",
    "page_fault_bounce",
    "event_send_upcall",
    "mmu_update_32",
    "trapped_pte_write",
    "cpuid_forced",
    "domain_switch",
    "domain_create",
];

/// The text with the table inserted; unchanged if it has no marks.
pub fn replace(text: &str, table: &Table) -> String {
    let parts = text.split_once(BEGIN).and_then(|(before, rest)| {
        let (_, after) = rest.split_once(END)?;
        Some((before, after))
    });
    match parts {
        Some((before, after)) => format!("{before}{BEGIN}{}{END}{after}", short(table)),
        None => text.to_owned(),
    }
}

fn short(table: &Table) -> String {
    let mut text =
        String::from("| instructions | Xen 4.20 | xenlike | ratio |\n|---|--:|--:|--:|\n");
    let lines = table.lines.iter();
    for line in lines.filter(|line| ROWS.contains(&line.row.name)) {
        let ratio = line.ratio().map_or(String::new(), |it| format!("{it:.2}"));
        let (theirs, ours) = (shown(line.theirs), shown(line.ours));
        text.push_str(&format!(
            "| {} | {theirs} | {ours} | {ratio} |\n",
            line.row.what
        ));
    }
    if let Some(mean) = table.mean() {
        text.push_str(&format!("| geometric mean of all rows | | | {mean:.2} |\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{BEGIN, END, ROWS, Table, replace};
    use crate::bench::machine::Figures;
    use crate::bench::rows::find;

    #[test]
    fn what_is_between_the_marks_is_replaced() {
        let figures = |value| -> Figures { [("xen_version".to_owned(), value)].into() };
        let table = Table::new(&figures(100), &figures(200));
        let once = replace(&format!("before\n{BEGIN}old\n{END}\nafter\n"), &table);
        assert!(once.starts_with("before\n") && once.ends_with("\nafter\n"));
        assert!(once.contains("| null hypercall | 200 | 100 | 0.50 |") && !once.contains("old"));
        assert_eq!(replace(&once, &table), once);
        assert_eq!(replace("no marks", &table), "no marks");
    }

    #[test]
    fn its_rows_exist() {
        assert!(ROWS.iter().all(|name| find(name).is_some()));
    }
}
