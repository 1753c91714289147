//! A terminal of its own for a command (`wrap -t`, `exec -t`, `attach`), in front of a real one.

use garth_tests::{Host, needs, until};

/// What the scripts below use: a program on a terminal, whose session it leads.
const TERMINAL: &str = r#"
import fcntl, os, pty, select, signal, struct, subprocess, sys, termios, time
GARTH = os.environ["GARTH"]

class Terminal:
    def __init__(self, words, output=None):
        self.master, self.side = os.openpty()
        self.resize(30, 100)
        self.before = termios.tcgetattr(self.side)
        self.seen = b""
        def begin():
            os.setsid()
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        self.program = subprocess.Popen([GARTH] + words, preexec_fn=begin,
            stdin=self.side, stdout=output or self.side, stderr=self.side)
        self.pid = self.program.pid

    def resize(self, rows, columns):
        fcntl.ioctl(self.side, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, keys):
        os.write(self.master, keys)

    def read(self, most=65536):
        assert select.select([self.master], [], [], 20)[0], (b"nothing comes", self.seen)
        return os.read(self.master, most)

    def until(self, what):
        while what not in self.seen:
            self.seen += self.read()
        before, self.seen = self.seen.split(what, 1)
        return before

    # Everything up to the program's end, and how it ended.
    def end(self):
        while self.program.poll() is None or select.select([self.master], [], [], 0)[0]:
            if select.select([self.master], [], [], 0.05)[0]:
                self.seen += os.read(self.master, 65536)
        return self.seen.decode().replace("\r\n", "\n"), self.program.returncode

    def is_raw(self):
        return termios.tcgetattr(self.side)[3] & termios.ICANON == 0

    def becomes(self, what, raw):
        end = time.time() + 20
        while self.is_raw() != raw:
            assert time.time() < end, what
            time.sleep(0.01)

    def is_restored(self):
        return termios.tcgetattr(self.side) == self.before

    # The terminal goes away, as when its window is closed.
    def hang_up(self):
        os.close(self.side)
        os.close(self.master)

def same(found, expected):
    assert found == expected, (found, expected)
"#;

/// Runs a script with a [`TERMINAL`]; it prints `done` at its end.
fn on_terminal(host: &Host, prefix: &str, script: &str) {
    host.write("/srv/script.py", &format!("{TERMINAL}\n{script}\nprint('done')\n"));
    let call = format!("cd /srv && exec {prefix} timeout 60 python3 /srv/script.py");
    assert_eq!(host.sh(&call).run().ok(), "done");
}

#[test]
fn the_command_leads_the_session_of_a_terminal_of_its_own() {
    needs!(root, "python3");
    let host = Host::new();
    let script = r#"
look = "tty; stty size; echo on tty >/dev/tty; id -u; stat -c %u /dev/pts/0; cut -d' ' -f6-8 /proc/self/stat"
for flags, leader, uid in [([], 2, 0), (["-u", "nobody"], 2, 65534), (["--as-pid-1"], 1, 0)]:
    for ask in ["-t", "-it"]:
        t = Terminal(["wrap", ask, *flags, "--", "sh", "-c", look + "; exit 7"])
        shown, code = t.end()
        lines = shown.splitlines()
        same(lines[:5], ["/dev/pts/0", "30 100", "on tty", str(uid), str(uid)])
        session, terminal, group = lines[5].split()
        same((session, group, code), (str(leader), str(leader), 7))
        assert int(terminal) >> 8 == 136, lines
        assert t.is_restored()
# Nothing of the caller's terminal is there.
t = Terminal(["wrap", "-t", "--as-pid-1", "--", "sh", "-c", "ls -1 /dev/pts; ls -l /proc/self/fd >/tmp/fds; grep -c pts/0 /tmp/fds; wc -l </tmp/fds"])
same(t.end(), ("0\nptmx\n2\n5\n", 0))
t = Terminal(["wrap", "-t", "--", "cut", "-d ", "-f6,7", "/proc/1/stat"])
same(t.end(), ("1 0\n", 0))
# The host's, where the sandbox has none of its own.
for flags in [[], ["-u", "nobody"]]:
    t = Terminal(["wrap", "-t", "--profile", "compat", *flags, "--", "test", "-t", "0"])
    same(t.end(), ("", 0))
"#;
    on_terminal(&host, "", script);
    host.assert_nothing_left();
}

