//! The command line: turns arguments into a call of the library, and its result into text and an
//! exit code. No decision about the kernel is made here.

mod alone;
mod attach;
mod bench;
mod doctor;
mod enter;
mod export;
mod figures;
mod habits;
mod help;
mod limit;
mod log;
mod manage;
mod oci;
mod output;
mod services;
mod stats;
mod systemd;
mod top;
mod volume;
mod volume_tree;
mod volume_upkeep;
mod wrap;

use std::ffi::OsString;
use std::io::{Write, stderr, stdout};
use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};

use crate::error::{Error, Kind, Result};
use crate::journal::Journal;
use crate::service::Face;
use crate::sys::process;
use output::{caution, complain, exit_code, print, shown, tell, warn};

/// In the form engines parse: `garth version`, then further lines.
const VERSION: &str = concat!("version ", env!("CARGO_PKG_VERSION"), "\nspec: ", "1.3.0");

/// Run commands and daemons in sandboxes
///
/// A sandbox is a private environment for an installed program: processes, /tmp and network of its
/// own, the host's files read-only, few privileges, and limits. The same program is an OCI runtime,
/// which podman, docker and containerd use to run containers.
#[derive(Debug, Parser)]
#[command(name = "garth", version = VERSION, max_term_width = 100, args_override_self = true)]
#[command(disable_version_flag = true)]
struct Cli {
    /// Print the version
    #[arg(short = 'v', short_alias = 'V', long, action = ArgAction::Version)]
    version: Option<bool>,
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    verb: Verb,
}

/// Options of every verb.
#[derive(Debug, Args)]
struct Global {
    /// State directory [default: /run/garth; without root $XDG_RUNTIME_DIR/garth]
    #[arg(long, global = true, env = "GARTH_ROOT", value_name = "DIR", hide_env_values = true)]
    root: Option<PathBuf>,
    #[command(flatten)]
    log: log::Log,
    /// Let systemd create the cgroup, as a scope
    #[arg(long, global = true, hide = true)]
    systemd_cgroup: bool,
    /// How to manage container cgroups: cgroupfs, systemd or disabled
    #[arg(long, global = true, hide = true, value_name = "MANAGER")]
    cgroup_manager: Option<String>,
    /// With `spec`, write an example for an unprivileged user; otherwise accepted and ignored
    #[arg(long, global = true, hide = true, value_name = "BOOL")]
    #[arg(num_args = 0..=1, default_missing_value = "true")]
    rootless: Option<String>,
    /// Path of the criu binary [default: search PATH]
    #[arg(long, global = true, hide = true, value_name = "PATH")]
    criu: Option<PathBuf>,
}

impl Global {
    fn journal(&self) -> Journal {
        Journal::at(self.root.clone().unwrap_or_else(Journal::default_root))
    }
}

// A verb without a comment is described by that of its options.
#[derive(Debug, Subcommand)]
enum Verb {
    Wrap(Box<wrap::Wrap>),
    /// Print what a command would do, step by step, without doing it
    #[command(subcommand)]
    Explain(Explain),
    Create(oci::Create),
    Start(oci::Start),
    Run(oci::Run),
    State(oci::State),
    List(oci::List),
    Pause(oci::Pause),
    Resume(oci::Resume),
    Update(oci::Update),
    Events(oci::Events),
    Spec(oci::Spec),
    /// Print the supported features as JSON
    Features,
    Checkpoint(oci::Checkpoint),
    Restore(oci::Restore),
    /// Change the mounts of a running container
    #[command(subcommand)]
    Mounts(oci::Mounts),
    Up(services::Up),
    Down(services::Down),
    Config(services::Config),
    Logs(services::Logs),
    Ps(manage::Ps),
    Stats(stats::Stats),
    Top(top::Top),
    Metrics(stats::Metrics),
    /// Measure this machine and its tools, with medians and spreads
    #[command(subcommand)]
    Bench(bench::Bench),
    Exec(enter::Exec),
    Attach(attach::Attach),
    Kill(manage::Kill),
    Delete(manage::Delete),
    Check(manage::Check),
    Limit(limit::Limit),
    Wait(manage::Wait),
    /// Print a service file made from a systemd unit
    #[command(subcommand)]
    Import(systemd::Import),
    /// Print a systemd unit for a service, or serve disks
    #[command(subcommand)]
    Export(export::Export),
    /// Make and look after RAID volumes
    #[command(subcommand)]
    Volume(volume::Volume),
    /// Clean up after crashes
    Gc,
    Doctor(doctor::Doctor),
    Completions(help::Completions),
    Man(help::Man),
}

