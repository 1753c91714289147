//! `garth list`, and `garth ps` of a container.

use clap::{Args, ValueEnum};

use super::Row;
use crate::cli::{Global, complain, print, shown};
use crate::container::{self, Container};
use crate::error::{Error, Result};
use crate::journal::Journal;

/// Output format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Human-readable
    Table,
    /// JSON
    Json,
}

/// List containers
#[derive(Debug, Args)]
pub struct List {
    /// Output format
    #[arg(short, long, value_enum, default_value = "table")]
    format: Format,
    /// Print only IDs
    #[arg(short, long)]
    quiet: bool,
}

impl List {
    pub(in crate::cli) fn run(self, global: &Global) -> Result<i32> {
        let mut rows = Vec::new();
        for container in Container::all(&global.journal().containers())? {
            match container.and_then(|container| Row::of(&container)) {
                Ok(row) => rows.push(row),
                // List the others nevertheless.
                Err(error) => complain(&error),
            }
        }
        if self.quiet {
            rows.iter().for_each(|row| print(&format!("{}\n", row.id)));
            return Ok(0);
        }
        match self.format {
            Format::Json => print(&json(&rows)?),
            Format::Table => print(&table(&rows)),
        }
        Ok(0)
    }
}

fn json(value: &impl serde::Serialize) -> Result<String> {
    let text = serde_json::to_string(value);
    text.map(|text| text + "\n").map_err(|e| Error::new(format!("write JSON: {e}")))
}

/// Columns at least twelve characters wide, three apart.
fn table(rows: &[Row]) -> String {
    let heading = ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(String::from);
    let cells = |row: &Row| {
        let (pid, status) = (row.pid.to_string(), row.status.to_string());
        let [id, bundle] = [&row.id, &row.bundle].map(|name| shown(name).into_owned());
        [id, pid, status, bundle, row.created.clone(), row.owner.clone()]
    };
    let lines: Vec<[String; 6]> = std::iter::once(heading).chain(rows.iter().map(cells)).collect();
    let width = |column: usize| {
        let widest = lines.iter().map(|line| line[column].chars().count()).max();
        (widest.unwrap_or(0) + 3).max(12)
    };
    let widths: Vec<usize> = (0..6).map(width).collect();
    let mut text = String::new();
    for line in &lines {
        for (column, cell) in line.iter().enumerate() {
            match column {
                5 => text += cell,
                column => text += &format!("{cell:<width$}", width = widths[column]),
            }
        }
        text.push('\n');
    }
    text
}

/// `garth ps ID`: the processes of a container, as JSON or as ps(1) shows them.
pub fn ps(containers: &Journal, id: &str, as_json: bool, options: &[String]) -> Result<i32> {
    let pids = container::pids(containers, id)?;
    match as_json {
        true => print(&json(&pids)?),
        false => print(&container::table(&pids, options)?),
    }
    Ok(0)
}
