//! Reports as one page: all tables and charts, for a browser, without anything from elsewhere.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::table::cells;
use super::{BenchReport, BenchTable, svg};
use crate::container::rfc3339;
use crate::error::{Error, Result};

/// Colours for light and for dark; tables that are wider than a phone are moved, not the page.
const STYLE: &str = "
:root { color-scheme: light dark; --ink: #1c1c1c; --ground: #fdfdfb; --line: #d8d8d2; --soft: #666; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e4e0; --ground: #17181a; --line: #3a3c40; --soft: #a0a0a0; }
}
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--ground);
  max-width: 62rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.6rem; } h2 { margin-top: 3rem; border-bottom: 1px solid var(--line); }
h3 { font-size: 1.05rem; margin-bottom: .4rem; }
.machine, li { color: var(--soft); font-size: .9rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9rem; }
th, td { padding: .2rem .7rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
svg { width: 100%; min-width: 40rem; height: auto; }
nav a { margin-right: 1rem; color: inherit; }
";

/// The page of all reports (`*.json`) in a directory, in the order of their names.
///
/// # Errors
/// There is none, or one cannot be read or is none.
pub fn page(dir: &Path) -> Result<String> {
    let failed = |error| Error::io(format!("read {}", dir.display()), &error);
    let mut files: Vec<PathBuf> = fs::read_dir(dir)
        .map_err(failed)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .collect();
    files.sort();
    let mut reports = Vec::new();
    for file in &files {
        let shown = file.display();
        let text =
            fs::read_to_string(file).map_err(|error| Error::io(format!("read {shown}"), &error))?;
        reports.push(BenchReport::parse(&text).map_err(|error| error.within(&shown))?);
    }
    if reports.is_empty() {
        return Err(Error::new(format!("{} has no report", dir.display()))
            .hint("garth bench spawn --json FILE writes one there"));
    }
    of_reports(&reports)
}

fn of_reports(reports: &[BenchReport]) -> Result<String> {
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" \
         content=\"width=device-width, initial-scale=1\">\n<title>Garth: benches</title>\n\
         <style>{STYLE}</style>\n<h1>Benches</h1>\n<nav>"
    );
    for (number, report) in reports.iter().enumerate() {
        let _ = write!(html, "<a href=\"#b{number}\">{}</a>", escaped(&report.bench));
    }
    html += "</nav>\n";
    for (number, report) in reports.iter().enumerate() {
        let _ = writeln!(
            html,
            "<section id=\"b{number}\">\n<h2>{}</h2>\n<p class=\"machine\">{}<br>garth {}, {}</p>\n<div class=\"scroll\">{}</div>",
            escaped(&report.bench),
            escaped(&report.machine.words()),
            escaped(&report.garth),
            // The day.
            rfc3339(Duration::from_secs(report.at)).get(..10).unwrap_or_default(),
            svg(report)?
        );
        report.tables.iter().for_each(|table| html += &of_table(table));
        if !report.notes.is_empty() {
            html += "<ul>\n";
            for note in &report.notes {
                let _ = writeln!(html, "<li>{}</li>", escaped(note));
            }
            html += "</ul>\n";
        }
        html += "</section>\n";
    }
    html += "</html>\n";
    Ok(html)
}

fn of_table(table: &BenchTable) -> String {
    let mut html = format!("<h3>{}</h3>\n<div class=\"scroll\"><table>\n", escaped(&table.title));
    for (number, row) in cells(table).iter().enumerate() {
        let tag = if number == 0 { "th" } else { "td" };
        html += "<tr>";
        for cell in row {
            let _ = write!(html, "<{tag}>{}</{tag}>", escaped(cell));
        }
        html += "</tr>\n";
    }
    html += "</table></div>\n";
    for line in &table.conclusions {
        let _ = writeln!(html, "<p>{}.</p>", escaped(line));
    }
    html
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_all_and_nothing_of_a_name_is_markup() {
        let table = BenchTable {
            title: "a <b> & c".into(),
            columns: vec!["ms".into()],
            more_is_better: false,
            base: None,
            rows: Vec::new(),
            conclusions: vec!["x: 2 × y".into()],
        };
        let report = BenchReport::new("spawn", vec![table], vec!["a \"note\"".into()]);
        let html = of_reports(&[report.clone(), report]).unwrap();
        assert!(html.contains("<h3>a &lt;b&gt; &amp; c</h3>"), "{html}");
        assert!(html.contains("<p>x: 2 × y.</p>") && html.contains("a &quot;note&quot;"), "{html}");
        assert_eq!(html.matches("<section").count(), 2);
        // Nothing is fetched from elsewhere.
        let links = html.matches("http").count();
        assert_eq!(links, html.matches("http://www.w3.org/2000/svg").count(), "{html}");
    }
}