impl Verb {
    /// The exit code for failures of garth itself if, as with runc, it is not that of `wrap`.
    fn failed(&self, global: &Global) -> Option<i32> {
        // If that cannot be determined, the code that engines expect.
        let of_container = |id: &str| !matches!(Face::of(&global.journal(), id), Ok(Face::Sandbox));
        match self {
            Verb::Create(_) | Verb::Start(_) | Verb::Run(_) | Verb::State(_) => Some(oci::FAILED),
            Verb::Update(verb) if !of_container(verb.id()) => None,
            Verb::List(_) | Verb::Pause(_) | Verb::Resume(_) | Verb::Update(_) => Some(oci::FAILED),
            Verb::Events(_) | Verb::Mounts(_) | Verb::Spec(_) | Verb::Features => Some(oci::FAILED),
            Verb::Checkpoint(_) | Verb::Restore(_) => Some(oci::FAILED),
            Verb::Ps(verb) if verb.is_of_container() => Some(oci::FAILED),
            Verb::Exec(verb) if of_container(verb.id()) => Some(oci::EXEC_FAILED),
            Verb::Kill(verb) if of_container(verb.id()) => Some(oci::FAILED),
            Verb::Delete(verb) if of_container(verb.id()) => Some(oci::FAILED),
            _ => None,
        }
    }
}

#[derive(Debug, Subcommand)]
enum Explain {
    /// Explain `garth wrap`
    Wrap(Box<wrap::ExplainWrap>),
    /// Explain `garth up`
    Up(services::ExplainUp),
    /// Explain `garth volume`
    #[command(subcommand)]
    Volume(volume::ExplainVolume),
}

/// Output format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Human-readable
    #[value(alias = "table")]
    Text,
    /// JSON
    Json,
}

/// The exit code for failures of garth itself.
const OURS: i32 = 125;

/// Runs the program; returns its exit code.
pub fn main() -> i32 {
    process::begin();
    let args: Vec<OsString> = std::env::args_os().collect();
    let (global, verb) = match parse(&args) {
        Ok(parsed) => parsed,
        Err(error) => return exit_code(usage(&error, &args), OURS),
    };
    let failed = verb.failed(&global);
    if let Err(error) = global.log.check() {
        // Killing and removing must work even if the disk is full.
        if !matches!(verb, Verb::Kill(_) | Verb::Delete(_) | Verb::Gc) {
            complain(&error);
            return failed.unwrap_or(OURS);
        }
        caution(&error.to_string());
    }
    match run(verb, &global) {
        Ok(code) => exit_code(code, failed.unwrap_or(OURS)),
        Err(error) => {
            complain(&error);
            global.log.write("error", &error.to_string());
            match (failed, error.get_kind()) {
                (Some(code), _) => code,
                (None, Kind::NotFound) => 127,
                (None, Kind::NotExecutable) => 126,
                (None, Kind::Refused | Kind::WrongState) => OURS,
            }
        }
    }
}

fn parse(args: &[OsString]) -> Result<(Global, Verb), clap::Error> {
    let quick = match &*verb(args) {
        "wrap" => alone::parse("wrap", args, |verb| Verb::Wrap(Box::new(verb))),
        "create" => alone::parse("create", args, Verb::Create),
        "start" => alone::parse("start", args, Verb::Start),
        "run" => alone::parse("run", args, Verb::Run),
        "state" => alone::parse("state", args, Verb::State),
        "exec" => alone::parse("exec", args, Verb::Exec),
        "kill" => alone::parse("kill", args, Verb::Kill),
        "delete" => alone::parse("delete", args, Verb::Delete),
        _ => None,
    };
    match quick {
        Some(parsed) => Ok(parsed),
        None => help::parse(args),
    }
}

