//! `garth up`, `down`, `config`, `logs`: services from files.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use clap::Args;
use clap::builder::styling::AnsiColor;
use serde_json::Value;

use super::output::styled;
use super::{Format, Global, OURS, caution, complain, print, shown, tell, to_json};
use crate::error::{Error, Result};
use crate::resource::log::{self, Line, Reader};
use crate::service::{self, DownEnding, Registered, Service, ServiceFile, UpEvent, UpPlan};
use crate::sys::process::{self, Arrived, Signals};

/// Which file.
#[derive(Debug, Args)]
pub struct From {
    /// The service file, or a directory with a garth.toml
    #[arg(short, long, value_name = "FILE", default_value = "garth.toml")]
    file: PathBuf,
}

impl From {
    pub(super) fn read(&self) -> Result<ServiceFile> {
        let read = ServiceFile::read(&self.file);
        match self.file == Path::new("garth.toml") && !self.file.exists() {
            true => read.map_err(|error| error.hint("write one, or name it: -f FILE")),
            false => read,
        }
    }
}

/// Start the services of a file, or apply what has changed in it
///
/// A service whose keys have changed is changed while it runs where that is possible, and started
/// again where not; the others are left alone. Waits until all are healthy.
#[derive(Debug, Args)]
pub struct Up {
    #[command(flatten)]
    from: From,
    /// Do not wait until they are healthy, except for those that others wait for
    #[arg(short, long)]
    detach: bool,
    /// Start again what was up before a reboot, whatever file it is from
    #[arg(long, conflicts_with_all = ["file", "names"])]
    resume: bool,
    /// Only these services, and those they depend on [default: all]
    names: Vec<String>,
}

/// Print what `garth up` would do, step by step
#[derive(Debug, Args)]
pub struct ExplainUp {
    #[command(flatten)]
    from: From,
    /// Only these services, and those they depend on [default: all]
    names: Vec<String>,
}

/// End the services of a file, those that depend on others first
#[derive(Debug, Args)]
pub struct Down {
    #[command(flatten)]
    from: From,
    /// End all services, whatever file they are from
    #[arg(long, conflicts_with_all = ["file", "names"])]
    all: bool,
    /// Leave them on record: `garth up --resume` starts them again, e.g. after a reboot
    #[arg(long)]
    resumable: bool,
    /// Only these services, whatever file they are from [default: all of the file]
    #[arg(conflicts_with = "file")]
    names: Vec<String>,
}

/// Print a service file as it is understood
///
/// Variables are replaced, and defaults left out.
#[derive(Debug, Args)]
pub struct Config {
    #[command(flatten)]
    from: From,
    /// Output format
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

/// Print the output of services and detached sandboxes
#[derive(Debug, Args)]
pub struct Logs {
    /// Continue as more comes, until all have ended
    #[arg(short, long)]
    follow: bool,
    /// Only the last lines of each
    #[arg(short = 'n', long, value_name = "NUMBER")]
    tail: Option<usize>,
    /// Only what came after a time, or since so long ago: 2026-11-29T18:52:21Z, 10m
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Print when each line came
    #[arg(short, long)]
    timestamps: bool,
    /// The services or detached sandboxes [default: all services]
    names: Vec<String>,
}

/// The colours of names, in turn.
const NAMES: [AnsiColor; 6] = {
    use AnsiColor::{Blue, Cyan, Green, Magenta, Red, Yellow};
    [Red, Green, Yellow, Blue, Magenta, Cyan]
};

/// Prints `name  what happened`, names padded to the same width.
struct Progress {
    width: usize,
}

impl Progress {
    fn of<'a>(names: impl Iterator<Item = &'a String>) -> Progress {
        Progress { width: names.map(String::len).max().unwrap_or(0) }
    }

