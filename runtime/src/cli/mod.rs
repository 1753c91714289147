//! The command line: what is typed becomes a call of the library, and its result becomes text and
//! an exit code. No decision about the kernel is made here.

mod deferred;
mod doctor;
mod enter;
mod limit;
mod log;
mod manage;
mod oci;
mod wrap;

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};

use self::deferred::Deferred;
use crate::error::{Error, Kind, Result};
use crate::host::journal::Journal;
use crate::host::seal;
use crate::sys::process;

/// As engines read it: `garth version`, then what else there is to know.
const VERSION: &str = concat!("version ", env!("CARGO_PKG_VERSION"), "\nspec: ", "1.3.0");

/// Garth runs a program inside a small enclosed yard.
#[derive(Debug, Parser)]
#[command(name = "garth", version = VERSION, about, max_term_width = 100, args_override_self = true)]
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
    /// State directory [default: /run/garth, or $XDG_RUNTIME_DIR/garth for other users than root]
    #[arg(long, global = true, env = "GARTH_ROOT", value_name = "DIR", hide_env_values = true)]
    root: Option<PathBuf>,
    #[command(flatten)]
    log: log::Log,
    /// Let systemd make the cgroups of containers
    #[arg(long, global = true, hide = true)]
    systemd_cgroup: bool,
    /// How cgroups of containers are made: cgroupfs, systemd or disabled
    #[arg(long, global = true, hide = true, value_name = "MANAGER")]
    cgroup_manager: Option<String>,
    /// For `spec`, an example for a caller who is not root; otherwise accepted and without effect:
    /// what is possible is found out
    #[arg(long, global = true, hide = true, value_name = "BOOL")]
    #[arg(num_args = 0..=1, default_missing_value = "true")]
    rootless: Option<String>,
    /// The program criu [default: looked for in PATH]
    #[arg(long, global = true, hide = true, value_name = "PATH")]
    criu: Option<PathBuf>,
}

impl Global {
    fn journal(&self) -> Journal {
        Journal::at(self.root.clone().unwrap_or_else(Journal::default_root))
    }
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run a command or daemon in a yard of its own
    Wrap(wrap::Wrap),
    /// Print what a command would do, step by step, and do nothing
    #[command(subcommand)]
    Explain(Explain),
    /// Make a container from an OCI bundle; its program waits for `start`
    Create(Deferred<oci::Create>),
    /// Start the program of a created container
    Start(Deferred<oci::Start>),
    /// Create and start a container, wait for its end, and delete it
    Run(Deferred<oci::Run>),
    /// Print the state of a container as JSON
    State(Deferred<oci::State>),
    /// List the containers
    List(Deferred<oci::List>),
    /// Stop every process of a container where it is
    Pause(Deferred<oci::Pause>),
    /// Let a paused container go on
    Resume(Deferred<oci::Resume>),
    /// Give a sandbox or a container that runs other limits
    Update(Deferred<oci::Update>),
    /// Tell what a container uses, and when it runs out of memory
    Events(Deferred<oci::Events>),
    /// Write an example of a config.json; with --rootless, one for a caller who is not root
    Spec(Deferred<oci::Spec>),
    /// Print what is implemented, as JSON
    Features,
    /// Write the state of a container that runs to files, by criu(8)
    Checkpoint(Deferred<oci::Checkpoint>),
    /// Make a container from a checkpoint
    Restore(Deferred<oci::Restore>),
    /// Change what is mounted in a container that runs
    #[command(subcommand)]
    Mounts(oci::Mounts),
    /// List the sandboxes that have a name, a network or limits; with an id, the processes of a
    /// container
    Ps(Deferred<manage::Ps>),
    /// Run a command inside a running sandbox
    Exec(Deferred<enter::Exec>),
    /// Send a signal to a sandbox
    Kill(Deferred<manage::Kill>),
    /// Release what an ended sandbox had
    Delete(Deferred<manage::Delete>),
    /// Tell what is there of what a sandbox or container has outside
    Check(Deferred<manage::Check>),
    /// Limit what runs already, or a command, to a rate or a part of the time
    Limit(Deferred<limit::Limit>),
    /// Release what crashes have left behind
    Gc,
    /// Tell what this host can do, by trying it, and what to do about the rest
    Doctor(Deferred<doctor::Doctor>),
}

impl Verb {
    /// The exit code for a failure of ours, where it is not the one of a wrapped command: as runc's.
    fn failed(&self, global: &Global) -> Option<i32> {
        let of_container = |id: &str| oci::is_container(&global.journal(), id);
        match self {
            Verb::Create(_) | Verb::Start(_) | Verb::Run(_) | Verb::State(_) => Some(oci::FAILED),
            Verb::Update(verb) if !of_container(verb.0.id()) => None,
            Verb::List(_) | Verb::Pause(_) | Verb::Resume(_) | Verb::Update(_) => Some(oci::FAILED),
            Verb::Events(_) | Verb::Mounts(_) | Verb::Spec(_) | Verb::Features => Some(oci::FAILED),
            Verb::Checkpoint(_) | Verb::Restore(_) => Some(oci::FAILED),
            Verb::Ps(verb) if verb.0.is_of_container() => Some(oci::FAILED),
            Verb::Exec(verb) if of_container(verb.0.id()) => Some(oci::EXEC_FAILED),
            Verb::Kill(verb) if of_container(verb.0.id()) => Some(oci::FAILED),
            Verb::Delete(verb) if of_container(verb.0.id()) => Some(oci::FAILED),
            _ => None,
        }
    }
}