#[test]
fn keys_mean_to_the_command_what_they_mean_on_its_own_terminal() {
    needs!(root, "python3", "bash");
    let host = Host::new();
    let script = r#"
# From the first moment on, also before our terminal is raw: bash waits for what it has started.
for turn in range(60):
    t = Terminal(["wrap", "-it", "--", "bash", "-c", "sleep 600; true"])
    time.sleep(turn / 1000)
    t.type(b"\x03")
    same(t.program.wait(20), -signal.SIGINT)
    assert t.is_restored()

t = Terminal(["wrap", "-it", "--", "sh", "-i"])
t.type(b"PS1=; echo re''ady\n")
t.until(b"ready\r")
t.type(b"cat\n"); t.until(b"cat\r")
t.type(b"word\n"); t.until(b"word\r\nword\r\n")
t.type(b"\x1a"); t.until(b"Stopped")
t.type(b"jobs\n"); t.until(b"Stopped")
t.type(b"fg\n"); t.until(b"fg\r\ncat\r\n")
t.type(b"again\n"); t.until(b"again\r\nagain\r\n")
t.type(b"\x04")
t.type(b"sleep 600; echo sta''tus=$?\n"); t.until(b"=$?")
time.sleep(0.3)
t.type(b"\x03"); t.type(b"echo sta''tus=$?\n"); t.until(b"status=130")
t.type(b"exit 4\n")
same(t.end()[1], 4)
assert t.is_restored()
"#;
    on_terminal(&host, "", script);
    host.assert_nothing_left();
}

#[test]
fn the_window_has_the_callers_size_and_follows_it() {
    needs!(root, "python3");
    let host = Host::new();
    let script = r#"
command = "trap 'stty size' WINCH; trap 'exit 3' TERM; stty size; while :; do sleep 0.01; done"
t = Terminal(["wrap", "-t", "--", "sh", "-c", command])
t.until(b"30 100")
t.resize(40, 120)
t.until(b"40 120")
# The size it has got while nothing was told to us.
os.kill(t.pid, signal.SIGSTOP)
os.waitpid(t.pid, os.WUNTRACED)
t.resize(50, 130)
os.kill(t.pid, signal.SIGCONT)
t.until(b"50 130")
t.program.terminate()
same(t.end()[1], 3)
"#;
    on_terminal(&host, "", script);
    host.assert_nothing_left();
}

#[test]
fn the_callers_terminal_is_given_back_as_it_was() {
    needs!(root, "python3");
    let host = Host::new();
    let script = r#"
for words, ended in [
    (["true"], 0), (["sh", "-c", "exit 3"], 3), (["sh", "-c", "kill -9 $$"], -9), (["sh", "-c", "stty raw -echo"], 0),
    (["/no/such/program"], 127), (["/etc/passwd"], 126),
]:
    t = Terminal(["wrap", "-it", "--"] + words)
    same(t.end()[1], ended)
    assert t.is_restored(), words
ready = ["sh", "-c", "echo re''ady; exec sleep 600"]
for number in [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1]:
    t = Terminal(["wrap", "-it", "--"] + ready)
    t.until(b"ready")
    t.becomes("raw", True)
    t.program.send_signal(number)
    same(t.end()[1], -number)
    assert t.is_restored(), number
# Stopped, it is the shell's; continued, ours again.
t = Terminal(["wrap", "-it", "--"] + ready)
t.until(b"ready")
for _ in range(3):
    t.becomes("raw", True)
    t.program.send_signal(signal.SIGTSTP)
    os.waitpid(t.pid, os.WUNTRACED)
    assert t.is_restored()
    t.program.send_signal(signal.SIGCONT)
t.becomes("raw again", True)
# What cannot be caught leaves it raw, and must not be taken for how it was.
t.program.send_signal(signal.SIGSTOP)
os.waitpid(t.pid, os.WUNTRACED)
t.program.send_signal(signal.SIGCONT)
t.program.terminate()
same(t.end()[1], -signal.SIGTERM)
assert t.is_restored()
"#;
    on_terminal(&host, "", script);
    host.assert_nothing_left();
}

