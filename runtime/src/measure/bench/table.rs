//! A report as text: Markdown, which is as readable on a terminal.

use std::fmt::Write;

use super::{BenchReport, BenchTable, Spread, number};

/// All of a report.
pub fn markdown(report: &BenchReport) -> String {
    let mut text = format!("garth bench {}: {}\n", report.bench, report.machine.words());
    for table in &report.tables {
        text.push('\n');
        text += &table_text(table);
    }
    if !report.notes.is_empty() {
        text.push('\n');
        for note in &report.notes {
            let _ = writeln!(text, "- {note}");
        }
    }
    text
}

/// A table as text.
pub fn table_text(table: &BenchTable) -> String {
    let mut text = format!("{}\n\n", table.title);
    let rows = cells(table);
    let count = rows[0].len();
    let width = |at: usize| rows.iter().map(|row| row[at].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..count).map(width).collect();
    for (number, row) in rows.iter().enumerate() {
        for (at, cell) in row.iter().enumerate() {
            let width = widths[at];
            let _ = match at {
                0 => write!(text, "| {cell:<width$} "),
                _ => write!(text, "| {cell:>width$} "),
            };
        }
        text += "|\n";
        if number == 0 {
            for (at, width) in widths.iter().enumerate() {
                let line = "-".repeat(width + 1);
                let _ = if at == 0 { write!(text, "|{line}-") } else { write!(text, "|{line}:") };
            }
            text += "|\n";
        }
    }
    if !table.conclusions.is_empty() {
        text.push('\n');
        for line in &table.conclusions {
            let _ = writeln!(text, "{line}.");
        }
    }
    text
}

/// The cells of a table, with its heads: the median of each figure, with the spread of the first, and what it is of the base's.
pub(super) fn cells(table: &BenchTable) -> Vec<Vec<String>> {
    let mut heads = vec![String::new()];
    for (at, column) in table.columns.iter().enumerate() {
        heads.push(column.clone());
        if at == 0 {
            heads.push("10 % to 90 %".into());
            heads.extend(table.base.iter().map(|base| format!("× {base}")));
        }
    }
    let base = table.base.as_ref().and_then(|base| table.first(base));
    let mut rows = vec![heads];
    for row in &table.rows {
        let mut cells = vec![row.name.clone()];
        for (at, figure) in row.figures.iter().enumerate() {
            cells.push(figure.map_or("-".into(), |figure| number(figure.median)));
            if at == 0 {
                let range = |it: Spread| format!("{} to {}", number(it.p10), number(it.p90));
                cells.push(figure.map_or("-".into(), range));
                let ratio = figure.zip(base).map(|(figure, base)| figure.median / base.median);
                if table.base.is_some() {
                    cells.push(ratio.map_or("-".into(), |ratio| format!("{ratio:.2}")));
                }
            }
        }
        rows.push(cells);
    }
    rows
}
