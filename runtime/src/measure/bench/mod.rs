//! Benches: what this machine and its tools take, measured so that it may be believed.
//!
//! Contenders run in turn, A B C A B C, so that a machine whose speed drifts is as unfair to one as to another.
//! Told are medians with their spread (the 10th and the 90th percentile), and ratios within one run;
//! nothing is concluded from figures whose spreads overlap. A report has the machine in it, and can be
//! compared with an older one.

mod boxed;
mod chart;
mod compare;
mod link;
mod machine;
mod page;
mod spawn;
mod ssh;
mod start;
mod table;

use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
pub use chart::svg;
pub use compare::compare;
pub use link::{link, sink};
pub use machine::BenchMachine;
pub use page::page;
pub use spawn::spawn;
pub use ssh::{Ciphers, ssh_ciphers};
pub use start::start;
pub use table::{markdown, table_text};

/// Of the format of reports.
pub const VERSION: u32 = 1;

/// What a bench has measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BenchReport {
    /// Of the format.
    pub version: u32,
    /// Which bench: `spawn`, `start`, ...
    pub bench: String,
    /// Garth's version.
    pub garth: String,
    /// When, in seconds since 1970.
    pub at: u64,
    /// Where.
    pub machine: BenchMachine,
    /// The figures.
    pub tables: Vec<BenchTable>,
    /// What the reader must know: what was left out, and why.
    pub notes: Vec<String>,
}

/// Figures that may be compared with each other.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BenchTable {
    /// What was the same for all.
    pub title: String,
    /// The columns: what each figure is, with its unit. The first is what counts.
    pub columns: Vec<String>,
    /// Whether more is better, in the first column.
    pub more_is_better: bool,
    /// The row to which the others are compared.
    pub base: Option<String>,
    /// A row for each contender.
    pub rows: Vec<BenchRow>,
    /// What follows from it, and what does not.
    pub conclusions: Vec<String>,
}

/// The figures of one contender.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BenchRow {
    /// Its name.
    pub name: String,
    /// A figure for each column; `None`: it has none.
    pub figures: Vec<Option<Spread>>,
}

/// A figure that was taken several times.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// A tenth were lower.
    pub p10: f64,
    /// Half were lower.
    pub median: f64,
    /// A tenth were higher.
    pub p90: f64,
    /// How often it was taken.
    pub count: usize,
}

impl Spread {
    /// Of these values; `None`: there are none.
    pub fn of(mut values: Vec<f64>) -> Option<Spread> {
        let last = values.len().checked_sub(1)?;
        values.sort_by(f64::total_cmp);
        let at = |part: f64| values[(last as f64 * part).round() as usize];
        Some(Spread { p10: at(0.1), median: at(0.5), p90: at(0.9), count: values.len() })
    }

    /// Whether most of the values of one are among those of the other.
    pub fn overlaps(&self, other: &Spread) -> bool {
        self.p10 <= other.p90 && other.p10 <= self.p90
    }

    /// How wide it is, as a part of the median.
    pub fn width(&self) -> f64 {
        (self.p90 - self.p10) / self.median.abs().max(f64::MIN_POSITIVE)
    }
}

