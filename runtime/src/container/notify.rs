//! sd_notify(3) from inside: a container has a socket of its own, and `READY=` sent to it is passed
//! on to the caller's socket, as runc does. The service's main process is then the container's
//! first process, or the runtime where it waits for that to end.

use std::env;
use std::ffi::{CString, OsString};
use std::fs;
use std::io::{Error as IoError, ErrorKind};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::PathBuf;

use super::linux;
use crate::config::oci::{Config, Mount, NamespaceType};
use crate::error::{Error, Result};
use crate::journal::{Entry, Journal};
use crate::sys::raw::{self, MountAttr};
use crate::sys::{Errno, file, process};

/// The directory in a container's state directory that holds the socket.
const DIRECTORY: &str = "notify";
const SOCKET: &str = "notify.sock";
/// Where the directory appears inside.
const INSIDE: &str = "/run/notify";

/// Makes the directory, and tells the program about it, if the caller wants to be notified. The
/// socket exists once [`Notify::listen`] was called. With a user namespace, whose root may not
/// traverse the state directory, the mount is opened here: returns its index and the mount.
///
/// # Errors
/// The directory cannot be made.
pub fn offer(entry: &Entry, config: &mut Config) -> Result<Option<(usize, OwnedFd)>> {
    let there = |mount: &Mount| mount.destination.trim_end_matches('/') == INSIDE;
    // An engine may have set up its own.
    if caller().is_none() || config.mounts.iter().any(there) {
        return Ok(None);
    }
    let directory = entry.file(DIRECTORY);
    let made = fs::create_dir(&directory)
        .and_then(|()| fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)));
    made.map_err(|e| Error::io(format!("create {}", directory.display()), &e))?;
    let options = ["bind", "nosuid", "noexec", "nodev", "ro"].map(String::from).to_vec();
    config.mounts.push(Mount {
        destination: INSIDE.into(),
        kind: Some("bind".into()),
        source: Some(directory.to_string_lossy().into_owned()),
        options,
        ..Mount::default()
    });
    if let Some(program) = &mut config.process {
        program.env.retain(|pair| !pair.starts_with("NOTIFY_SOCKET="));
        program.env.push(format!("NOTIFY_SOCKET={INSIDE}/{SOCKET}"));
    }
    if linux(config).namespace(NamespaceType::User).is_none() {
        return Ok(None);
    }
    let failed = |errno| Error::os(format!("open {}", directory.display()), errno);
    let path =
        CString::new(directory.as_os_str().as_bytes()).map_err(|_| failed(Errno(libc::EINVAL)))?;
    match file::detached_copy(&path, false) {
        // The root of a user's namespace can traverse that user's own directory.
        Err(Errno(libc::EPERM)) => Ok(None),
        tree => {
            let tree = tree.map_err(failed)?;
            // What the container mounts there must not appear on the host.
            let attr = MountAttr { propagation: libc::MS_PRIVATE, ..MountAttr::default() };
            raw::mount_setattr(tree.as_raw_fd(), &attr, false).map_err(failed)?;
            Ok(Some((config.mounts.len() - 1, tree)))
        }
    }
}

/// The caller's socket.
fn caller() -> Option<OsString> {
    env::var_os("NOTIFY_SOCKET").filter(|path| !path.is_empty())
}

/// A container's socket, on the runtime's side.
#[derive(Debug)]
pub struct Notify {
    inside: UnixDatagram,
    caller: OsString,
}

impl Notify {
    /// The socket of a container about to be started; `None` if the caller does not want to be
    /// notified.
    ///
    /// # Errors
    /// The socket cannot be made.
    pub fn listen(journal: &Journal, id: &str) -> Result<Option<Notify>> {
        let Some(caller) = caller() else { return Ok(None) };
        let directory = journal.file(id, DIRECTORY);
        // By descriptor: the path may be longer than a socket address allows.
        let open = match fs::File::open(&directory) {
            // It was created without NOTIFY_SOCKET.
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            open => open.map_err(|e| Error::io(format!("open {}", directory.display()), &e))?,
        };
        let path = PathBuf::from(format!("/proc/self/fd/{}/{SOCKET}", open.as_raw_fd()));
        // Left by a start that was killed.
        let _ = fs::remove_file(&path);
        let made = UnixDatagram::bind(&path).and_then(|inside| {
            // Whatever user the program runs as.
            fs::set_permissions(&path, fs::Permissions::from_mode(0o777))?;
            Ok(inside)
        });
        let inside =
            made.map_err(|e| Error::io(format!("create {}/{SOCKET}", directory.display()), &e))?;
        Ok(Some(Notify { inside, caller }))
    }

    /// When the program says it is ready, passes that on with `main` as the main process and
    /// returns; also returns when the process behind `pidfd` has ended.
    ///
    /// # Errors
    /// The caller's socket does not accept the message.
    pub fn pass_on(&self, pidfd: impl AsFd, main: i32) -> Result<()> {
        let failed =
            |e: &IoError| Error::io(format!("notify NOTIFY_SOCKET {}", self.caller.display()), e);
        let mut message = [0; 4096];
        loop {
            let ready = process::readable([pidfd.as_fd(), self.inside.as_fd()], None);
            let [ended, said] = ready.map_err(|errno| Error::os("wait for READY=1", errno))?;
            if !said {
                match ended {
                    true => return Ok(()),
                    false => continue,
                }
            }
            let length = self.inside.recv(&mut message).map_err(|e| failed(&e))?;
            let mut lines = message[..length].split(|byte| *byte == b'\n');
            if let Some(line) = lines.find(|line| line.starts_with(b"READY=")) {
                let text = [line, format!("\nMAINPID={main}\n").as_bytes()].concat();
                return self.tell(&text).map_err(|e| failed(&e));
            }
        }
    }

    fn tell(&self, text: &[u8]) -> std::io::Result<()> {
        let socket = UnixDatagram::unbound()?;
        let address = match self.caller.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
            _ => SocketAddr::from_pathname(&self.caller)?,
        };
        socket.send_to_addr(text, &address).map(drop)
    }
}