    fn tell(&self, name: &str, event: UpEvent) {
        let words = match event {
            UpEvent::Starting => "starting".into(),
            UpEvent::Running => "running".into(),
            UpEvent::Healthy(after) => format!("healthy after {:.1} s", after.as_secs_f64()),
            UpEvent::Kept => "is up already".into(),
            UpEvent::TakenUp => "had lost its keeper: has a new one".into(),
            UpEvent::Changed(keys) => format!("changed while it runs: {}", keys.join(", ")),
            UpEvent::Restarting(keys) => format!("restarting: {} changed", keys.join(", ")),
            UpEvent::Stopping => "stopping".into(),
            UpEvent::Stopped => "stopped".into(),
            UpEvent::Without(what) => return caution(&format!("{name}: {what}")),
            UpEvent::Skipped(other) => {
                return complain(&Error::new(format!("{name}: not started, since {other} failed")));
            }
            UpEvent::Failed(error) => return complain(&error.within(name)),
        };
        let width = self.width;
        print(&format!("{:<width$}  {}\n", shown(name), shown(&words)));
    }
}

impl Up {
    pub(super) fn run(self, global: &Global) -> Result<i32> {
        let journal = global.journal();
        if self.resume {
            let plan = UpPlan::resume(&journal)?;
            plan.cautions.iter().for_each(|without| tell(&without.to_string()));
            return perform(&plan, global, !self.detach);
        }
        let plan = self.from.read()?.plan(global.root.clone(), &self.names)?;
        plan.cautions.iter().for_each(|without| tell(&without.to_string()));
        perform(&plan, global, !self.detach)
    }
}

fn perform(plan: &UpPlan, global: &Global, wait: bool) -> Result<i32> {
    let journal = global.journal();
    let progress = Progress::of(plan.actions.keys());
    let signals = Signals::block().map_err(|errno| Error::os("block signals", errno))?;
    let (interrupted, done) = (AtomicBool::new(false), AtomicBool::new(false));
    let failed = thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let wait = process::readable([signals.as_fd()], Some(Duration::from_millis(20)));
                if matches!(wait, Ok([true])) && signals.next().is_some_and(Arrived::asks_to_end) {
                    interrupted.store(true, Ordering::Relaxed);
                }
            }
        });
        let tell = |name: &str, event| progress.tell(name, event);
        let failed = service::perform(plan, &journal, wait, &interrupted, &tell);
        done.store(true, Ordering::Relaxed);
        let _ = watcher.join();
        failed
    })?;
    if interrupted.load(Ordering::Relaxed) {
        let rest = match failed.is_empty() {
            true => "what runs is left running".into(),
            false => format!("not up or not healthy yet: {}", failed.join(", ")),
        };
        let error = Error::new(format!("interrupted; {rest}"));
        complain(&error.hint("garth up goes on, garth down ends what runs"));
        return Ok(130);
    }
    Ok(if failed.is_empty() { 0 } else { 1 })
}

impl ExplainUp {
    pub(super) fn run(self, global: &Global) -> Result<i32> {
        let file = self.from.read()?;
        let plan = file.plan(global.root.clone(), &self.names)?;
        plan.cautions.iter().for_each(|without| tell(&without.to_string()));
        for level in file.levels()? {
            for name in level {
                let Some(action) = plan.actions.get(name) else { continue };
                print(&format!("{name}: {}\n", shown(&action.to_string())));
                let Some(asked) = plan.asked.get(name) else { continue };
                if !action.starts() {
                    continue;
                }
                let explanation = asked.sandbox.explain(&asked.options)?;
                for line in &explanation.outside {
                    print(&format!("  out  {}\n", shown(line)));
                }
                for line in explanation.plan.to_string().lines() {
                    print(&format!("  {}\n", shown(line)));
                }
            }
        }
        for (name, action) in &plan.actions {
            if !plan.asked.contains_key(name) {
                print(&format!("{name}: {action}\n"));
            }
        }
        Ok(0)
    }
}

