//! The metrics on a socket, for Prometheus: HTTP, one request a connection, one connection at a time.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::{Duration, Instant};

use super::observer::Observer;
use super::open_metrics::{MEDIA_TYPE, open_metrics};
use crate::error::{Error, Result};
use crate::sys::process::{self, Signals};

/// How long a client may take, and how much it may ask.
const PATIENCE: Duration = Duration::from_secs(5);
const MOST: usize = 8 << 10;

/// Where metrics are served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAt {
    /// An address and port of this host.
    Address(String),
    /// A socket in the file system.
    Socket(PathBuf),
}

impl FromStr for ListenAt {
    type Err = Error;

    /// `127.0.0.1:9776`, `[::1]:9776`, or a path.
    fn from_str(text: &str) -> Result<ListenAt> {
        if text.contains('/') {
            return Ok(ListenAt::Socket(text.into()));
        }
        let port = text.rsplit_once(':').and_then(|(host, port)| {
            (!host.is_empty()).then(|| port.parse::<u16>().ok()).flatten()
        });
        port.map(|_| ListenAt::Address(text.to_owned())).ok_or_else(|| {
            Error::new(format!("{:?} is no place to listen", text.escape_debug().to_string()))
                .hint("an address and a port, such as 127.0.0.1:9776, or a path")
        })
    }
}

enum Listener {
    Address(TcpListener),
    Socket(UnixListener, PathBuf),
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Listener::Socket(_, path) = self {
            let _ = fs::remove_file(path);
        }
    }
}

impl Listener {
    fn open(place: &ListenAt) -> Result<Listener> {
        match place {
            ListenAt::Address(address) => {
                let failed = |error| Error::io(format!("listen at {address}"), &error);
                let all = address.to_socket_addrs().map_err(failed)?.collect::<Vec<_>>();
                TcpListener::bind(&all[..]).map(Listener::Address).map_err(failed)
            }
            ListenAt::Socket(path) => {
                let failed = |error| Error::io(format!("listen at {}", path.display()), &error);
                // One that nobody listens at any more was left by a kill.
                let is_socket = |path: &PathBuf| {
                    fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket())
                };
                if is_socket(path)
                    && UnixStream::connect(path)
                        .is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
                {
                    fs::remove_file(path).map_err(failed)?;
                }
                let listener = UnixListener::bind(path).map_err(failed)?;
                Ok(Listener::Socket(listener, path.clone()))
            }
        }
    }

    fn accept(&self) -> std::io::Result<Box<dyn Client>> {
        Ok(match self {
            Listener::Address(listener) => {
                let (client, _) = listener.accept()?;
                client.set_read_timeout(Some(PATIENCE))?;
                client.set_write_timeout(Some(PATIENCE))?;
                Box::new(client)
            }
            Listener::Socket(listener, _) => {
                let (client, _) = listener.accept()?;
                client.set_read_timeout(Some(PATIENCE))?;
                client.set_write_timeout(Some(PATIENCE))?;
                Box::new(client)
            }
        })
    }

    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Listener::Address(listener) => listener.as_fd(),
            Listener::Socket(listener, _) => listener.as_fd(),
        }
    }
}

trait Client: Read + Write {}
impl<T: Read + Write> Client for T {}

/// Serves the metrics until a signal asks to end. `ready` is told where, once connections are accepted.
///
/// # Errors
/// The place is taken, or cannot be listened at.
pub fn serve(
    observer: &mut Observer,
    place: &ListenAt,
    signals: &Signals,
    ready: impl FnOnce(&str),
) -> Result<()> {
    let listener = Listener::open(place)?;
    ready(&match &listener {
        Listener::Address(listener) => {
            let address = listener.local_addr();
            format!("http://{}/metrics", address.map_err(|e| Error::io("name the socket", &e))?)
        }
        Listener::Socket(_, path) => path.display().to_string(),
    });
    loop {
        let ready = process::readable([listener.as_fd(), signals.as_fd()], None);
        let [asked, signalled] = ready.map_err(|errno| Error::os("wait for a client", errno))?;
        if signalled && signals.ask_to_end() {
            return Ok(());
        }
        // A client that gives up is no reason to end.
        if asked && let Ok(mut client) = listener.accept() {
            let _ = answer(observer, &mut *client);
        }
    }
}

/// Reads one request and answers it.
fn answer(observer: &mut Observer, client: &mut dyn Client) -> std::io::Result<()> {
    let end = Instant::now() + PATIENCE;
    let (mut head, mut some) = (Vec::new(), [0; 1024]);
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        let count = client.read(&mut some)?;
        head.extend_from_slice(&some[..count]);
        if count == 0 || head.len() > MOST || Instant::now() > end {
            return Ok(());
        }
    }
    let line = String::from_utf8_lossy(&head);
    let mut words = line.split(' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let path = path.split('?').next().unwrap_or_default();
    let (status, kind, text) = match (method, path) {
        ("GET" | "HEAD", "/metrics") => match observer.look() {
            Ok(all) => ("200 OK", MEDIA_TYPE, open_metrics(&all)),
            Err(error) => ("500 Internal Server Error", "text/plain", format!("{error}\n")),
        },
        ("GET" | "HEAD", _) => ("404 Not Found", "text/plain", "it is at /metrics\n".into()),
        _ => ("405 Method Not Allowed", "text/plain", "only GET and HEAD\n".into()),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        text.len()
    );
    client.write_all(head.as_bytes())?;
    if method != "HEAD" {
        client.write_all(text.as_bytes())?;
    }
    client.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_an_address_with_a_port_or_a_path() {
        let place = |text: &str| text.parse::<ListenAt>();
        assert_eq!(place("[::1]:9776").unwrap(), ListenAt::Address("[::1]:9776".into()));
        assert_eq!(place("/run/x").unwrap(), ListenAt::Socket("/run/x".into()));
        for wrong in ["", "9776", ":9776", "localhost", "a:b", "a:70000"] {
            assert!(place(wrong).is_err(), "{wrong}");
        }
    }
}
