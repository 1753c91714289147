//! The shim itself: it serves at the socket that `start` has made, until its last container is deleted.

use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener as StdListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use containerd_shim_protos::shim_async::create_task;
use containerd_shim_protos::ttrpc::r#async::transport::Listener;
use containerd_shim_protos::ttrpc::r#async::{MethodHandler, Server, Service, TtrpcContext};
use containerd_shim_protos::ttrpc::proto::{Request, Response};
use garth::sys::file::inherited;
use garth::sys::memory;
use garth::{Error, Result};
use rustix::process::PidfdFlags;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::{UnixListener, UnixStream};
use tokio::signal::unix::{SignalKind, signal};

use crate::events::Events;
use crate::flags::Flags;
use crate::launch::{CALLER, LISTENER, SOCKET};
use crate::log;
use crate::reaper::Reaper;
use crate::service::{Service as TaskService, Shim};
use crate::status::{Answer, invalid};
use crate::task::Shared;
use crate::watched::watched;

/// How long a shim without containers waits for one: containerd may have ended after `start`.
const IDLE: Duration = Duration::from_secs(60);
/// How long after something has happened a shim takes it that it will wait for long.
const QUIET: Duration = Duration::from_secs(1);
/// How long the answer to the last call may take to be read.
const LAST_WORDS: Duration = Duration::from_millis(50);

/// The names of the tasks' service; the messages are the same.
const SERVICES: [&str; 2] = ["containerd.task.v2.Task", "containerd.task.v3.Task"];

/// Serves.
///
/// # Errors
/// There is no socket, or something that a shim needs cannot be had.
pub fn serve(flags: &Flags) -> Result<()> {
    // Containers are started from this process.
    garth::protect_own_program()?;
    let bundle = std::env::current_dir().map_err(|error| Error::io("find the bundle", &error))?;
    log::open(&bundle, &flags.id, flags.debug);
    let socket = inherited(LISTENER).map_err(|errno| {
        Error::os("serve at descriptor 3", errno)
            .hint("containerd starts shims, with the verb start")
    })?;
    if std::env::var_os("SCHED_CORE").is_some() {
        let scope = rustix::thread::CoreSchedulingScope::ProcessGroup;
        rustix::thread::create_core_scheduling_cookie(rustix::process::getpid(), scope)
            .map_err(|errno| Error::io("SCHED_CORE: schedule apart from others", &errno.into()))?;
    }
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
        .map_err(|errno| Error::io("become the reaper of containers", &errno.into()))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build();
    let runtime = runtime.map_err(|error| Error::io("begin to serve", &error))?;
    let path = PathBuf::from(std::env::var_os(SOCKET).unwrap_or_default());
    runtime.block_on(at(flags, StdListener::from(socket), path))
}

/// The process that has called `start`: containerd, or a script that it takes for the shim.
fn caller() -> Option<AsyncFd<OwnedFd>> {
    let pid = std::env::var(CALLER).ok()?.parse().ok()?;
    let process =
        rustix::process::pidfd_open(rustix::process::Pid::from_raw(pid)?, PidfdFlags::empty());
    watched(process.ok()?, Interest::READABLE).ok()
}

/// Until it has ended; for ever, if it is not known.
async fn gone(caller: Option<&AsyncFd<OwnedFd>>) {
    match caller {
        Some(caller) => drop(caller.readable().await),
        None => std::future::pending().await,
    }
}

/// Whether containerd serves at this socket.
async fn serves(address: &str) -> bool {
    let connected = UnixStream::connect(address).await;
    let gone = [ErrorKind::NotFound, ErrorKind::ConnectionRefused];
    connected.map_or_else(|error| !gone.contains(&error.kind()), |_| true)
}

/// A call; of a request that cannot be decoded it says so. ttrpc's own answer would be UNKNOWN.
struct Understood {
    name: String,
    call: Box<dyn MethodHandler + Send + Sync>,
}

#[async_trait]
impl MethodHandler for Understood {
    async fn handler(&self, context: TtrpcContext, request: Request) -> Answer<Response> {
        let answer = self.call.handler(context, request).await;
        // What the call itself has to say is in the response.
        Ok(answer.unwrap_or_else(|error| {
            let words = error.to_string();
            let reason = words.rsplit_once("request error ").map_or(&*words, |(_, reason)| reason);
            invalid(format_args!("{}: the request cannot be decoded: {reason}", self.name)).into()
        }))
    }
}

fn understood(service: Service) -> Service {
    let understood = |(name, call): (String, _)| {
        let call = Understood { name: name.clone(), call };
        (name, Box::new(call) as Box<dyn MethodHandler + Send + Sync>)
    };
    let Service { methods, streams } = service;
    Service { methods: methods.into_iter().map(understood).collect(), streams }
}

async fn at(flags: &Flags, listener: StdListener, path: PathBuf) -> Result<()> {
    let failed = |error: std::io::Error| Error::io("serve", &error);
    listener.set_nonblocking(true).map_err(failed)?;
    let listener = UnixListener::from_std(listener).map_err(failed)?;
    let address = std::env::var("TTRPC_ADDRESS").unwrap_or_default();
    let (events, publisher) = Events::begin(address, flags.namespace.clone());
    let shared =
        Arc::new(Shared { namespace: flags.namespace.clone(), events, reaper: Reaper::default() });
    let shim = Arc::new(Shim::new(shared.clone(), path));
    let mut server = Server::new().add_listener(Listener::from(listener));
    for name in SERVICES {
        let service = create_task(Arc::new(TaskService(shim.clone())));
        let named = |calls| (name.to_owned(), understood(calls));
        server = server.register_service(service.into_values().map(named).collect());
    }
    let started = server.start().await;
    started.map_err(|error| Error::new("serve").because(error))?;
    let mut caller = caller();
    let mut children = signal(SignalKind::child()).map_err(failed)?;
    let mut idle = tokio::time::interval(IDLE);
    idle.tick().await;
    let mut was_idle = false;
    let quiet = tokio::time::sleep(QUIET);
    tokio::pin!(quiet);
    let mut is_quiet = false;
    loop {
        tokio::select! {
            () = shim.end.notified() => break,
            _ = children.recv() => shared.reaper.sweep(),
            () = shared.events.news() => {
                quiet.as_mut().reset(tokio::time::Instant::now() + QUIET);
                is_quiet = false;
            }
            () = &mut quiet, if !is_quiet => {
                memory::give_back();
                is_quiet = true;
            }
            () = gone(caller.as_ref()), if shim.is_new() => {
                caller = None;
                // The call may have come meanwhile, or come yet.
                if !shim.is_new() || serves(&flags.address).await {
                    continue;
                }
                log::warn("containerd has ended before there was a container: ends");
                let _ = std::fs::remove_file(&shim.socket);
                break;
            }
            _ = idle.tick() => {
                if was_idle && shim.is_idle() {
                    log::warn("no container for a while: ends");
                    let _ = std::fs::remove_file(&shim.socket);
                    break;
                }
                was_idle = shim.is_idle();
            }
        }
    }
    tokio::time::sleep(LAST_WORDS).await;
    drop((server, shim, shared));
    publisher.end().await;
    // What still runs, such as a copy to a reader that is gone, ends with the process.
    std::process::exit(0);
}
