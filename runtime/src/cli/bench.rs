//! `garth bench`.

use std::fs::{self, OpenOptions};
use std::io::{IsTerminal, stderr};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};

use super::output::print;
use super::{Global, shown, to_json};
use crate::error::{Error, Result};
use crate::measure::bench::{
    self, BenchProgress, BenchReport, Ciphers, Effort, compare, markdown, svg,
};
use crate::sys::process::Signals;

/// Which bench.
#[derive(Debug, Subcommand)]
pub enum Bench {
    Spawn(SpawnBench),
    Start(StartBench),
    Link(LinkBench),
    SshCiphers(CipherBench),
    Report(PageBench),
    Sink(SinkBench),
}

/// Measure every way to start a process, from parents of several sizes
#[derive(Debug, Args)]
pub struct SpawnBench {
    #[command(flatten)]
    how: How,
}

/// Measure starts of sandboxes and containers beside what else is installed
#[derive(Debug, Args)]
pub struct StartBench {
    #[command(flatten)]
    how: How,
}

/// Measure a transfer through each way into a sandbox, with the account of every layer
#[derive(Debug, Args)]
pub struct LinkBench {
    #[command(flatten)]
    how: How,
}

/// Receive what comes to a port and throw it away, until killed: what bench link runs in its sandbox
#[derive(Debug, Args)]
pub struct SinkBench {
    /// The port, on all addresses
    port: u16,
}

/// Measure OpenSSH's ciphers through a sandboxed sshd
///
/// Its keys and its user are made for the occasion; nothing of the host's ssh is touched. With AES instructions, and
/// without them.
#[derive(Debug, Args)]
pub struct CipherBench {
    /// Only ciphers whose names contain this
    #[arg(long, value_name = "PART")]
    cipher: Vec<String>,
    /// Only this MAC, where one is used
    #[arg(long)]
    mac: Option<String>,
    #[command(flatten)]
    how: How,
}

/// Write a page with all reports of a directory
///
/// They are the files that --json has written there. The page is DIR/index.html, and needs nothing else.
#[derive(Debug, Args)]
pub struct PageBench {
    /// The directory
    dir: PathBuf,
}

/// What all benches take.
#[derive(Debug, Args)]
struct How {
    /// Only so much that it is seen to work
    #[arg(long)]
    quick: bool,
    /// How often each is measured
    #[arg(long, value_name = "N")]
    rounds: Option<usize>,
    /// Write the report as JSON, for --compare
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write a chart
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Say which figures have changed since an earlier report
    #[arg(long, value_name = "FILE")]
    compare: Option<PathBuf>,
}

impl Bench {
    pub(super) fn run(self, global: &Global) -> Result<i32> {
        match self {
            Bench::Spawn(SpawnBench { how }) => how.run(bench::spawn),
            Bench::Start(StartBench { how }) => {
                let garth = own_program()?;
                how.run(|effort, tell| bench::start(&garth, effort, tell))
            }
            Bench::Link(LinkBench { how }) => {
                let garth = own_program()?;
                how.run(|effort, tell| bench::link(&garth, &global.journal(), effort, tell))
            }
            Bench::Report(PageBench { dir }) => {
                let file = dir.join("index.html");
                write(&file, &bench::page(&dir)?)?;
                print(&format!("{}\n", shown(&file.display().to_string())));
                Ok(0)
            }
            Bench::Sink(SinkBench { port }) => bench::sink(port).map(|()| 0),
            Bench::SshCiphers(CipherBench { cipher, mac, how }) => {
                let garth = own_program()?;
                let which = Ciphers { only: cipher, mac };
                how.run(|effort, tell| {
                    bench::ssh_ciphers(&garth, &global.journal(), &which, effort, tell)
                })
            }
        }
    }
}

fn own_program() -> Result<PathBuf> {
    std::env::current_exe().map_err(|error| Error::io("find the program's file", &error))
}

impl How {
    fn run(
        self,
        bench: impl FnOnce(Effort, bench::Tell<'_>) -> Result<BenchReport>,
    ) -> Result<i32> {
        // What is wrong with a file is known before minutes are spent.
        let old = self.compare.as_deref().map(read).transpose()?;
        for file in [&self.json, &self.svg].into_iter().flatten() {
            // What it has is lost only for a new report.
            let opened = OpenOptions::new().append(true).create(true).open(file);
            opened.map_err(|error| Error::io(format!("write {}", file.display()), &error))?;
        }
        let effort = Effort { quick: self.quick, rounds: self.rounds };
        let mut bar = Bar::new();
        let signals = Signals::block_ends().map_err(|errno| Error::os("block signals", errno))?;
        let interrupted = || Error::new("interrupted");
        let report = bench(effort, &mut |progress| {
            bar.show(progress);
            if signals.ask_to_end() { Err(interrupted()) } else { Ok(()) }
        });
        bar.end();
        // A terminal's ctrl-C has also reached what was measured.
        let report = report.map_err(|error| match signals.ask_to_end() {
            true => interrupted(),
            false => error,
        })?;
        print(&markdown(&report));
        if let Some(old) = old {
            print("\n");
            for line in compare(&old, &report)? {
                print(&format!("{}\n", shown(&line)));
            }
        }
        if let Some(file) = &self.json {
            write(file, &to_json(&report)?)?;
        }
        if let Some(file) = &self.svg {
            write(file, &svg(&report)?)?;
        }
        Ok(0)
    }
}

fn read(file: &Path) -> Result<BenchReport> {
    let text = fs::read_to_string(file)
        .map_err(|error| Error::io(format!("read {}", file.display()), &error))?;
    BenchReport::parse(&text).map_err(|error| error.within(format_args!("{}", file.display())))
}

fn write(file: &Path, text: &str) -> Result<()> {
    fs::write(file, text).map_err(|error| Error::io(format!("write {}", file.display()), &error))
}

/// How far it is, on a terminal.
struct Bar(Option<ProgressBar>);

impl Bar {
    fn new() -> Bar {
        Bar(stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{bar:30} {percent:>3}% {eta:>4} left  {msg}");
            let bar = ProgressBar::new(0);
            style.into_iter().for_each(|style| bar.set_style(style));
            bar
        }))
    }

    fn show(&mut self, progress: BenchProgress<'_>) {
        if let Some(bar) = &self.0 {
            if bar.message() != progress.what {
                bar.reset();
                bar.set_length(progress.all);
                bar.set_message(progress.what.to_owned());
            }
            bar.set_position(progress.done);
        }
    }

    fn end(&mut self) {
        if let Some(bar) = self.0.take() {
            bar.finish_and_clear();
        }
    }
}