/// With the digits that matter.
fn number(value: f64) -> String {
    match value.abs() {
        0.0 => "0".into(),
        size if size < 10.0 => format!("{value:.3}"),
        size if size < 100.0 => format!("{value:.2}"),
        size if size < 1000.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

/// How far a bench is.
#[derive(Clone, Copy, Debug)]
pub struct BenchProgress<'a> {
    /// What is measured.
    pub what: &'a str,
    /// Runs so far.
    pub done: u64,
    /// Runs in all.
    pub all: u64,
}

/// Who is told of it. An error ends the bench with this error; what it has made goes with it.
pub type Tell<'a> = &'a mut dyn FnMut(BenchProgress<'_>) -> Result<()>;

/// How much is done.
#[derive(Clone, Copy, Debug, Default)]
pub struct Effort {
    /// Only so much that it is seen to work: the figures are worth little.
    pub quick: bool,
    /// How many rounds; `None`: as many as the bench finds right.
    pub rounds: Option<usize>,
}

impl Effort {
    /// The rounds, of which `usual` are right.
    ///
    /// # Errors
    /// Fewer were asked for than have a spread.
    fn rounds(&self, usual: usize) -> Result<usize> {
        match self.rounds {
            Some(rounds @ 0..3) => Err(Error::new(format!("{rounds} rounds have no spread"))
                .hint("3 are the least; 20 or more tell something")),
            Some(rounds) => Ok(rounds),
            None if self.quick => Ok(3),
            None => Ok(usual),
        }
    }
}

/// One of those that are compared.
pub struct Contender<'a> {
    name: String,
    /// One run: a figure for each column.
    run: Box<dyn FnMut() -> Result<Vec<f64>> + 'a>,
}

impl<'a> Contender<'a> {
    /// One with a name, and what is one run of it: it returns a figure for each column.
    pub fn new(
        name: impl Into<String>,
        run: impl FnMut() -> Result<Vec<f64>> + 'a,
    ) -> Contender<'a> {
        Contender { name: name.into(), run: Box::new(run) }
    }

    /// One whose only figure is how long it takes, in milliseconds.
    pub fn timed(
        name: impl Into<String>,
        mut run: impl FnMut() -> Result<()> + 'a,
    ) -> Contender<'a> {
        Contender::new(name, move || {
            let begun = Instant::now();
            run()?;
            Ok(vec![begun.elapsed().as_secs_f64() * 1e3])
        })
    }
}

/// Compares how long contenders take.
///
/// # Errors
/// One of them fails.
pub fn timed(
    title: &str,
    contenders: Vec<Contender<'_>>,
    rounds: usize,
    base: Option<&str>,
    tell: Tell<'_>,
) -> Result<BenchTable> {
    let rows = interleaved(contenders, rounds, 1, title, tell)?;
    let base = base.filter(|base| rows.iter().any(|row| row.name == **base));
    Ok(BenchTable {
        title: title.to_owned(),
        columns: vec!["ms".into()],
        more_is_better: false,
        base: base.map(str::to_owned),
        rows,
        conclusions: Vec::new(),
    })
}

/// Runs all contenders `rounds` times in turn, after one round that does not count. Which one begins a round
/// changes, so that none has always the same before it.
fn interleaved(
    mut contenders: Vec<Contender<'_>>,
    rounds: usize,
    columns: usize,
    what: &str,
    tell: Tell<'_>,
) -> Result<Vec<BenchRow>> {
    let count = contenders.len();
    let mut all = vec![vec![Vec::with_capacity(rounds); columns]; count];
    let mut done = 0;
    for round in 0..=rounds {
        for turn in 0..count {
            let at = (round + turn) % count;
            let contender = &mut contenders[at];
            let figures = (contender.run)()
                .map_err(|error| error.within(format_args!("{}", contender.name)))?;
            done += 1;
            tell(BenchProgress { what, done, all: ((rounds + 1) * count) as u64 })?;
            if round > 0 {
                all[at].iter_mut().zip(figures).for_each(|(column, figure)| column.push(figure));
            }
        }
    }
    let row = |(contender, columns): (Contender<'_>, Vec<Vec<f64>>)| BenchRow {
        name: contender.name,
        figures: columns.into_iter().map(Spread::of).collect(),
    };
    Ok(contenders.into_iter().zip(all).map(row).collect())
}

impl BenchTable {
    /// The first figure of a row.
    pub fn first(&self, name: &str) -> Option<Spread> {
        self.rows.iter().find(|row| row.name == name)?.figures.first().copied().flatten()
    }

    /// Concludes how one compares with another, or says why nothing can be concluded. Nothing is said of one that is not there.
    pub fn conclude(&mut self, one: &str, other: &str) {
        let (Some(a), Some(b)) = (self.first(one), self.first(other)) else { return };
        let ratio = a.median / b.median;
        let words = match a.overlaps(&b) {
            false => format!("{one}: {ratio:.2} × {other}"),
            true if a.width() < 0.1 && b.width() < 0.1 => {
                format!("{one} and {other} are within their spread of each other ({ratio:.2} ×)")
            }
            true => {
                let range = |it: Spread| format!("{} to {}", number(it.p10), number(it.p90));
                format!(
                    "{one} and {other}: no conclusion; their spreads are too wide, and overlap ({}, {})",
                    range(a),
                    range(b)
                )
            }
        };
        self.conclusions.push(words);
    }
}