/// A shell with job control, which starts Garth, and keys typed into it.
#[test]
fn as_a_job_of_a_shell_it_stops_and_continues() {
    needs!(root, "python3", "bash");
    let host = Host::new();
    let script = r#"
real, GARTH = GARTH, "bash"
t = Terminal(["--norc", "--noprofile", "-i"])
t.type(b"PS1=; set -m; echo re''ady\n"); t.until(b"ready\r")
# Started in the background it waits for its turn, and leaves the terminal alone.
t.type(real.encode() + b" wrap --name job -it -- sh -c 'echo fi''rst; read word; echo got $word; exit 5' &\n")
t.type(b"until jobs | grep -q Stopped; do sleep 0.05; done; echo wai''ts\n"); t.until(b"waits\r")
t.type(b"fg; echo co''de=$?\n"); t.until(b"first\r")
t.becomes("raw", True)
t.type(b"hello\n"); t.until(b"got hello\r")
t.until(b"code=5\r")
# Stopped from outside, the shell has the terminal.
t.type(real.encode() + b" wrap -it -- cat; echo sta''te=$?\n")
t.type(b"ab\n"); t.until(b"ab\r\nab\r\n")
pid = int(subprocess.check_output(["pgrep", "-n", "-f", "wrap -it -- cat"]))
os.kill(pid, signal.SIGTSTP)
t.until(b"state=")
t.type(b"echo in the sh''ell\n"); t.until(b"in the shell\r")
t.type(b"fg; echo sta''tus=$?\n")
t.becomes("raw", True)
t.type(b"cd\n"); t.until(b"cd\r\ncd\r\n")
t.type(b"\x04"); t.until(b"status=0\r")
t.type(b"exit\n")
same(t.end()[1], 0)
"#;
    on_terminal(&host, "", script);
    host.assert_nothing_left();
}

#[test]
fn a_hang_up_of_the_callers_terminal_is_one_of_the_commands() {
    needs!(root, "python3", "bash");
    let host = Host::new();
    host.sh("mkdir /srv/out").run().ok();
    let script = r#"
for words in [["sleep", "600"], ["sh", "-i"], ["sh", "-c", "cat; sleep 600"]]:
    t = Terminal(["wrap", "-it", "--name", "web", "--", *words])
    t.becomes("raw", True)
    t.hang_up()
    same(t.program.wait(20), -signal.SIGHUP)
# The same from below a shell, which leads the session.
real, GARTH = GARTH, "bash"
t = Terminal(["--norc", "--noprofile", "-ic", real + " wrap -it --name web -- sleep 600; true"])
t.becomes("raw", True)
t.hang_up()
t.program.wait(20)
GARTH = real
while subprocess.check_output([GARTH, "ps", "-q"]):
    time.sleep(0.01)
# It is told once, and its own affair what it does then. We wait for it, and do nothing else.
command = "trap 'echo HUP >>/srv/out/heard' HUP; echo re''ady; i=0; while [ $i -lt 100 ]; do sleep 0.01; i=$((i+1)); done; exit 5"
t = Terminal(["wrap", "-it", "--rw", "/srv/out", "--", "sh", "-c", command])
t.until(b"ready")
t.hang_up()
time.sleep(0.3)
ticks = lambda: sum(map(int, open(f"/proc/{t.pid}/stat").read().rsplit(")", 1)[1].split()[11:13]))
before = ticks()
time.sleep(0.3)
assert ticks() - before < 10, "it runs without end"
same(t.program.wait(20), 5)
same(open("/srv/out/heard").read(), "HUP\n")
"#;
    on_terminal(&host, "", script);
    host.assert_nothing_left();
}

