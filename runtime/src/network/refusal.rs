//! The kernel's refusals as error messages.

use crate::error::{Error, Result};
use crate::sys::Errno;
use crate::sys::netlink::{Family, Refusal, Socket};

pub fn route_socket() -> Result<Socket> {
    Socket::open(Family::Route).map_err(|errno| Error::os("open rtnetlink", errno))
}

/// `create the link garth0ae70001: the kernel's words: EEXIST (File exists)`.
pub fn plain(refusal: Refusal, object: &str) -> Error {
    let Refusal { doing, errno, text, .. } = refusal;
    match text {
        Some(text) => Error::os(format!("{doing}{object}: {text}"), errno),
        None => Error::os(format!("{doing}{object}"), errno),
    }
}

/// The same, with what a private network needs.
pub fn worded(refusal: Refusal, object: &str) -> Error {
    let error = plain(refusal, object);
    match error.errno() {
        Some(Errno(libc::EPERM | libc::EACCES)) => {
            error.hint("a private network needs CAP_NET_ADMIN")
        }
        _ => error,
    }
}

pub fn refused(refusal: Refusal) -> Error {
    worded(refusal, " in nftables table inet garth")
}