impl BenchReport {
    fn new(bench: &str, tables: Vec<BenchTable>, notes: Vec<String>) -> BenchReport {
        BenchReport {
            version: VERSION,
            bench: bench.to_owned(),
            garth: env!("CARGO_PKG_VERSION").to_owned(),
            at: crate::facts::now().as_secs(),
            machine: BenchMachine::read(),
            tables,
            notes,
        }
    }

    /// Reads a report.
    ///
    /// # Errors
    /// It is not one, or of another version.
    pub fn parse(text: &str) -> Result<BenchReport> {
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        let wrong =
            |error: serde_json::Error| Error::new(format!("not a report of a bench: {error}"));
        let Versioned { version } = serde_json::from_str(text).map_err(wrong)?;
        if version != VERSION {
            return Err(Error::new(format!("a report of version {version}: not known here"))
                .hint(format!("version {VERSION} is; run that bench again")));
        }
        serde_json::from_str(text).map_err(wrong)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contenders_take_turns_and_the_first_round_does_not_count() {
        let order = std::cell::RefCell::new(String::new());
        let contender = |name: &'static str, value: f64| {
            let order = &order;
            Contender::new(name, move || {
                order.borrow_mut().push_str(name);
                Ok(vec![value, 0.0])
            })
        };
        let mut last = 0;
        let contenders = vec![contender("a", 1.0), contender("b", 2.0)];
        let rows = interleaved(contenders, 3, 2, "x", &mut |now| {
            assert_eq!((now.done, now.all), (last + 1, 8));
            last = now.done;
            Ok(())
        });
        assert_eq!(*order.borrow(), "abbaabba");
        let rows = rows.unwrap();
        let first = rows[1].figures[0].unwrap();
        assert_eq!((first.p10, first.median, first.p90, first.count), (2.0, 2.0, 2.0, 3));
        assert_eq!(rows[1].figures.len(), 2);
    }

    #[test]
    fn nothing_is_concluded_from_spreads_that_overlap() {
        let row = |name: &str, values: &[f64]| BenchRow {
            name: name.into(),
            figures: vec![Spread::of(values.to_vec())],
        };
        let rows = vec![
            row("fast", &[1.0, 1.1, 1.2]),
            row("wide", &[1.0, 3.0, 9.0]),
            row("slow", &[4.0, 4.1, 4.2]),
        ];
        let mut table = BenchTable {
            title: "t".into(),
            columns: vec!["ms".into()],
            more_is_better: false,
            base: None,
            rows,
            conclusions: Vec::new(),
        };
        table.conclude("slow", "fast");
        table.conclude("wide", "slow");
        table.conclude("slow", "missing");
        assert_eq!(table.conclusions[0], "slow: 3.73 × fast");
        assert!(table.conclusions[1].contains("no conclusion"), "{:?}", table.conclusions);
        assert_eq!(table.conclusions.len(), 2);
        assert!(Effort { rounds: Some(2), quick: false }.rounds(9).is_err());
        assert_eq!(Effort { rounds: None, quick: true }.rounds(9).unwrap(), 3);
    }

    #[test]
    fn a_report_of_another_version_is_refused_with_the_reason() {
        let report = BenchReport::new("spawn", Vec::new(), Vec::new());
        let text = serde_json::to_string(&report).unwrap();
        assert_eq!(BenchReport::parse(&text).unwrap(), report);
        let other = text.replace("\"version\":1", "\"version\":7");
        assert!(BenchReport::parse(&other).unwrap_err().to_string().contains("version 7"));
        for wrong in ["", "{}", "[1]", "{\"version\":1}"] {
            assert!(BenchReport::parse(wrong).is_err(), "{wrong}");
        }
    }
}