#[test]
fn all_output_arrives_however_slow_its_reader_is() {
    needs!(root, "python3");
    let host = Host::new();
    let script = r#"
# Ten megabytes, and a reader that takes odd pieces and rests in between.
t = Terminal(["wrap", "-t", "--", "sh", "-c", "stty raw; seq 1 1400000; printf END"])
seen, turn = bytearray(), 0
while not seen.endswith(b"END"):
    seen += t.read(1 + turn * 7919 % 16384)
    turn += 1
    if turn % 100 == 0:
        time.sleep(0.002)
assert seen == b"".join(b"%d\n" % n for n in range(1, 1400001)) + b"END", len(seen)
same(t.end()[1], 0)
"#;
    on_terminal(&host, "", script);
    host.assert_nothing_left();
}

#[test]
fn output_waits_for_a_reader_that_comes_late_but_a_signal_does_not() {
    needs!(root, "python3");
    let host = Host::new();
    let script = r#"
# The command has ended long ago.
for size in [10, 4000, 5000, 12000, 60000]:
    t = Terminal(["wrap", "-t", "--", "sh", "-c", f"stty raw; head -c {size} /dev/zero | tr '\\0' x; printf END"])
    time.sleep(0.5)
    same(t.end(), ("x" * size + "END", 0))
# One that never reads does not keep us from a signal.
t = Terminal(["wrap", "-t", "--", "yes"])
time.sleep(0.5)
t.program.terminate()
time.sleep(0.3)
t.program.terminate()
same(t.program.wait(20), -signal.SIGTERM)
"#;
    on_terminal(&host, "", script);
    host.assert_nothing_left();
}

#[test]
fn output_to_a_pipe_has_plain_lines_and_ends_the_command_with_its_reader() {
    needs!(root, "python3");
    let host = Host::new();
    let script = r#"
reader, writer = os.pipe()
t = Terminal(["wrap", "-t", "--", "sh", "-c", "echo one; echo two"], output=writer)
os.close(writer)
same(t.end(), ("", 0))
same(os.read(reader, 100), b"one\ntwo\n")
reader, writer = os.pipe()
t = Terminal(["wrap", "-t", "--", "yes"], output=writer)
os.close(writer)
# The reader may write its lines to the terminal.
t.becomes("raw", True)
assert termios.tcgetattr(t.side)[1] & termios.OPOST
os.read(reader, 100)
os.close(reader)
same(t.end(), ("", -signal.SIGHUP))
assert t.is_restored()
"#;
    on_terminal(&host, "", script);
    host.assert_nothing_left();
}

#[test]
fn a_command_that_joins_a_sandbox_has_a_terminal_of_its_own() {
    needs!(root, "python3");
    let host = Host::new();
    host.garth("wrap -d --name web -- sleep 600").run().ok();
    let script = r#"
os.environ["TERM"] = "vt100"
look = "tty; stty size; echo $TERM; read word; echo got $word; exit 9"
first = Terminal(["exec", "-it", "web", "--", "sh", "-c", look])
same(first.until(b"100\r\n"), b"/dev/pts/0\r\n30 ")
second = Terminal(["exec", "-it", "-u", "nobody", "-e", "TERM=dumb", "web", "sh", "-c", look])
same(second.until(b"100\r\n"), b"/dev/pts/1\r\n30 ")
first.until(b"vt100\r"); second.until(b"dumb\r")
for t in [first, second]:
    t.type(b"word\n"); t.until(b"got word\r")
    same(t.end()[1], 9)
    assert t.is_restored()
t = Terminal(["exec", "-it", "web", "sleep", "500"])
t.becomes("raw", True); t.type(b"\x03")
same(t.end()[1], -signal.SIGINT)
t = Terminal(["exec", "-it", "web", "/no/such/program"])
same(t.end()[1], 127)
assert t.is_restored()
# Hung up, it goes, and the sandbox stays.
t = Terminal(["exec", "-it", "web", "sleep", "500"])
t.becomes("raw", True)
t.hang_up()
same(t.program.wait(20), -signal.SIGHUP)
same(subprocess.check_output([GARTH, "exec", "web", "pgrep", "-c", "sleep"]), b"1\n")
"#;
    on_terminal(&host, "", script);
    // Without -t, the terminal is the caller's.
    let said = host.garth("exec -i web -- cat").input("as it is").run().ok();
    assert_eq!(said, "as it is");
    host.garth("exec -t web -- true").run().refused(125, "the input device is not a TTY");
    host.garth("delete -f web").run().ok();
    host.assert_nothing_left();
}

