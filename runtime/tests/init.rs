//! `garth-init` as pid 1 of a real pid namespace, and `garth-keeper` outside one.
//!
//! A shell stands in for Garth: as pid 1 it starts the command, then becomes `garth-init`. The
//! sealed file comes in as stdin; the modes are chosen by symbolic links with the right name. /proc
//! stays the host's, so that the test sees pids it can use.

#![expect(clippy::unwrap_used, reason = "where a helper fails, the test fails")]

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use garth::sys::init::sealed;
use garth::sys::keeper;

const NOBODY: &[&str] = &["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];

/// Keeps a shell alive that only runs its traps.
const LOOP: &str = "while :; do sleep 0.01; done";

/// A minimal sandbox: a pid namespace with garth-init and a command.
struct Sandbox {
    unshare: Child,
    init: u32,
    links: PathBuf,
}

impl Sandbox {
    /// Runs `script` in sh under garth-init, and waits until pid 1 is garth-init. `None`, with the
    /// reason printed, where namespaces cannot be made.
    fn start(script: &str) -> Option<Sandbox> {
        Sandbox::start_as(&[], script)
    }

    fn start_as(who: &[&str], script: &str) -> Option<Sandbox> {
        let links = links();
        let mut command = unshare()?;
        let unshare = command
            .args(who)
            .args(["sh", "-c"])
            .arg(
                "exec 9<&0 </dev/null
                env --default-signal sh -c \"$1\" 9<&- &
                exec env -i --block-signal \"$2\" $!",
            )
            .args(["_", script])
            .arg(links.join("garth-init"))
            .stdin(sealed().unwrap())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let init = until("pid 1 becomes garth-init", || {
            let init = *children(unshare.id()).first()?;
            runs(init, "garth-init").then_some(init)
        });
        Some(Sandbox { unshare, init, links })
    }

    /// The command's process, once it runs the program `name`.
    fn command(&self, name: &str) -> u32 {
        until("the command runs", || children(self.init).into_iter().find(|pid| runs(*pid, name)))
    }

    fn lines(&mut self) -> impl Iterator<Item = String> + use<> {
        BufReader::new(self.unshare.stdout.take().unwrap()).lines().map(Result::unwrap)
    }

    fn exit_code(&mut self) -> Option<i32> {
        self.unshare.wait().unwrap().code()
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        // When pid 1 ends, so does the namespace.
        if self.unshare.try_wait().unwrap().is_none() {
            kill("KILL", self.init);
            self.unshare.wait().unwrap();
        }
        fs::remove_dir_all(&self.links).unwrap();
    }
}

/// A directory of our own with links `garth-init` and `garth-keeper` to whatever fd 9 is.
fn links() -> PathBuf {
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let links = std::env::temp_dir().join(format!("garth-test-{}-{number}", std::process::id()));
    fs::create_dir(&links).unwrap();
    for name in ["garth-init", "garth-keeper"] {
        std::os::unix::fs::symlink("/proc/self/fd/9", links.join(name)).unwrap();
    }
    links
}

/// `unshare` into a pid namespace, by root, or by any user where user namespaces are allowed.
fn unshare() -> Option<Command> {
    let user: &[_] = if is_root() { &[] } else { &["--user", "--map-root-user"] };
    let mut probe = Command::new("unshare");
    probe.args(user).args(["--pid", "--fork", "true"]);
    if !probe.output().is_ok_and(|output| output.status.success()) {
        garth_needs::skip("root", &format!("root or user namespaces ({probe:?} fails)"));
        return None;
    }
    let mut command = Command::new("unshare");
    command.args(user).args(["--pid", "--fork", "--"]);
    Some(command)
}

fn is_root() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    status.lines().any(|line| line.starts_with("Uid:\t0\t0"))
}

