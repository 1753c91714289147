//! `start`: a new shim, or the one that a pod has already, and where it serves.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, DirBuilder, File};
use std::io::ErrorKind;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use garth::cgroup::Hierarchy;
use garth::sys::file::copy_from;
use garth::{Error, FileAction, Group, Process, Result, Spawn, Stdio};
use rustix::fs::FlockOperation;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::bootstrap::Bootstrap;
use crate::flags::Flags;
use crate::message;

/// Where shims serve; short, as the path of a socket has room for 107 bytes, two of which it has while it is new.
const SOCKETS: &str = "/run/containerd/s";
const LONGEST: usize = 105;
/// Containers with the same value of one of these share a shim.
const GROUPS: [&str; 2] = ["io.containerd.runc.v2.group", "io.kubernetes.cri.sandbox-id"];
/// Where the new shim finds its listening socket.
pub const LISTENER: i32 = 3;
/// The variable with its path.
pub const SOCKET: &str = "GARTH_SHIM_SOCKET";
/// The variable with the process id of who has called `start`.
pub const CALLER: &str = "GARTH_SHIM_CALLER";

/// Prints the address of a shim for the container whose bundle is the current directory.
///
/// # Errors
/// What containerd has said cannot be understood, or no shim can be started; then none is left.
pub fn start(flags: &Flags) -> Result<()> {
    let bootstrap = Bootstrap::read(&message::input()?, flags, |name| std::env::var(name).ok())?;
    let bundle = std::env::current_dir().map_err(|error| Error::io("find the bundle", &error))?;
    let group = group(&bundle)?.unwrap_or_else(|| flags.id.clone());
    let directory = PathBuf::from(bootstrap.socket_dir.as_deref().unwrap_or(SOCKETS));
    let socket = Socket::of(&directory, &[&flags.address, &flags.namespace, &group])?;
    let address = format!("unix://{}", socket.path.display());
    let answer = bootstrap.answer.bytes(&address)?;
    let shim = match socket.listen()? {
        Some(listener) => Some(launch(flags, &bootstrap, &socket.path, &listener)?),
        // The pod's shim serves there.
        None => None,
    };
    let told = replace(&bundle.join("address"), address.as_bytes())
        .and_then(|()| match &shim {
            Some(shim) => replace(&bundle.join("shim.pid"), shim.pid().to_string().as_bytes()),
            None => Ok(()),
        })
        .and_then(|()| message::answer(&answer));
    if let (Err(_), Some(shim)) = (&told, &shim) {
        shim.kill();
        let _ = fs::remove_file(&socket.path);
    }
    told
}

/// The group that a container's configuration names.
fn group(bundle: &Path) -> Result<Option<String>> {
    #[derive(Deserialize)]
    struct Config {
        #[serde(default)]
        annotations: Option<BTreeMap<String, String>>,
    }
    let file = bundle.join("config.json");
    let text = fs::read(&file).map_err(|error| {
        let failed = Error::io(format!("read {}", file.display()), &error);
        match error.kind() {
            ErrorKind::NotFound => failed.hint(
                "containerd writes one for each container, but none for a pod whose sandboxer is \"shim\": pods need \"podsandbox\", its default",
            ),
            _ => failed,
        }
    })?;
    let config: Config = serde_json::from_slice(&text)
        .map_err(|error| Error::new(format!("read {}", file.display())).because(error))?;
    let annotations = config.annotations.unwrap_or_default();
    Ok(GROUPS.iter().find_map(|name| annotations.get(*name).cloned()))
}

/// A place for a socket.
struct Socket {
    directory: File,
    path: PathBuf,
}