#[test]
fn an_ordinary_user_has_terminals_too() {
    needs!(root, "python3", "setpriv", userns);
    let host = Host::new();
    host.sh("mkdir -m 777 /run/nobody").run().ok();
    let script = r#"
look = "tty; stty size; id -u; stat -c %u /dev/pts/0; exit 7"
t = Terminal(["wrap", "-it", "--", "sh", "-c", look])
same(t.end(), ("/dev/pts/0\n30 100\n65534\n65534\n", 7))
assert t.is_restored()
t = Terminal(["wrap", "-it", "--", "sh", "-i"])
t.type(b"PS1=; sleep 600; echo sta''tus=$?\n"); t.until(b"=$?")
time.sleep(0.3)
t.type(b"\x1a"); t.until(b"Stopped")
t.type(b"fg\n"); t.until(b"sleep 600\r"); time.sleep(0.3)
t.type(b"\x03"); t.type(b"exit 4\n")
same(t.end()[1], 4)
subprocess.check_output([GARTH, "wrap", "-d", "--name", "web", "--", "sleep", "600"])
t = Terminal(["exec", "-it", "web", "sh", "-c", look])
same(t.end(), ("/dev/pts/0\n30 100\n65534\n65534\n", 7))
subprocess.check_call([GARTH, "delete", "-f", "web"])
subprocess.check_output([GARTH, "wrap", "-dt", "--name", "web", "--", "sh", "-c", "read word; exit $word"])
t = Terminal(["attach", "web"])
t.type(b"6\n")
same(t.end()[1], 6)
subprocess.check_call([GARTH, "delete", "web"])
"#;
    // The user may not enter the directory of the program, if that is in root's home.
    host.sh("cp $GARTH /srv/garth").run().ok();
    let user = "env GARTH=/srv/garth XDG_RUNTIME_DIR=/run/nobody \
        setpriv --reuid 65534 --regid 65534 --clear-groups --";
    on_terminal(&host, user, script);
    host.sh("rm -r /run/nobody").run().ok();
    host.assert_nothing_left();
}

#[test]
fn without_a_terminal_input_is_passed_on_or_refused() {
    needs!(root);
    let host = Host::new();
    for flags in ["", "-i", "--interactive"] {
        let wrap = format!("wrap {flags} -- cat");
        assert_eq!(host.garth(&wrap).input("as\r\nit is").run().ok(), "as\r\nit is");
    }
    for flags in ["-t", "-it", "--tty"] {
        let wrap = format!("wrap {flags} --name web -- true");
        host.garth(&wrap).input("text").run().refused(125, "the input device is not a TTY");
    }
    host.garth("wrap -di -- cat").run().refused(125, "use -dt");
    assert!(host.garth("explain wrap -it -- true").run().ok().contains("allocate a terminal"));
    host.assert_nothing_left();
}

