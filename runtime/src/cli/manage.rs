//! `garth ps`, `kill`, `delete`, `gc`.

use clap::Args;

use super::{Format, Global, OURS, complain, oci, print, shown, tell, to_json};
use crate::container::{self, Targets};
use crate::error::{Error, Result};
use crate::facts;
use crate::resource::gc::Report;
use crate::service;
use crate::sys::process;

/// List sandboxes; with an ID, the processes of that container
///
/// Sandboxes without a name, a network or limits are not on record, and not listed.
#[derive(Debug, Args)]
pub struct Ps {
    /// Output format
    #[arg(short, long, value_enum, default_value = "text")]
    format: Format,
    /// Print as JSON
    #[arg(long)]
    json: bool,
    /// Print only names
    #[arg(short, long)]
    quiet: bool,
    /// Include detached sandboxes that ended within the last day
    #[arg(short, long)]
    all: bool,
    /// List the processes of this container
    id: Option<String>,
    /// Options for ps(1), which lists the processes [default: -ef]
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "OPTION")]
    options: Vec<String>,
}

impl Ps {
    pub(super) fn is_of_container(&self) -> bool {
        self.id.is_some()
    }

    pub(super) fn run(self, global: &Global) -> Result<i32> {
        if let Some(id) = &self.id {
            let as_json = self.json || self.format == Format::Json;
            return oci::ps(&global.journal().containers(), id, as_json, &self.options);
        }
        for (name, taken) in service::take_up_lost(&global.journal())? {
            match taken {
                Ok(()) => tell(&format!("service {name} had lost its keeper: it has a new one")),
                Err(error) => complain(&error.within(format_args!("service {name}"))),
            }
        }
        let entries = match self.all {
            true => service::list_all(&global.journal())?,
            false => service::list(&global.journal())?,
        };
        if self.json || self.format == Format::Json {
            print(&to_json(&entries)?);
            return Ok(0);
        }
        if self.quiet {
            entries.iter().for_each(|entry| print(&format!("{}\n", shown(&entry.name))));
            return Ok(0);
        }
        // Without services, there is nothing to say of health and restarts.
        let services = entries.iter().any(|entry| entry.service.is_some());
        let titles = ["NAME", "PID", "STATE", "HEALTH", "RESTARTS", "AGE", "ADDRESS", "PORTS"];
        let volumes = entries.iter().any(|entry| !entry.volumes.is_empty());
        let mut rows = vec![
            titles.into_iter().chain(["RATE", "VOLUMES", "COMMAND"]).map(String::from).collect(),
        ];
        let now = facts::now().as_secs();
        for entry in entries {
            let of_service = |what: fn(service::ListedService) -> Option<String>| {
                entry.service.clone().and_then(what).unwrap_or("-".into())
            };
            rows.push(vec![
                entry.name,
                entry.pid.map_or("-".into(), |pid| pid.to_string()),
                entry.end.map_or_else(|| entry.state.into(), |end| end.words()),
                of_service(|service| service.health.map(|health| health.word().into())),
                of_service(|service| Some(service.restarts.to_string())),
                entry.created.map_or("-".into(), |then| age(now.saturating_sub(then))),
                entry.addresses.into_iter().next().unwrap_or("-".into()),
                if entry.ports.is_empty() { "-".into() } else { entry.ports.join(" ") },
                entry.rates.unwrap_or("-".into()),
                match &entry.volumes[..] {
                    [] => "-".into(),
                    some => some.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
                },
                entry.command.join(" "),
            ]);
        }
        if !volumes {
            rows.iter_mut().for_each(|row: &mut Vec<String>| drop(row.remove(9)));
        }
        if !services {
            rows.iter_mut().for_each(|row: &mut Vec<String>| drop(row.drain(3..5)));
        }
        print(&table(&rows));
        Ok(0)
    }
}

fn age(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..86400 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86400),
    }
}

/// Columns as wide as their widest cell; longer cells are truncated to fit a terminal, but not with
/// --json.
pub(super) fn table(rows: &[Vec<String>]) -> String {
    const WIDEST: usize = 60;
    let cut = |cell: &String| -> String {
        let cell = shown(cell);
        match cell.chars().count() > WIDEST {
            true => cell.chars().take(WIDEST - 3).chain("...".chars()).collect(),
            false => cell.into_owned(),
        }
    };
    let rows: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(cut).collect()).collect();
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in &rows {
        for (column, cell) in row.iter().enumerate() {
            match column + 1 == columns {
                true => text += cell,
                false => text += &format!("{cell:<width$}  ", width = widths[column]),
            }
        }
        text.push('\n');
    }
    text
}