fn run(verb: Verb, global: &Global) -> Result<i32> {
    match verb {
        Verb::Wrap(verb) => verb.run(global),
        Verb::Wait(verb) => verb.run(global),
        Verb::Import(verb) => verb.run(global),
        Verb::Export(verb) => verb.run(global),
        Verb::Explain(Explain::Wrap(verb)) => verb.run(global),
        Verb::Explain(Explain::Up(verb)) => verb.run(global),
        Verb::Explain(Explain::Volume(verb)) => verb.run(global),
        Verb::Volume(verb) => verb.run(global),
        Verb::Up(verb) => verb.run(global),
        Verb::Down(verb) => verb.run(global),
        Verb::Config(verb) => verb.run(),
        Verb::Logs(verb) => verb.run(global),
        Verb::Create(verb) => verb.run(global),
        Verb::Start(verb) => verb.run(global),
        Verb::Run(verb) => verb.run(global),
        Verb::State(verb) => verb.run(global),
        Verb::List(verb) => verb.run(global),
        Verb::Pause(verb) => verb.run(global),
        Verb::Resume(verb) => verb.run(global),
        Verb::Update(verb) => verb.run(global),
        Verb::Events(verb) => verb.run(global),
        Verb::Mounts(verb) => verb.run(global),
        Verb::Spec(verb) => verb.run(global),
        Verb::Features => oci::features(),
        Verb::Checkpoint(verb) => verb.run(global),
        Verb::Restore(verb) => verb.run(global),
        Verb::Ps(verb) => verb.run(global),
        Verb::Stats(verb) => verb.run(global),
        Verb::Top(verb) => verb.run(global),
        Verb::Metrics(verb) => verb.run(global),
        Verb::Bench(verb) => verb.run(global),
        Verb::Exec(verb) => verb.run(global),
        Verb::Attach(verb) => verb.run(global),
        Verb::Kill(verb) => verb.run(global),
        Verb::Delete(verb) => verb.run(global),
        Verb::Check(verb) => verb.run(global),
        Verb::Limit(verb) => verb.run(global),
        Verb::Gc => manage::gc(global),
        Verb::Doctor(verb) => verb.run(global),
        Verb::Completions(verb) => verb.run(),
        Verb::Man(verb) => verb.run(),
    }
}

/// Help and version go to standard output; usage errors are one line, like every other error.
fn usage(error: &clap::Error, args: &[OsString]) -> i32 {
    if !error.use_stderr() {
        print(&output::rendered(&error.render(), &stdout()));
        return 0;
    }
    let failed = oci::usage(&verb(args), error).unwrap_or(OURS);
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        // Without arguments, print the same as --help, like runc.
        if args.len() <= 1 {
            print(&output::rendered(&error.render(), &stdout()));
            return 0;
        }
        let _ = write!(stderr(), "{}", output::rendered(&error.render(), &stderr()));
        return failed;
    }
    let text = error.render().to_string();
    // First comes the error, then possibly tips, then the usage of the verb.
    let lines = text.lines().map(str::trim).take_while(|line| !line.starts_with("Usage:"));
    let mut words: Vec<&str> = lines.filter(|line| !line.is_empty()).collect();
    let tip = words.iter().position(|line| line.starts_with("tip:"));
    let tip = tip.map(|at| words.drain(at..).next().unwrap_or_default());
    let line = words.join(" ");
    let line = line.strip_prefix("error: ").unwrap_or(&line);
    let line = line.trim_end_matches("For more information, try '--help'.").trim_end();
    let tip = tip.and_then(|tip| tip.strip_prefix("tip: "));
    let nearest = help::nearest(error).map(|verb| format!("a similar subcommand exists: '{verb}'"));
    let hint = habits::hint(&verb(args), error).or(tip).or(nearest.as_deref());
    let hint = hint.unwrap_or("see --help");
    let error = Error::new(line).hint(hint);
    complain(&error);
    log::Log::of_arguments(args).write("error", &error.to_string());
    failed
}

/// The verb among these unparsed arguments; empty if there is none.
fn verb(args: &[OsString]) -> String {
    const WITH_VALUE: [&str; 6] =
        ["--root", "--log", "--log-format", "--cgroup-manager", "--rootless", "--criu"];
    let mut args = args.iter().skip(1).map(|arg| arg.to_string_lossy());
    while let Some(arg) = args.next() {
        if WITH_VALUE.contains(&&*arg) {
            args.next();
        } else if !arg.starts_with('-') {
            return arg.into_owned();
        }
    }
    String::new()
}

fn to_json(value: &impl serde::Serialize) -> Result<String> {
    let text = serde_json::to_string_pretty(value);
    text.map(|text| text + "\n").map_err(|e| Error::new(format!("write JSON: {e}")))
}