/// Polls until `probe` has an answer; a test never sleeps and hopes.
fn until<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(answer) = probe() {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited too long: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn children(pid: u32) -> Vec<u32> {
    let list = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    list.split_whitespace().map(|pid| pid.parse().unwrap()).collect()
}

/// Whether `pid` has executed a program with this name (and is not about to).
fn runs(pid: u32, name: &str) -> bool {
    let cmdline = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    cmdline.split('\0').next().and_then(|path| path.rsplit('/').next()) == Some(name)
}

fn kill(signal: &str, pid: u32) {
    let status = Command::new("kill").args(["-s", signal, &pid.to_string()]).status().unwrap();
    assert!(status.success(), "kill -s {signal} {pid}");
}

#[test]
fn the_exit_code_is_the_commands() {
    for code in [0, 1, 77, 255] {
        let script = format!("trap 'exit {code}' TERM; echo ready; {LOOP}");
        let Some(mut sandbox) = Sandbox::start(&script) else { return };
        assert_eq!(sandbox.lines().next().unwrap(), "ready");
        kill("TERM", sandbox.init);
        assert_eq!(sandbox.exit_code(), Some(code));
    }
}

#[test]
fn a_signal_that_ends_the_command_becomes_128_plus_its_number() {
    for (signal, code) in [("KILL", 137), ("SEGV", 139), ("TERM", 143)] {
        let Some(mut sandbox) = Sandbox::start("exec sleep 60") else { return };
        kill(signal, sandbox.command("sleep"));
        assert_eq!(sandbox.exit_code(), Some(code));
    }
}

#[test]
fn a_command_that_ended_before_the_exec_is_not_waited_for() {
    let Some(mut command) = unshare() else { return };
    let links = links();
    // The second shell reads until the child has ended; without SIGCHLD it does not reap it.
    let script = "exec 9<&0 </dev/null; mkfifo $1/end; (exit 5) >$1/end & exec env --block-signal \
         sh -c 'read end <$1/end; exec $1/garth-init $2' _ $1 $!";
    command.args(["sh", "-c", script, "_"]).arg(&links);
    assert_eq!(command.stdin(sealed().unwrap()).status().unwrap().code(), Some(5));
    fs::remove_dir_all(links).unwrap();
}

#[test]
fn orphans_are_reaped() {
    let script = "for i in $(seq 20); do (sleep 0.1 &); done; echo ready; exec sleep 60";
    let Some(mut sandbox) = Sandbox::start(script) else { return };
    assert_eq!(sandbox.lines().next().unwrap(), "ready");
    // Running orphans are adopted, ended ones are gone: no zombie is left beside the command.
    until("all orphans are gone", || (children(sandbox.init).len() == 1).then_some(()));
    sandbox.command("sleep");
}

#[test]
fn the_rest_of_the_sandbox_ends_with_the_command() {
    let Some(mut sandbox) = Sandbox::start("(sleep 60 &); exec tail -f /dev/null") else { return };
    let orphan = sandbox.command("sleep");
    kill("TERM", sandbox.init);
    assert_eq!(sandbox.exit_code(), Some(143));
    assert!(!fs::exists(format!("/proc/{orphan}")).unwrap());
}

#[test]
fn signals_are_forwarded() {
    let signals = ["HUP", "INT", "QUIT", "USR1", "USR2", "TERM", "WINCH", "TSTP", "CONT", "RTMIN"];
    let traps = signals.map(|signal| match signal {
        "RTMIN" => "trap 'echo RTMIN' 34; ".to_owned(),
        signal => format!("trap 'echo {signal}' {signal}; "),
    });
    let script = format!("{} echo ready; {LOOP}", traps.concat());
    let Some(mut sandbox) = Sandbox::start(&script) else { return };
    let mut lines = sandbox.lines();
    assert_eq!(lines.next().unwrap(), "ready");
    for signal in signals {
        kill(signal, sandbox.init);
        assert_eq!(lines.next().unwrap(), signal);
    }
}

#[test]
fn the_command_may_signal_pid_1_and_means_itself() {
    let script = format!("trap 'kill -TERM 1; sleep 60' USR1; echo ready; {LOOP}");
    let Some(mut sandbox) = Sandbox::start(&script) else { return };
    assert_eq!(sandbox.lines().next().unwrap(), "ready");
    kill("USR1", sandbox.init);
    assert_eq!(sandbox.exit_code(), Some(143));
}

#[test]
fn a_key_on_the_terminal_reaches_the_command_once() {
    // A terminal cannot also be the file, and only root may reopen the file.
    if !is_root() {
        return garth_needs::skip("root", "root");
    }
    let (links, file) = (links(), sealed().unwrap());
    let path = format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd());
    let command =
        "trap 'echo int' INT; trap 'echo end; exit' USR1; echo ready; $LOOP".replace("$LOOP", LOOP);
    // script(1) gives a terminal whose foreground process group has init and the command.
    let script = "unshare --pid --fork sh -c 'env --default-signal sh -c \"$COMMAND\" 9<&- & \
         exec env --block-signal \"$LINKS/garth-init\" $!' 9<\"$FILE\"";
    let mut terminal = Command::new("script")
        .args(["-qec", script, "/dev/null"])
        .envs([("COMMAND", &command), ("FILE", &path)])
        .env("LINKS", &links)
        .env("SHELL", "/bin/sh")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut keyboard = terminal.stdin.take().unwrap();
    let mut screen = BufReader::new(terminal.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert_eq!(screen.next().unwrap(), "ready");
    let init = until("pid 1 becomes garth-init", || {
        let mut tree = vec![terminal.id()];
        while !tree.is_empty() {
            tree = tree.into_iter().flat_map(children).collect();
            if let Some(init) = tree.iter().find(|pid| runs(**pid, "garth-init")) {
                return Some(*init);
            }
        }
        None
    });
    // While init is stopped the command handles the first, so that a second would be noticed.
    kill("STOP", init);
    keyboard.write_all(b"\x03").unwrap();
    assert_eq!(screen.next().unwrap().trim_start_matches("^C"), "int");
    kill("CONT", init);
    kill("USR1", init);
    assert_eq!(screen.next().unwrap(), "end");
    terminal.wait().unwrap();
    fs::remove_dir_all(links).unwrap();
}

#[test]
fn the_output_ends_when_the_command_closes_it() {
    let Some(mut sandbox) = Sandbox::start("echo out; exec sleep 60 >&- 2>&-") else { return };
    // The stand-in for Garth holds nothing either: unshare holds the pipe while it waits, so look
    // inside.
    let open = || fs::read_dir(format!("/proc/{}/fd", sandbox.init)).unwrap().count();
    until("init closes all", || (open() == 0).then_some(()));
    assert_eq!(sandbox.lines().next().unwrap(), "out");
}

#[test]
fn init_is_small() {
    let Some(sandbox) = Sandbox::start("exec sleep 60") else { return };
    let field = |text: &str, name: &str| -> u32 {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or("0 0");
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    let status = fs::read_to_string(format!("/proc/{}/status", sandbox.init)).unwrap();
    let smaps = fs::read_to_string(format!("/proc/{}/smaps_rollup", sandbox.init)).unwrap();
    let (rss, table) = (field(&status, "VmRSS:"), field(&status, "VmPTE:"));
    println!(
        "VmRSS {rss} kB, private {} kB, page tables {table} kB",
        field(&smaps, "Private_Dirty:")
    );
    assert!(rss < 100, "{status}");
}

#[test]
fn init_is_closed_to_its_own_user() {
    if !is_root() {
        return garth_needs::skip("root", "root, to become another user");
    }
    let Some(sandbox) = Sandbox::start_as(NOBODY, "exec sleep 60") else { return };
    let command = sandbox.command("sleep");
    let read = |pid: u32, file: &str| {
        let mut head = Command::new(NOBODY[0]);
        head.args(&NOBODY[1..]).args(["head", "-c1"]).arg(format!("/proc/{pid}/{file}"));
        let output = head.output().unwrap();
        (output.status.success(), String::from_utf8(output.stderr).unwrap())
    };
    // What holds for pid 1 but not for the command is due to the file's mode.
    assert!(read(command, "auxv").0);
    for file in ["mem", "environ", "auxv", "maps", "exe"] {
        let (success, message) = read(sandbox.init, file);
        assert!(!success && message.contains("Permission denied"), "{file}: {message}");
    }
}

#[test]
fn the_file_cannot_be_changed() {
    let file = sealed().unwrap();
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let mut file = fs::File::from(file);
    for result in [file.write_all(b"x"), file.set_len(0), file.set_len(1 << 20)] {
        assert_eq!(result.unwrap_err().raw_os_error(), Some(libc::EPERM));
    }
    // Whether its mode can be changed depends on the kernel (F_SEAL_EXEC, Linux 6.3).
    let chmod = fs::set_permissions(&path, fs::Permissions::from_mode(0o666));
    println!("chmod 666: {chmod:?}");

    // Nor through the process that runs it: not while it runs, and the seals hold afterwards.
    let Some(sandbox) = Sandbox::start("exec sleep 60") else { return };
    let exe = fs::OpenOptions::new().write(true).open(format!("/proc/{}/exe", sandbox.init));
    let error = exe.unwrap_err().raw_os_error();
    assert!(matches!(error, Some(libc::ETXTBSY | libc::EACCES)), "{error:?}");
}

#[test]
fn wrong_arguments_are_our_own_failure() {
    let file = sealed().unwrap();
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    for (name, args) in [
        ("garth-init", &[][..]),
        ("garth-init", &["0"]),
        ("garth-init", &["-1"]),
        ("garth-init", &["1x"]),
        ("garth-init", &["4294967297"]),
        ("garth-init", &["2147483647"]), // not our child
        ("garth-other", &["1"]),
        ("", &[]),
    ] {
        let status = Command::new(&path).arg0(name).args(args).status().unwrap();
        assert_eq!(status.code(), Some(125), "{name} {args:?}");
    }
    let file = keeper::sealed().unwrap();
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    for args in [&[][..], &["1"], &["1", "3", "-", "-", "-", "0", "0", "-", "-", "-", "sh"]] {
        let status = Command::new(&path).arg0("garth-keeper").args(args).status().unwrap();
        assert_eq!(status.code(), Some(125), "{args:?}");
    }
}

/// A shell with the keeper as its parent, which then becomes a shell that runs `cleanup`.
struct Keeper {
    process: Child,
    stdout: BufReader<ChildStdout>,
    links: PathBuf,
}

/// Things a keeper needs descriptors of, which a shell cannot open.
const START: &str = "
import os, signal, sys
keeper, script, cleanup, dir = sys.argv[1:]
pipes = [os.pipe() for _ in '12']
child = os.fork()
if child == 0:
    os.dup2(pipes[1][1], 2)
    os.execvp('sh', ['sh', '-c', script])
for reader, writer in pipes:
    os.close(writer)
    os.set_blocking(reader, False)
signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
first, shell, dir = os.pidfd_open(child), os.open('/bin/sh', os.O_RDONLY), os.open(dir, os.O_RDONLY)
outputs = [reader for reader, _ in pipes]
for fd in [first, shell, dir] + outputs:
    os.set_inheritable(fd, True)
words = [str(word) for word in [first, first] + outputs + [dir, 65536, 2, '-', '-', '-', shell]]
os.execv(keeper, [keeper] + words + ['sh', '-c', cleanup, '_', str(child)])
";

impl Keeper {
    fn start(script: &str, cleanup: &str) -> Keeper {
        let links = links();
        let mut process = Command::new("sh")
            .args(["-c", "exec 9<&0 </dev/null; exec python3 -c \"$@\"", "_", START])
            .arg(links.join("garth-keeper"))
            .args([script, cleanup])
            .arg(&links)
            .env("COLOUR", "green")
            .stdin(keeper::sealed().unwrap())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(process.stdout.take().unwrap());
        let mut keeper = Keeper { process, stdout, links };
        assert_eq!(keeper.line(), "ready\n");
        until("it becomes the keeper", || runs(keeper.process.id(), "garth-keeper").then_some(()));
        keeper
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        line
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.process.wait().unwrap();
        fs::remove_dir_all(&self.links).unwrap();
    }
}

/// How a shell reports a child that has ended, in its own words: one that waits for a child of its
/// own may reap this one too.
const REAP: &str = "while read -r word rest; do
        case $word in State:) echo \"$rest\"; esac
    done </proc/$1/status
    echo $COLOUR";

#[test]
fn the_keeper_leaves_the_child_to_its_successor_with_its_environment() {
    let mut keeper = Keeper::start(&format!("trap 'exit 9' TERM; echo ready; {LOOP}"), REAP);
    kill("TERM", keeper.process.id());
    assert_eq!(keeper.line(), "Z (zombie)\n");
    assert_eq!(keeper.line(), "green\n");
}

#[test]
fn the_keeper_outlives_its_terminal_and_forwards_sigterm() {
    let script = format!("trap 'exit 9' TERM; echo ready; {LOOP}");
    let mut keeper = Keeper::start(&script, "exec grep SigBlk /proc/self/status");
    for signal in ["HUP", "INT", "QUIT", "USR1", "TERM"] {
        kill(signal, keeper.process.id());
    }
    assert_eq!(keeper.line(), "SigBlk:\t0000000000000000\n");
}

#[test]
fn the_keeper_keeps_the_last_of_the_output_and_no_more() {
    let script = "echo ready; i=0; while [ $i -lt 20000 ]; do i=$((i+1)); echo line $i >&2; done";
    let mut keeper = Keeper::start(script, "echo done");
    assert_eq!(keeper.line(), "done\n");
    let read = |name: &str| fs::read_to_string(keeper.links.join(name)).unwrap();
    let (new, old) = (read("log"), read("log.1"));
    // With no more than one line beyond it.
    assert!(
        new.len() < 65600 && (65536..65600).contains(&old.len()),
        "{} {}",
        new.len(),
        old.len()
    );
    assert!(new.ends_with(" stderr F line 20000\n"), "{new}");
    assert!(!keeper.links.join("log.2").exists());
}
