//! One program in a container: its first, or one that joined it. From the request to its end.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use containerd_shim_protos::api::Status;
use garth::config::oci::Process as Wanted;
use garth::sys::pidfd;
use garth::{Ended, Error, Process, Terminal};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;

use crate::message::locked;
use crate::status::{Answer, failed, not_found, not_now};
use crate::stdio::{Ends, Opened, Stdio};
use crate::watched::watched;

/// How long it may take until the end of a process is known.
const KNOWN: Duration = Duration::from_secs(2);

/// How and when a program ended.
#[derive(Clone, Copy, Debug)]
pub struct End {
    /// Its exit code, or 128 and the signal.
    pub status: u32,
    /// When it was noticed.
    pub at: SystemTime,
}

impl End {
    /// Now.
    pub fn now(ended: Ended) -> End {
        let status = match ended {
            Ended::Exited(code) => code as u32,
            Ended::Killed(signal) => 128 + signal as u32,
        };
        End { status, at: SystemTime::now() }
    }
}

/// A program.
#[derive(Debug)]
pub struct Program {
    /// Empty for the container's first.
    pub exec_id: String,
    /// What the engine named.
    pub stdio: Stdio,
    /// What is to be executed; `None`: the container's own.
    pub wanted: Option<Wanted>,
    /// Held while it is started: what happens to it afterwards is reported afterwards.
    pub starting: tokio::sync::Mutex<()>,
    now: Mutex<Now>,
    end: watch::Sender<Option<End>>,
}

#[derive(Debug, Default)]
struct Now {
    /// The engine has closed its input, perhaps before it was started.
    input_is_closed: bool,
    pid: i32,
    pidfd: Option<OwnedFd>,
    started: bool,
    ends: Option<Arc<Ends>>,
}

impl Program {
    /// One that does not run yet.
    pub fn new(exec_id: String, stdio: Stdio, wanted: Option<Wanted>) -> Program {
        let (starting, now) = (tokio::sync::Mutex::default(), Mutex::default());
        Program { exec_id, stdio, wanted, starting, now, end: watch::Sender::new(None) }
    }

    fn now(&self) -> MutexGuard<'_, Now> {
        locked(&self.now)
    }

    /// It has a process. The result is readable once that has ended.
    ///
    /// # Errors
    /// Something of it cannot be watched, for lack of descriptors; then it has none.
    pub fn has(
        &self,
        process: &Process,
        opened: Opened,
        terminal: Option<Terminal>,
    ) -> garth::Result<AsyncFd<OwnedFd>> {
        let failed = |error: std::io::Error| Error::io("watch a process", &error);
        let pidfd = process.pidfd().try_clone_to_owned().map_err(failed)?;
        let end = pidfd.try_clone().and_then(|pidfd| watched(pidfd, Interest::READABLE));
        let end = end.map_err(failed)?;
        let ends = opened.begin(terminal)?;
        let mut now = self.now();
        if now.input_is_closed {
            ends.close_input();
        }
        (now.pid, now.pidfd, now.ends) = (process.pid(), Some(pidfd), Some(Arc::new(ends)));
        Ok(end)
    }

    /// It executes what it should.
    pub fn has_started(&self) {
        self.now().started = true;
    }

    /// Its process id; 0: it has none yet.
    pub fn pid(&self) -> i32 {
        self.now().pid
    }

    /// The shim's ends of its files.
    pub fn ends(&self) -> Option<Arc<Ends>> {
        self.now().ends.clone()
    }

    /// Whether its input has been closed.
    pub fn input_is_closed(&self) -> bool {
        self.now().input_is_closed
    }

    /// Its input ends once the engine has closed its own end.
    pub fn close_input(&self) {
        let ends = {
            let mut now = self.now();
            now.input_is_closed = true;
            now.ends.clone()
        };
        if let Some(ends) = ends {
            ends.close_input();
        }
    }

    /// How it ended.
    pub fn end(&self) -> Option<End> {
        *self.end.borrow()
    }

    /// It has ended.
    pub fn has_ended(&self, end: End) {
        self.now().pidfd = None;
        self.end.send_replace(Some(end));
    }

    /// Until it has ended.
    pub async fn wait(&self) -> End {
        let mut end = self.end.subscribe();
        let ended = end.wait_for(Option::is_some).await.map(|end| *end).ok().flatten();
        // The sender is in self.
        ended.unwrap_or(End { status: 255, at: SystemTime::now() })
    }

    /// Until it is known how it ended: its process has ended, or is about to. Who asks for its state next is told, as
    /// engines delete what has stopped. Not for long, should it live after all.
    pub async fn await_end(&self) {
        let _ = tokio::time::timeout(KNOWN, self.wait()).await;
    }

    /// Its state, without whether it is paused.
    pub fn status(&self) -> Status {
        match (self.end(), self.now().started) {
            (Some(_), _) => Status::STOPPED,
            (None, true) => Status::RUNNING,
            (None, false) => Status::CREATED,
        }
    }

    /// Whether it runs: its process has not ended.
    pub fn lives(&self) -> bool {
        self.pid() > 0 && self.end().is_none()
    }

    /// Sends a signal to its process alone.
    ///
    /// # Errors
    /// It has ended, or was not started.
    pub fn signal(&self, signal: i32) -> Answer<()> {
        let now = self.now();
        let Some(pidfd) = &now.pidfd else {
            return Err(match self.end() {
                Some(_) => finished(),
                None => not_now(format_args!("exec {} has not been started", self.exec_id)),
            });
        };
        match pidfd::send_signal(pidfd.as_fd(), signal) {
            Ok(()) => Ok(()),
            Err(errno) if errno.0 == rustix::io::Errno::SRCH.raw_os_error() => Err(finished()),
            Err(errno) => Err(failed("kill", &Error::os(format!("send signal {signal}"), errno))),
        }
    }
}

/// It has ended already.
pub fn finished() -> containerd_shim_protos::ttrpc::Error {
    not_found("process already finished")
}