impl Socket {
    /// The one that belongs to these words.
    fn of(directory: &Path, words: &[&str]) -> Result<Socket> {
        let failed =
            |error: &std::io::Error| Error::io(format!("make {}", directory.display()), error);
        match DirBuilder::new().recursive(true).mode(0o711).create(directory) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(failed(&error)),
            _ => {}
        }
        let hash = Sha256::digest(words.join("\0"));
        let name: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        let path = directory.join(name);
        if path.as_os_str().len() > LONGEST {
            return Err(Error::new(format!(
                "socket {}: longer than {LONGEST} bytes",
                path.display()
            ))
            .hint("containerd's socket directory must be shorter"));
        }
        let directory = File::open(directory).map_err(|error| failed(&error))?;
        Ok(Socket { directory, path })
    }

    /// Listens there. `None`: another shim does.
    fn listen(&self) -> Result<Option<UnixListener>> {
        let failed =
            |error: &std::io::Error| Error::io(format!("listen at {}", self.path.display()), error);
        // One after the other: what nobody serves at is removed.
        rustix::fs::flock(&self.directory, FlockOperation::LockExclusive)
            .map_err(|errno| failed(&errno.into()))?;
        if UnixStream::connect(&self.path).is_ok() {
            return Ok(None);
        }
        // It appears when it can be connected to.
        let new = self.path.with_extension("n");
        let _ = fs::remove_file(&new);
        let listener = UnixListener::bind(&new).map_err(|error| failed(&error))?;
        fs::set_permissions(&new, fs::Permissions::from_mode(0o600))
            .map_err(|error| failed(&error))?;
        fs::rename(&new, &self.path).map_err(|error| failed(&error))?;
        Ok(Some(listener))
    }
}

fn launch(
    flags: &Flags,
    bootstrap: &Bootstrap,
    socket: &Path,
    listener: &UnixListener,
) -> Result<Process> {
    let far = copy_from(listener.as_fd(), LISTENER + 1)
        .map_err(|errno| Error::os("copy a descriptor", errno))?;
    let mut words: Vec<OsString> = vec!["/proc/self/exe".into()];
    for (name, value) in
        [("-namespace", &flags.namespace), ("-id", &flags.id), ("-address", &flags.address)]
    {
        words.extend([name.into(), value.into()]);
    }
    if flags.debug {
        words.push("-debug".into());
    }
    let own = ["TTRPC_ADDRESS", SOCKET, CALLER];
    let env = std::env::vars_os().filter(|(name, _)| !own.iter().any(|own| name == own));
    let caller = std::os::unix::process::parent_id().to_string();
    let values = [OsString::from(&bootstrap.events), socket.into(), caller.into()];
    let own = own.map(OsString::from).into_iter().zip(values);
    let spawn = Spawn {
        arg0: std::env::args_os().next(),
        env: Some(env.chain(own).collect()),
        stdin: Stdio::Null,
        stdout: Stdio::Null,
        stderr: Stdio::Null,
        files: vec![FileAction::Copy { from: far.as_raw_fd(), to: LISTENER }],
        group: Group::Process(0),
        ..Spawn::new(words)
    };
    let process = spawn.spawn().map_err(|error| error.within("start the shim"))?.process;
    let settled = settle(&process, &bootstrap.options.shim_cgroup);
    if settled.is_err() {
        process.kill();
        let _ = fs::remove_file(socket);
    }
    settled.map(|()| process)
}

/// Its cgroup, and its place among those that are killed for lack of memory: before containers, after containerd.
fn settle(process: &Process, cgroup: &str) -> Result<()> {
    if !cgroup.is_empty() {
        join(process.pid(), cgroup)?;
    }
    let own = fs::read_to_string("/proc/self/oom_score_adj").unwrap_or_default();
    let score = own.trim().parse::<i32>().unwrap_or(0).saturating_add(1).min(1000);
    let file = format!("/proc/{}/oom_score_adj", process.pid());
    fs::write(&file, score.to_string()).map_err(|error| Error::io(format!("write {file}"), &error))
}

fn join(pid: i32, cgroup: &str) -> Result<()> {
    let mut found = false;
    for mount in Hierarchy::read()?.mounts {
        let directory = Path::new(&mount.point).join(cgroup.trim_start_matches('/'));
        if !directory.exists() {
            continue;
        }
        let file = directory.join("cgroup.procs");
        fs::write(&file, pid.to_string())
            .map_err(|error| Error::io(format!("ShimCgroup: write {}", file.display()), &error))?;
        found = true;
    }
    match found {
        true => Ok(()),
        false => Err(Error::new(format!("ShimCgroup {cgroup}: no such cgroup"))),
    }
}

fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let new = path.with_extension("new");
    let written = fs::write(&new, bytes).and_then(|()| fs::rename(&new, path));
    written.map_err(|error| Error::io(format!("write {}", path.display()), &error))
}