#[derive(Debug, Subcommand)]
enum Explain {
    /// As `garth wrap`
    Wrap(wrap::ExplainWrap),
}

/// How a result is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people.
    #[value(alias = "table")]
    Text,
    /// For programs.
    Json,
}

/// The exit code for failures of garth itself.
const OURS: i32 = 125;

/// Runs the program; returns its exit code.
pub fn main() -> i32 {
    // A caller may have left it ignored, and then the kernel would reap our children for us.
    process::reset_sigchld();
    let args: Vec<OsString> = std::env::args_os().collect();
    // The verbs that need it ask for themselves; before the arguments are parsed it costs less, for
    // they are parsed again in the new start.
    if matches!(&*verb(&args), "create" | "run" | "exec")
        && let Err(error) = seal::own_program()
    {
        complain(&error);
        log::Log::of_arguments(&args).write("error", &error.to_string());
        return oci::FAILED;
    }
    let cli = match Cli::try_parse_from(&args) {
        Ok(cli) => cli,
        Err(error) => return usage(&error, &args),
    };
    let Cli { global, verb, .. } = cli;
    let failed = verb.failed(&global);
    match run(verb, &global, args) {
        Ok(code) => code,
        Err(error) => {
            complain(&error);
            global.log.write("error", &error.to_string());
            match (failed, error.get_kind()) {
                (Some(code), _) => code,
                (None, Kind::NotFound) => 127,
                (None, Kind::NotExecutable) => 126,
                (None, Kind::Refused) => OURS,
            }
        }
    }
}

fn run(verb: Verb, global: &Global, args: Vec<OsString>) -> Result<i32> {
    match verb {
        Verb::Wrap(verb) => verb.run(global, args),
        Verb::Explain(Explain::Wrap(verb)) => verb.run(global),
        Verb::Create(verb) => verb.0.run(global),
        Verb::Start(verb) => verb.0.run(global),
        Verb::Run(verb) => verb.0.run(global),
        Verb::State(verb) => verb.0.run(global),
        Verb::List(verb) => verb.0.run(global),
        Verb::Pause(verb) => verb.0.run(global),
        Verb::Resume(verb) => verb.0.run(global),
        Verb::Update(verb) => verb.0.run(global),
        Verb::Events(verb) => verb.0.run(global),
        Verb::Mounts(verb) => verb.run(global),
        Verb::Spec(verb) => verb.0.run(global),
        Verb::Features => oci::features(),
        Verb::Checkpoint(verb) => verb.0.run(global),
        Verb::Restore(verb) => verb.0.run(global),
        Verb::Ps(verb) => verb.0.run(global),
        Verb::Exec(verb) => verb.0.run(global),
        Verb::Kill(verb) => verb.0.run(global),
        Verb::Delete(verb) => verb.0.run(global),
        Verb::Check(verb) => verb.0.run(global),
        Verb::Limit(verb) => verb.0.run(global),
        Verb::Gc => manage::gc(global),
        Verb::Doctor(verb) => verb.0.run(global),
    }
}

/// One line on standard error, whatever a name in it holds.
fn complain(error: &Error) {
    tell(&error.to_string());
}

fn tell(line: &str) {
    let line = line.replace('\n', "\\n");
    let _ = writeln!(std::io::stderr(), "garth: {line}");
}

/// Help and version go to standard output; everything else is one line, like every other error.
fn usage(error: &clap::Error, args: &[OsString]) -> i32 {
    if !error.use_stderr() {
        let _ = error.print();
        return 0;
    }
    let text = error.render().to_string();
    if error.kind() == clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        let _ = error.print();
        return OURS;
    }
    // What is wrong comes first, then perhaps tips, then how the verb is used.
    let lines = text.lines().map(str::trim).take_while(|line| !line.starts_with("Usage:"));
    let mut words: Vec<&str> = lines.filter(|line| !line.is_empty()).collect();
    let tip = words.iter().position(|line| line.starts_with("tip:"));
    let tip = tip.map(|at| words.drain(at..).next().unwrap_or_default());
    let line = words.join(" ");
    let line = line.strip_prefix("error: ").unwrap_or(&line);
    let line = line.trim_end_matches("For more information, try '--help'.").trim_end();
    let hint = tip.and_then(|tip| tip.strip_prefix("tip: ")).unwrap_or("see --help");
    let error = Error::new(line).hint(hint);
    complain(&error);
    log::Log::of_arguments(args).write("error", &error.to_string());
    oci::usage(&verb(args)).unwrap_or(OURS)
}

/// The verb among these arguments, unparsed; empty when there is none.
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

/// Prints to standard output; a reader that has gone away is no failure of ours.
fn print(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}

fn to_json(value: &impl serde::Serialize) -> Result<String> {
    let text = serde_json::to_string_pretty(value);
    text.map(|text| text + "\n").map_err(|e| Error::new(format!("write JSON: {e}")))
}