#[test]
fn a_detached_command_has_a_terminal_and_its_output_is_kept() {
    needs!(root);
    let host = Host::new();
    for flags in ["-dt", "-dit"] {
        let words = format!("wrap {flags} --name web --");
        // Its terminal may be out of use for a while.
        let script = "tty; exec >/dev/null 2>&1 </dev/null; sleep 0.2; \
            seq 1 100000 >/dev/tty; echo last >/dev/tty; exit 3";
        host.garth(&words).arg("sh").arg("-c").arg(script).run().ok();
        let ended = host.garth("wait web").run();
        assert!(ended.code == 3 && ended.stdout.ends_with("100000\n  last"), "{ended}");
        host.garth("delete web").run().ok();
    }
    let words = "wrap -dt --name web --log /srv/log -- seq 1 100000";
    host.garth(words).run().ok();
    assert_eq!(host.garth("wait web").run().code, 0);
    let all: String = (1..=100_000).map(|n| format!("{n}\n")).collect();
    assert!(host.read("/srv/log") == all);
    // A shell waits for keys, and is hung up with its sandbox.
    host.garth("wrap -dt --name shell -- sh").run().ok();
    let state = || host.garth("exec shell -- grep State /proc/2/status").run().ok();
    until("it sleeps", || state().contains("sleeping").then_some(()));
    host.garth("kill -s HUP shell").run().ok();
    assert_eq!(host.garth("wait shell").run().code, 129);
    host.garth("delete shell").run().ok();
    host.garth("delete web").run().ok();
    host.assert_nothing_left();
}

#[test]
fn a_terminal_is_attached_to_a_detached_sandbox_and_leaves_it_running() {
    needs!(root, "python3");
    let host = Host::new();
    let script = r#"
run = lambda *words: subprocess.check_output([GARTH, *words]).decode()
run("wrap", "-dt", "--name", "web", "--", "sh", "-i")
t = Terminal(["attach", "web"])
t.type(b"PS1=; echo re''ady\n"); t.until(b"ready\r\n")
t.type(b"stty size\n"); t.until(b"30 100\r")
t.resize(40, 120)
t.type(b"echo siz''ed; stty size\n"); t.until(b"sized\r\n40 120\r")
t.type(b"sleep 600; echo sta''tus=$?\n"); t.until(b"=$?")
time.sleep(0.3)
t.type(b"\x03"); t.type(b"echo sta''tus=$?\n"); t.until(b"status=130")
# One at a time.
shown, code = Terminal(["attach", "web"]).end()
assert code == 125 and "another terminal is attached to web" in shown, (shown, code)
# A key of the two alone is the command's.
t.type(b"cat -v\n"); t.until(b"cat -v\r"); time.sleep(0.3)
t.type(b"\x10"); t.type(b"x\n"); t.until(b"^Px\r\n^Px\r\n")
t.type(b"\x04echo left\n\x10\x11more")
shown, code = t.end()
assert code == 0 and "detached from web, which runs on\n" in shown, (shown, code)
assert t.is_restored()
# Others, and another terminal of another size.
t = Terminal(["attach", "--detach-keys", "ctrl-x,x", "web"])
t.type(b"echo aga''in; stty size\n"); t.until(b"again\r\n30 100\r")
t.type(b"\x18x")
same(t.end()[1], 0)
# A hang-up and signals detach it, and the command does not hear of them.
t = Terminal(["attach", "web"])
t.type(b"trap 'echo hea''rd' HUP TERM INT; echo tra''pped\n"); t.until(b"trapped\r")
t.hang_up()
same(t.program.wait(20), -signal.SIGHUP)
for number in [signal.SIGTERM, signal.SIGINT]:
    t = Terminal(["attach", "web"])
    t.becomes("raw", True)
    t.program.send_signal(number)
    same(t.end()[1], -number)
    assert t.is_restored()
same(run("ps", "-q"), "web\n")
# Nobody is attached: lines as they were written.
subprocess.check_call([GARTH, "exec", "web", "sh", "-c", "echo plain >/dev/pts/0"])
# Stopped and continued as a job; and the end is the command's.
t = Terminal(["attach", "web"])
t.becomes("raw", True)
t.program.send_signal(signal.SIGTSTP)
os.waitpid(t.pid, os.WUNTRACED)
assert t.is_restored()
t.program.send_signal(signal.SIGCONT)
t.becomes("raw again", True)
t.type(b"exit 7\n")
same(t.end()[1], 7)
assert t.is_restored()
log = run("logs", "web").splitlines()
for line in ["ready", "left", "again", "plain"]:
    assert line in log, (line, log)
assert "heard" not in log, log
# One that is killed.
run("wrap", "-dt", "--name", "web", "--", "sleep", "600")
t = Terminal(["attach", "web"])
t.becomes("raw", True)
run("kill", "web", "KILL")
same(t.end()[1], 137)
"#;
    on_terminal(&host, "", script);
    host.assert_nothing_left();
}

