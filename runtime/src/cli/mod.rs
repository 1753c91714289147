//! The command line: what is typed becomes a call of the library, and its result becomes text and
//! an exit code. No decision about the kernel is made here.

mod doctor;
mod enter;
mod manage;
mod wrap;

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::error::{Error, Kind, Result};
use crate::host::journal::Journal;
use crate::sys::process;

/// Garth runs a program inside a small enclosed yard.
#[derive(Debug, Parser)]
#[command(name = "garth", version, about, max_term_width = 100)]
struct Cli {
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
    /// List the sandboxes that have a name, a network or limits
    Ps(manage::Ps),
    /// Run a command inside a running sandbox
    Exec(enter::Exec),
    /// Send a signal to a sandbox
    Kill(manage::Kill),
    /// Release what an ended sandbox had
    Delete(manage::Delete),
    /// Release what crashes have left behind
    Gc,
    /// Tell what this host can do, by trying it, and what to do about the rest
    Doctor(doctor::Doctor),
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
    let cli = match Cli::try_parse_from(&args) {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    match run(cli, args) {
        Ok(code) => code,
        Err(error) => {
            complain(&error);
            match error.get_kind() {
                Kind::NotFound => 127,
                Kind::NotExecutable => 126,
                Kind::Refused => OURS,
            }
        }
    }
}

fn run(cli: Cli, args: Vec<OsString>) -> Result<i32> {
    let global = cli.global;
    match cli.verb {
        Verb::Wrap(verb) => verb.run(&global, args),
        Verb::Explain(Explain::Wrap(verb)) => verb.run(&global),
        Verb::Ps(verb) => verb.run(&global),
        Verb::Exec(verb) => verb.run(&global),
        Verb::Kill(verb) => verb.run(&global),
        Verb::Delete(verb) => verb.run(&global),
        Verb::Gc => manage::gc(&global),
        Verb::Doctor(verb) => verb.run(&global),
    }
}

/// One line on standard error, whatever a name in it holds.
fn complain(error: &Error) {
    let line = error.to_string().replace('\n', "\\n");
    let _ = writeln!(std::io::stderr(), "garth: {line}");
}

/// Help and version go to standard output; everything else is one line, like every other error.
fn usage(error: &clap::Error) -> i32 {
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
    complain(&Error::new(line).hint(hint));
    OURS
}

/// Prints to standard output; a reader that has gone away is no failure of ours.
fn print(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}

fn to_json(value: &impl serde::Serialize) -> Result<String> {
    let text = serde_json::to_string_pretty(value);
    text.map(|text| text + "\n").map_err(|e| Error::new(format!("write JSON: {e}")))
}
