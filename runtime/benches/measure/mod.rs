//! Measuring contenders in turn, A B C A B C, so that a machine whose speed drifts is as unfair to
//! one as to another; medians, and ratios within the run.

use std::time::Instant;

/// One contender: its name, and one run of it.
pub struct Contender<'a> {
    pub name: String,
    pub run: Box<dyn FnMut() + 'a>,
}

impl<'a> Contender<'a> {
    pub fn new(name: impl Into<String>, run: impl FnMut() + 'a) -> Contender<'a> {
        Contender { name: name.into(), run: Box::new(run) }
    }
}

/// What one contender took, in milliseconds.
pub struct Taken {
    pub name: String,
    pub p10: f64,
    pub median: f64,
    pub p90: f64,
}

/// Runs all contenders `rounds` times in turn, after one round that does not count.
pub fn interleaved(mut contenders: Vec<Contender<'_>>, rounds: usize) -> Vec<Taken> {
    let mut times = vec![Vec::with_capacity(rounds); contenders.len()];
    for round in 0..=rounds {
        for (contender, times) in contenders.iter_mut().zip(&mut times) {
            let start = Instant::now();
            (contender.run)();
            if round > 0 {
                times.push(start.elapsed().as_secs_f64() * 1e3);
            }
        }
    }
    let summary = |(contender, mut times): (Contender<'_>, Vec<f64>)| {
        times.sort_by(f64::total_cmp);
        let at = |part: usize| times[(times.len() - 1) * part / 10];
        Taken { name: contender.name, p10: at(1), median: at(5), p90: at(9) }
    };
    contenders.into_iter().zip(times).map(summary).collect()
}

/// A Markdown table, with ratios to the median of the contender named `base`.
pub fn table(taken: &[Taken], base: &str) -> String {
    let base_median = taken.iter().find(|t| t.name == base).map_or(f64::NAN, |t| t.median);
    let mut text = format!("| | p10 ms | median ms | p90 ms | × {base} |\n|---|---|---|---|---|\n");
    for Taken { name, p10, median, p90 } in taken {
        let ratio = median / base_median;
        text += &format!("| {name} | {p10:.3} | {median:.3} | {p90:.3} | {ratio:.2} |\n");
    }
    text
}

/// The median of the contender named `name`, in milliseconds.
pub fn median(taken: &[Taken], name: &str) -> Option<f64> {
    taken.iter().find(|t| t.name == name).map(|t| t.median)
}