#[test]
fn an_attached_terminal_and_the_log_both_get_all_output() {
    needs!(root, "python3");
    let host = Host::with_services();
    let command = "read go; seq 1 200000; printf END; exit 5";
    host.write(
        "/srv/garth.toml",
        &format!("[service.web]\ntty = true\ncommand = [\"sh\", \"-c\", {command:?}]\n"),
    );
    let script = r#"
run = lambda *words: subprocess.check_output([GARTH, *words]).decode()
run("up", "-d", "-f", "/srv/garth.toml")
t = Terminal(["attach", "web"])
t.becomes("raw", True)
t.type(b"go\n")
seen, turn = bytearray(), 0
while not seen.endswith(b"END"):
    seen += t.read(1 + turn * 7919 % 16384)
    turn += 1
    if turn % 100 == 0:
        time.sleep(0.002)
lines = b"".join(b"%d\r\n" % n for n in range(1, 200001))
assert seen.endswith(b"go\r\n" + lines + b"END"), (len(seen), seen[:100])
same(t.end()[1], 5)
log = run("logs", "web").replace("\r", "")
assert log.endswith((lines.replace(b"\r", b"") + b"END\n").decode()), (len(log), log[-100:])
run("down", "--all")
# A terminal that does not go on does not keep a sandbox from its end, and misses nothing of it.
run("wrap", "-dt", "--name", "web", "--", "sh", "-c", "read go; seq 1 400000; sleep 600")
t = Terminal(["attach", "web"])
t.becomes("raw", True)
t.type(b"go\n")
t.until(b"go\r\n")
time.sleep(0.2)
t.program.send_signal(signal.SIGSTOP)
os.waitpid(t.pid, os.WUNTRACED)
time.sleep(0.5)
run("kill", "web", "KILL")
end = time.time() + 20
while run("ps", "-q"):
    assert time.time() < end, "it is still there"
    time.sleep(0.02)
t.program.send_signal(signal.SIGCONT)
shown, code = t.end()
same(code, 137)
lines = shown.splitlines()
same([int(line) for line in lines[:-1]], list(range(1, len(lines))))
# The log has no less and no more.
same(run("logs", "-n", "1", "web").strip(), lines[-1])
"#;
    on_terminal(&host, "", script);
    host.assert_nothing_left();
}

#[test]
fn what_has_no_terminal_to_lend_says_so() {
    needs!(root, "python3", "setpriv", userns);
    let host = Host::new();
    let script = r#"
def refused(words, text):
    shown, code = Terminal(["attach", *words]).end()
    assert code == 125 and text in shown, (words, shown, code)
run = lambda *words: subprocess.check_output([GARTH, *words]).decode()
run("wrap", "-d", "--name", "plain", "--", "sleep", "600")
refused(["plain"], "plain has no terminal")
refused(["none"], "no sandbox named none is running")
refused(["--detach-keys", "^P", "plain"], "no keys to detach by")
front = Terminal(["wrap", "-it", "--name", "front", "--", "cat"])
front.becomes("raw", True)
refused(["front"], "front was not started detached")
front.type(b"\x04"); same(front.end()[1], 0)
run("wrap", "-dt", "--name", "lost", "--", "sleep", "600")
refused_pipe = subprocess.run([GARTH, "attach", "lost"], stdin=subprocess.DEVNULL, capture_output=True)
assert b"not a TTY" in refused_pipe.stderr and refused_pipe.returncode == 125, refused_pipe
for name in ["plain", "lost"]:
    run("kill", name)
while run("ps", "-q"):
    time.sleep(0.01)
refused(["lost"], "no sandbox named lost is running")
"#;
    on_terminal(&host, "", script);
    host.assert_nothing_left();
}