/// Send a signal to a sandbox or container
#[derive(Debug, Args)]
pub struct Kill {
    /// Signal name or number
    #[arg(short, long, value_name = "SIGNAL")]
    signal: Option<String>,
    /// Send it to every process of the container
    #[arg(short, long)]
    all: bool,
    /// Treat the name as a regular expression, and signal every matching container
    #[arg(short, long)]
    regex: bool,
    /// The sandbox or container
    name: String,
    /// Signal name or number [default: TERM]
    #[arg(value_name = "SIGNAL", conflicts_with = "signal")]
    number: Option<String>,
}

impl Kill {
    pub(super) fn id(&self) -> &str {
        &self.name
    }

    pub(super) fn run(self, global: &Global) -> Result<i32> {
        let name = self.number.or(self.signal).unwrap_or("TERM".into());
        // 0 only tests whether there is a process to signal.
        let signal = if name == "0" { Some(0) } else { process::signal_number(&name) };
        let signal = signal.ok_or_else(|| {
            Error::new(format!("{name:?} is not a signal")).hint("kill -l lists signal names")
        })?;
        let journal = global.journal();
        let targets = if self.all { Targets::All } else { Targets::First };
        if self.regex {
            let containers = journal.containers();
            let each = |id: &str| container::kill(&containers, id, signal, targets);
            return oci::for_each(&containers, &self.name, each).map(|()| 0);
        }
        service::kill(&journal, &self.name, signal, targets).map(|()| 0)
    }
}

/// Delete an ended sandbox or container and release its resources
#[derive(Debug, Args)]
pub struct Delete {
    /// Kill it first if it is running, and delete it even if its record is damaged
    #[arg(short, long)]
    force: bool,
    /// Treat the name as a regular expression, and delete every matching container
    #[arg(short, long)]
    regex: bool,
    /// The sandbox or container
    name: String,
}

impl Delete {
    pub(super) fn id(&self) -> &str {
        &self.name
    }

    pub(super) fn run(self, global: &Global) -> Result<i32> {
        let journal = global.journal();
        let warn = global.log.warnings();
        if self.regex {
            let containers = journal.containers();
            let each = |id: &str| container::delete(&containers, id, self.force, &warn);
            return oci::for_each(&containers, &self.name, each).map(|()| 0);
        }
        service::delete(&journal, &self.name, self.force, &warn).map(|()| 0)
    }
}

/// Wait for a detached sandbox to end, and show how it ended
///
/// Its last output is shown too. The exit status is the command's, or 128 + N if signal N killed it.
#[derive(Debug, Args)]
pub struct Wait {
    /// Print as JSON
    #[arg(long)]
    json: bool,
    /// The sandbox
    name: String,
}

impl Wait {
    pub(super) fn run(self, global: &Global) -> Result<i32> {
        let trace = service::wait(&global.journal(), &self.name)?;
        match self.json {
            true => print(&to_json(&trace)?),
            false => {
                print(&format!("{}: {}\n", trace.name, trace.words()));
                for line in &trace.output {
                    // A program's output must not control the terminal.
                    let plain = |c: char| {
                        if c.is_control() { c.escape_default().to_string() } else { c.into() }
                    };
                    print(&format!("  {}\n", line.chars().map(plain).collect::<String>()));
                }
            }
        }
        Ok(trace.exit_code)
    }
}

/// Show the host resources that a sandbox or container holds
///
/// These are its cgroup, network, RAID volumes and plugins. Fails if a resource of a running sandbox is missing or cannot work.
#[derive(Debug, Args)]
pub struct Check {
    /// Print as JSON
    #[arg(long)]
    json: bool,
    /// The sandbox or container
    name: String,
}

impl Check {
    pub(super) fn run(self, global: &Global) -> Result<i32> {
        let journal = global.journal();
        let (there, lacks) = service::check(&journal, &self.name)?;
        match self.json {
            true => print(&to_json(&there)?),
            false => there.iter().for_each(|line| print(&format!("{}\n", shown(line)))),
        }
        lacks.iter().for_each(|line| complain(&Error::new(line)));
        Ok(if lacks.is_empty() { 0 } else { OURS })
    }
}

pub(super) fn gc(global: &Global) -> Result<i32> {
    let Report { removed, taken_up, failed } = service::collect(&global.journal())?;
    for name in &taken_up {
        print(&format!("service {} had lost its keeper: it has a new one\n", shown(name)));
    }
    for what in &removed {
        print(&format!("removed {}\n", shown(what)));
    }
    failed.iter().for_each(complain);
    if removed.is_empty() && taken_up.is_empty() && failed.is_empty() {
        print("nothing to clean up\n");
    }
    Ok(if failed.is_empty() { 0 } else { OURS })
}