impl Down {
    pub(super) fn run(self, global: &Global) -> Result<i32> {
        let journal = global.journal();
        let names = match (&self.names[..], self.all) {
            ([], true) => Registered::all(&journal)?.iter().map(|one| one.name().into()).collect(),
            ([], false) => {
                // The file may be gone, or not be valid any more.
                let path = &self.from.file;
                let whole = std::fs::canonicalize(path).unwrap_or_else(|_| path.clone());
                let whole = if whole.is_dir() { whole.join("garth.toml") } else { whole };
                let whole = std::path::absolute(&whole).unwrap_or(whole);
                let (names, unknown) = service::of_file(&journal, &whole)?;
                unknown.iter().for_each(|error| tell(&error.to_string()));
                if names.is_empty() && !whole.exists() {
                    return Err(Error::new(format!("no {}", whole.display()))
                        .hint("name the services, the file with -f, or use --all"));
                }
                names
            }
            (names, _) => {
                for name in names {
                    if !Registered::new(&journal, name).exists()? {
                        return Err(Error::new(format!("no service {name} is up"))
                            .hint("garth ps lists services and sandboxes"));
                    }
                }
                names.to_vec()
            }
        };
        if names.is_empty() {
            print("nothing is up\n");
            return Ok(0);
        }
        let progress = Progress::of(names.iter());
        let ending = if self.resumable { DownEnding::UntilResumed } else { DownEnding::ForGood };
        let tell = |name: &str, event| progress.tell(name, event);
        let failed = service::down(&journal, &names, ending, &tell)?;
        Ok(if failed.is_empty() { 0 } else { OURS })
    }
}

impl Config {
    pub(super) fn run(self) -> Result<i32> {
        let file = self.from.read()?;
        let values: BTreeMap<&String, serde_json::Map<String, Value>> =
            file.services.iter().map(|(name, service)| (name, Service::values(service))).collect();
        if self.format == Format::Json {
            print(&to_json(&serde_json::json!({ "service": values }))?);
            return Ok(0);
        }
        let table = BTreeMap::from([("service", values)]);
        let text = toml::to_string(&table);
        print(&text.map_err(|e| Error::new(format!("write TOML: {e}")))?);
        Ok(0)
    }
}

impl Logs {
    pub(super) fn run(self, global: &Global) -> Result<i32> {
        let journal = global.journal();
        let since = self.since.as_deref().map(log::since).transpose()?;
        let names = match self.names.is_empty() {
            true => Registered::all(&journal)?.iter().map(|one| one.name().to_owned()).collect(),
            false => self.names.clone(),
        };
        let mut sources = Vec::new();
        for name in names {
            let dir = service::log_of(&journal, &name)?;
            sources.push((name, Reader::new(&dir)));
        }
        let width = sources.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        let named = sources.len() > 1;
        let stdout = std::io::stdout();
        let show = |nth: usize, name: &str, line: &Line| {
            let mut text = String::new();
            if named {
                let name = format!("{name:<width$} |");
                text += &styled(&name, NAMES[nth % NAMES.len()].on_default(), &stdout);
                text.push(' ');
            }
            if self.timestamps {
                text += &line.time;
                text.push(' ');
            }
            let words = String::from_utf8_lossy(&line.text);
            match stdout.is_terminal() {
                // What a service writes must not steer the terminal of who reads it.
                true => {
                    let parts = words.trim_end_matches('\r').split('\t').map(shown);
                    text += &parts.collect::<Vec<_>>().join("\t");
                }
                false => text += &words,
            }
            text.push('\n');
            text
        };
        let mut first = true;
        loop {
            // Whether they still run is asked before the last of their output is read.
            let over = match self.follow {
                true => service::have_ended(&journal, sources.iter().map(|(name, _)| name))?,
                false => true,
            };
            let mut lines: Vec<(usize, Line)> = Vec::new();
            for (nth, (_, reader)) in sources.iter_mut().enumerate() {
                let mut own = Vec::new();
                let least = self.tail.filter(|_| since.is_none());
                reader.read(least, over, &mut |line| own.push((nth, line)))?;
                own.retain(|(_, line)| since.is_none_or(|since| line.at >= since));
                own.sort_by_key(|(_, line)| line.at);
                if let (true, Some(tail)) = (first, self.tail) {
                    own = own.split_off(own.len().saturating_sub(tail));
                }
                lines.extend(own);
            }
            lines.sort_by_key(|(_, line)| line.at);
            let mut text = String::new();
            for (nth, line) in &lines {
                let line_text = show(*nth, &sources[*nth].0, line);
                text += &line_text;
            }
            print(&text);
            first = false;
            if over {
                return Ok(0);
            }
            thread::sleep(Duration::from_millis(50));
        }
    }
}
