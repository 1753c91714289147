//! `garth events`.

use std::io::{ErrorKind, Write};

use clap::Args;

use crate::cli::Global;
use crate::config::units::Span;
use crate::container::{self, ContainerEvent};
use crate::error::{Error, Result};

/// Show resource usage and out-of-memory events, as JSON lines
#[derive(Debug, Args)]
pub struct Events {
    /// Time between two reports of usage
    #[arg(long, value_name = "TIME", default_value = "5s")]
    interval: Span,
    /// Report usage once and exit
    #[arg(long)]
    stats: bool,
    /// The container
    id: String,
}

impl Events {
    pub(in crate::cli) fn run(self, global: &Global) -> Result<i32> {
        let containers = global.journal().containers();
        if self.stats {
            let data = Some(container::stats(&containers, &self.id)?);
            return tell(&ContainerEvent { kind: "stats", id: &self.id, data }).map(|_| 0);
        }
        if self.interval.0.is_zero() {
            return Err(Error::new("--interval 0: the duration must be greater than 0"));
        }
        let mut heard = true;
        let all = container::events(&containers, &self.id, self.interval.0, |event| {
            heard = tell(&event)?;
            if heard { Ok(()) } else { Err(Error::new("the reader is gone")) }
        });
        // It is not an error if the reader is gone.
        if heard { all.map(|()| 0) } else { Ok(0) }
    }
}

/// Prints an event; false if the reader is gone.
fn tell(event: &ContainerEvent<'_>) -> Result<bool> {
    let text = serde_json::to_string(event).map_err(|e| Error::new(format!("write JSON: {e}")))?;
    let mut out = std::io::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Error::io("write to standard output", &error)),
    }
}
