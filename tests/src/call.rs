//! Running a command on a test host: to its end ([`Call::run`]) or alongside the test
//! ([`Call::start`]).

use std::fmt;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use crate::{PATIENCE, children, kill, until};

/// A command to run on a test host.
pub struct Call {
    pub(crate) command: Command,
    input: String,
}

impl Call {
    pub(crate) fn new(command: Command) -> Call {
        Call { command, input: String::new() }
    }

    /// Adds an argument, which may contain spaces.
    pub fn arg(mut self, arg: &str) -> Call {
        self.command.arg(arg);
        self
    }

    /// `-- sh -c text`.
    pub fn script(self, text: &str) -> Call {
        self.arg("--").arg("sh").arg("-c").arg(text)
    }

    /// The command's input; empty by default.
    pub fn input(mut self, text: &str) -> Call {
        self.input = text.to_owned();
        self
    }

    /// Sets an environment variable.
    pub fn env(mut self, name: &str, value: &str) -> Call {
        self.command.env(name, value);
        self
    }

    /// Runs it to its end.
    pub fn run(self) -> Ran {
        self.start().wait()
    }

    /// Starts it.
    pub fn start(mut self) -> Running {
        let words = format!("{:?}", self.command.get_args().collect::<Vec<_>>());
        self.command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = self.command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        // It does not matter if a command does not read its input.
        let _ = stdin.write_all(self.input.as_bytes());
        let lines = lines_of(child.stdout.take().unwrap());
        let errors = lines_of(child.stderr.take().unwrap());
        Running { child, words, lines, errors, ended: false }
    }
}

/// The lines of a pipe as they arrive; the channel closes with the pipe.
fn lines_of(pipe: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).split(b'\n').map_while(Result::ok) {
            if sender.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                break;
            }
        }
    });
    receiver
}

/// A running command; killed when dropped.
pub struct Running {
    child: Child,
    words: String,
    lines: Receiver<String>,
    errors: Receiver<String>,
    ended: bool,
}

impl Running {
    /// The command's own pid, as the test sees it. (The test's child is nsenter(1), which stays
    /// alive.)
    pub fn pid(&self) -> u32 {
        until("nsenter has a child", || children(self.child.id()).first().copied())
    }

    /// Sends a signal to the command.
    pub fn signal(&self, signal: &str) {
        kill(signal, self.pid());
    }

    /// The next line of its output.
    pub fn line(&self) -> String {
        self.lines.recv_timeout(PATIENCE).unwrap_or_else(|error| {
            let errors: Vec<_> = self.errors.try_iter().collect();
            panic!("{}: no line of output ({error}); stderr: {errors:#?}", self.words)
        })
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits until stderr has a line with `text` in it, and returns it.
    pub fn error_line(&self, text: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.errors.recv_timeout(left) {
                Ok(line) if line.contains(text) => return line,
                Ok(_) => {}
                Err(error) => panic!("{}: no {text:?} on stderr: {error}", self.words),
            }
        }
    }

    /// Waits for its end, and for the end of its output: no process may keep that open.
    pub fn wait(mut self) -> Ran {
        let status = until(&format!("{} ends", self.words), || self.child.try_wait().unwrap());
        self.ended = true;
        let rest = |lines: &Receiver<String>| {
            let mut text = String::new();
            loop {
                match lines.recv_timeout(PATIENCE) {
                    Ok(line) => text = text + &line + "\n",
                    Err(RecvTimeoutError::Disconnected) => return text.trim_end().to_owned(),
                    Err(_) => panic!("{} has ended, but someone holds its output", self.words),
                }
            }
        };
        Ran {
            code: status.code().unwrap_or_else(|| -status.signal().unwrap()),
            stdout: rest(&self.lines),
            stderr: rest(&self.errors),
            words: self.words.clone(),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Do not kill nsenter itself: its child would go to pid 1, which may never reap it (in a
        // container pid 1 is often any program), and then no test host with that child could end.
        while !self.ended && !self.has_ended() {
            if let Some(pid) = children(self.child.id()).first() {
                kill("KILL", *pid);
                // It stops when its child does.
                kill("CONT", self.child.id());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// A command that has ended.
pub struct Ran {
    /// Its exit code; -n if signal n killed it.
    pub code: i32,
    /// Its output, without trailing white space.
    pub stdout: String,
    /// Its errors, without trailing white space.
    pub stderr: String,
    words: String,
}

impl Ran {
    /// Its output; it must have succeeded.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.code, 0, "{self}");
        self.stdout
    }

    /// Its errors; it must have ended with `code`.
    #[track_caller]
    pub fn fails(self, code: i32) -> String {
        assert_eq!(self.code, code, "{self}");
        self.stderr
    }

    /// An error of Garth itself: exit code `code` and one line that begins with `garth: ` and
    /// contains `text`.
    #[track_caller]
    pub fn refused(self, code: i32, text: &str) {
        assert_eq!(self.code, code, "{self}");
        assert!(self.stderr.starts_with("garth: "), "{self}");
        assert_eq!(self.stderr.lines().count(), 1, "{self}");
        assert!(self.stderr.contains(text), "{text:?} is not in it: {self}");
    }
}

impl fmt::Display for Ran {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Ran { code, stdout, stderr, words } = self;
        write!(f, "{words}\nexit code {code}\nstdout: {stdout}\nstderr: {stderr}")
    }
}
