//! Starting a process: every way of libc, of Rust's library, and Garth's own, from parents of any size.

use std::io::Read;
use std::time::{Duration, Instant};

use super::machine::memory;
use super::{BenchReport, BenchTable, Contender, Effort, Tell, interleaved};
use crate::error::{Error, Result};
use crate::start::{Spawn, Stdio};
use crate::sys::Errno;
use crate::sys::spawners::{self, Resident};

const COLUMNS: [&str; 4] =
    ["ms until reaped", "ms caller blocked", "ms CPU of the caller", "ms CPU of the child"];

/// Bytes that the parent has resident, in words, and how many rounds are right.
const SIZES: [(usize, &str, usize); 4] =
    [(0, "nothing", 200), (100 << 20, "100 MB", 100), (1 << 30, "1 GB", 40), (4 << 30, "4 GB", 20)];

/// Starts `/bin/true` in all ways.
///
/// # Errors
/// One does not work.
pub fn spawn(effort: Effort, tell: Tell<'_>) -> Result<BenchReport> {
    let mut notes = vec![
        "vfork is clone with its flags (CLONE_VM, CLONE_VFORK); system and popen start a shell first".to_owned(),
        "garth::Spawn closes descriptors, resets signals and opens a pidfd in each start; the others do not".to_owned(),
    ];
    let available = memory("MemAvailable");
    let mut tables = Vec::new();
    for (bytes, size, usual) in SIZES {
        if effort.quick && bytes > 100 << 20 {
            notes.push(format!("a parent of {size}: left out, as only a short run was asked for"));
            continue;
        }
        if (bytes as u64).saturating_add(256 << 20) > available {
            notes.push(format!("a parent of {size}: left out, as less memory is free"));
            continue;
        }
        for huge in [false, true] {
            if bytes == 0 && huge {
                continue;
            }
            let pages = match (bytes, huge) {
                (0, _) => "",
                (_, false) => ", in pages of 4 kB",
                (_, true) => ", in huge pages where the kernel has some",
            };
            let title = format!("A parent with {size} resident{pages}");
            let resident = Resident::new(bytes, huge)
                .map_err(|errno| Error::os(format!("use {size} of memory"), errno))?;
            let rounds = effort.rounds(usual)?;
            let rows = interleaved(contenders(), rounds, COLUMNS.len(), &title, tell)?;
            drop(resident);
            let mut table = BenchTable {
                title,
                columns: COLUMNS.map(String::from).to_vec(),
                more_is_better: false,
                base: Some("vfork".into()),
                rows,
                conclusions: Vec::new(),
            };
            table.conclude("fork", "garth::Spawn");
            table.conclude("popen", "garth::Spawn with a pipe");
            table.conclude("garth::Spawn", "posix_spawn");
            tables.push(table);
        }
    }
    Ok(BenchReport::new("spawn", tables, notes))
}

fn contenders() -> Vec<Contender<'static>> {
    let mut stack = vec![0u128; 4096];
    vec![
        of_libc("vfork", move || spawners::vfork(&mut stack)),
        of_libc("clone3 VM+VFORK", spawners::clone3),
        of_libc("posix_spawn", spawners::posix_spawn),
        of_libc("fork", spawners::fork),
        of_libc("system", spawners::system),
        of_libc("popen", spawners::popen),
        of_libc("std::process::Command", || spawners::command(false)),
        of_libc("std::process::Command with pre_exec", || spawners::command(true)),
        measured("garth::Spawn", || {
            let begun = Instant::now();
            let spawn = Spawn { env: Some(Vec::new()), ..Spawn::new(["/bin/true"]) };
            let child = spawn.spawn()?;
            let blocked = begun.elapsed();
            child.process.wait()?;
            Ok((blocked, begun.elapsed()))
        }),
        measured("garth::Spawn with a pipe", || {
            let begun = Instant::now();
            let env = Some(Vec::new());
            let spawn = Spawn { env, stdout: Stdio::Pipe, ..Spawn::new(["/bin/true"]) };
            let mut child = spawn.spawn()?;
            let blocked = begun.elapsed();
            let mut all = Vec::new();
            if let Some(output) = &mut child.stdout {
                output.read_to_end(&mut all).map_err(|error| Error::io("read a pipe", &error))?;
            }
            child.process.wait()?;
            Ok((blocked, begun.elapsed()))
        }),
    ]
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn of_libc(
    name: &str,
    mut run: impl FnMut() -> Result<spawners::SpawnTimes, Errno> + 'static,
) -> Contender<'static> {
    Contender::new(name, move || {
        let before = spawners::own_time();
        let start = run().map_err(|errno| Error::os("start /bin/true", errno))?;
        let own = spawners::own_time().saturating_sub(before);
        Ok(vec![ms(start.total), ms(start.blocked), ms(own), ms(start.child)])
    })
}

fn measured(
    name: &str,
    mut run: impl FnMut() -> Result<(Duration, Duration)> + 'static,
) -> Contender<'static> {
    Contender::new(name, move || {
        let (own, children) = (spawners::own_time(), spawners::children_time());
        let (blocked, total) = run()?;
        let own = spawners::own_time().saturating_sub(own);
        let child = spawners::children_time().saturating_sub(children);
        Ok(vec![ms(total), ms(blocked), ms(own), ms(child)])
    })
}
