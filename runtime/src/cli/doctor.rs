//! `garth doctor`.

use std::io::stdout;

use clap::Args;

use super::output::{CAUTION, FAILURE, GOOD, styled};
use super::{Format, Global, print, to_json};
use crate::error::Result;
use crate::service::{Health, examine};

/// Check what this host supports, by trying it
///
/// Exit status: 0 ready, 1 degraded, 2 unusable.
#[derive(Debug, Args)]
pub struct Doctor {
    /// Output format
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

impl Doctor {
    pub(super) fn run(self, global: &Global) -> Result<i32> {
        let found = examine(&global.journal());
        if self.json || self.format == Format::Json {
            print(&to_json(&found)?);
        } else {
            for finding in &found {
                let (word, style) = match finding.state {
                    Health::Ok => ("ok", GOOD),
                    Health::Degraded => ("missing", CAUTION),
                    Health::Unusable => ("FAILED", FAILURE),
                };
                let word = styled(&format!("{word:<8}"), style, &stdout());
                print(&format!("{word} {:<16} {}\n", finding.name, finding.detail));
            }
        }
        let worst = found.iter().map(|finding| finding.state).max();
        Ok(worst.map_or(0, |state| state as i32))
    }
}
