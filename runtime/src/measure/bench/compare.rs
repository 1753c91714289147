//! Two reports of the same bench: which figures have changed beyond their spread.

use super::{BenchReport, BenchTable, number};
use crate::error::{Error, Result};

/// One line for each first figure that changed, or that only one of them has; one that says so if there is none.
///
/// # Errors
/// They are of different benches.
pub fn compare(old: &BenchReport, new: &BenchReport) -> Result<Vec<String>> {
    if old.bench != new.bench {
        return Err(Error::new(format!("that is a report of bench {}", old.bench))
            .hint(format!("this is bench {}", new.bench)));
    }
    let mut lines = Vec::new();
    if old.machine != new.machine {
        lines.push(format!("another machine: before {}", old.machine.words()));
    }
    let (mut compared, mut changed) = (0, 0);
    for table in &new.tables {
        let same =
            |other: &&BenchTable| other.title == table.title && other.columns == table.columns;
        let Some(before) = old.tables.iter().find(same) else {
            lines.push(format!("{}: not in the other report", table.title));
            continue;
        };
        for row in &table.rows {
            let (Some(then), Some(now)) = (before.first(&row.name), table.first(&row.name)) else {
                lines.push(format!("{}: {}: only in one of them", table.title, row.name));
                continue;
            };
            compared += 1;
            if then.overlaps(&now) {
                continue;
            }
            changed += 1;
            let part = (now.median / then.median - 1.0) * 100.0;
            let better = (part > 0.0) == table.more_is_better;
            lines.push(format!(
                "{}: {}: {} before, {} now ({part:+.0} %, {})",
                table.title,
                row.name,
                number(then.median),
                number(now.median),
                if better { "better" } else { "worse" }
            ));
        }
    }
    lines.push(format!("{changed} of {compared} figures have changed beyond their spread"));
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::super::{BenchRow, Spread};
    use super::*;

    #[test]
    fn only_what_is_beyond_both_spreads_has_changed() {
        let report = |values: [[f64; 3]; 2], bench: &str| {
            let rows = ["a", "b"].iter().zip(values).map(|(name, values)| BenchRow {
                name: (*name).into(),
                figures: vec![Spread::of(values.to_vec())],
            });
            let table = BenchTable {
                title: "t".into(),
                columns: vec!["ms".into()],
                more_is_better: false,
                base: None,
                rows: rows.collect(),
                conclusions: Vec::new(),
            };
            BenchReport::new(bench, vec![table], Vec::new())
        };
        let old = report([[1.0, 1.1, 1.2], [1.0, 1.1, 1.2]], "spawn");
        let new = report([[1.1, 1.15, 1.3], [2.0, 2.2, 2.4]], "spawn");
        let lines = compare(&old, &new).unwrap();
        let expected = [
            "t: b: 1.100 before, 2.200 now (+100 %, worse)",
            "1 of 2 figures have changed beyond their spread",
        ];
        assert_eq!(lines, expected);
        assert!(compare(&report([[1.0; 3]; 2], "start"), &new).is_err());
    }
}
