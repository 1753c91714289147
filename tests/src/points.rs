//! Kill points: places where a command can be killed so that everything before has happened and
//! nothing after.
//!
//! A point is the n-th call of one state-changing system call. strace counts them once; then the
//! same command runs again for each point and is killed there, on entering the call. strace counts
//! per process: without `-f` the points are those of the command's own process, with `-f` also
//! those of its children.
//!
//! `KILLPOINTS=all` takes every point; a number takes that many, spread evenly.

use std::collections::BTreeMap;
use std::env;
use std::fmt;
use std::thread::sleep;
use std::time::Duration;

/// The state-changing system calls, as strace's `-e trace=` takes them.
pub const CHANGES: &str = "clone,clone3,fork,vfork,execve,execveat,exit_group,unshare,setns,\
    mkdir,mkdirat,rmdir,unlink,unlinkat,rename,renameat,renameat2,symlink,symlinkat,link,linkat,\
    open,openat,openat2,write,pwrite64,writev,ftruncate,fallocate,fchmod,fchown,fsync,fdatasync,\
    flock,fcntl,memfd_create,socket,bind,connect,listen,sendto,sendmsg,sendmmsg,recvfrom,recvmsg,\
    mount,umount2,pivot_root,open_tree,move_mount,mount_setattr,fsopen,fsmount,fsconfig,chroot,\
    sethostname,setsid,setresuid,setresgid,setgroups,capset,prctl,seccomp,prlimit64,kill,\
    pidfd_send_signal,wait4,waitid,close,close_range";

/// One kill point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Point {
    /// The name of the system call.
    pub call: String,
    /// Which one of its calls, from 1 on.
    pub n: u32,
}

impl Point {
    /// strace's options for a kill here, and for a trace that shows whether it was reached.
    pub fn strace(&self, trace: &str) -> String {
        let Point { call, n } = self;
        format!("-o {trace} -e trace={call} -e inject={call}:signal=KILL:when={n}")
    }

    /// Was a process killed here? `pids` as for [`points`]. strace may not have written its last
    /// line yet when the command has ended.
    pub fn was_reached(&self, trace: impl Fn() -> String, pids: bool) -> bool {
        for _ in 0..20 {
            if self.is_end(&trace(), pids) {
                return true;
            }
            sleep(Duration::from_millis(10));
        }
        false
    }

    fn is_end(&self, trace: &str, pids: bool) -> bool {
        counts(trace, pids).iter().any(|((call, pid), count)| {
            let killed = |line: &str| {
                line.strip_prefix(pid)
                    .is_some_and(|line| line.trim_start() == "+++ killed by SIGKILL +++")
            };
            *call == self.call && *count == self.n && trace.lines().any(killed)
        })
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.call, self.n)
    }
}

/// The points in a trace: a system call and how often the busiest process makes it. With `pids`, as
/// strace's `-f` writes it, each line begins with a pid.
pub fn points(trace: &str, pids: bool) -> Vec<Point> {
    // strace attaches when the command is already being executed.
    let trace = match trace.split_once('\n') {
        Some((first, rest)) if first.contains("execve(") => rest,
        _ => trace,
    };
    let mut most = BTreeMap::<&str, u32>::new();
    for ((name, _), count) in counts(trace, pids) {
        let entry = most.entry(name).or_default();
        *entry = count.max(*entry);
    }
    most.into_iter()
        .flat_map(|(name, count)| (1..=count).map(move |n| Point { call: name.to_owned(), n }))
        .collect()
}

/// How many of the tried points were reached: runs differ slightly, and where no process was killed
/// nothing was tested.
#[derive(Debug, Default)]
pub struct Tally {
    tried: usize,
    missed: Vec<String>,
}

impl Tally {
    /// Counts one more.
    pub fn count(&mut self, point: &Point, reached: bool) {
        self.tried += 1;
        if !reached {
            self.missed.push(point.to_string());
        }
    }

    /// Reports it, and fails if less than a third was reached: a process that waits by polling
    /// makes more calls in one run than in another.
    #[track_caller]
    pub fn finish(self, what: &str) {
        let Tally { tried, missed } = self;
        let names = missed.join(", ");
        let killed = tried - missed.len();
        println!("{what}: killed at {killed} points; not reached: {} {names}", missed.len());
        assert!(killed * 3 >= tried, "{what}: of {tried} points these were not reached: {names}");
    }
}

/// How often each process makes each call.
fn counts(trace: &str, pids: bool) -> BTreeMap<(&str, &str), u32> {
    let mut counts = BTreeMap::new();
    for line in trace.lines() {
        // `1234 mkdir("/run", 0755) = 0`
        let (pid, call) = if pids { line.split_once(' ').unwrap() } else { ("", line) };
        let call = call.trim_start();
        if let Some((name, _)) = call.split_once('(').filter(|_| !call.starts_with(['<', '-', '+']))
        {
            *counts.entry((name, pid)).or_default() += 1;
        }
    }
    counts
}

/// The requested points: `few` of them unless `KILLPOINTS` says otherwise.
pub fn sample(all: &[Point], few: usize) -> Vec<Point> {
    let wanted = match env::var("KILLPOINTS").as_deref() {
        Ok("all") => all.len(),
        Ok(number) => number.parse().expect("KILLPOINTS is `all` or a number"),
        Err(_) => few,
    };
    let wanted = wanted.clamp(1, all.len());
    (0..wanted).map(|i| all[i * all.len() / wanted].clone()).collect()
}
