//! Errors, as containerd understands them: a code that it decides by, and words that users see in `kubectl describe pod`.

use std::fmt::Display;

use containerd_shim_protos::ttrpc;
use garth::{Error, Kind};
use rustix::io::Errno;
pub use ttrpc::Code;

/// What a call returns.
pub type Answer<T> = ttrpc::Result<T>;

/// A failure with a code; in one line, whatever it quotes.
pub fn status(code: Code, message: impl Display) -> ttrpc::Error {
    let line = message.to_string().replace(char::is_control, " ");
    ttrpc::Error::RpcStatus(ttrpc::get_status(code, line))
}

/// There is no such container, or no such process in it.
pub fn not_found(what: impl Display) -> ttrpc::Error {
    status(Code::NOT_FOUND, format_args!("{what}: not found"))
}

/// The container is in another state than the call needs.
pub fn not_now(why: impl Display) -> ttrpc::Error {
    status(Code::FAILED_PRECONDITION, why)
}

/// What the request says cannot be understood.
pub fn invalid(why: impl Display) -> ttrpc::Error {
    status(Code::INVALID_ARGUMENT, why)
}

/// An operation on a container failed. Engines find the reason by the runtime's words.
pub fn failed(doing: &str, error: &Error) -> ttrpc::Error {
    let code = match error.get_kind() {
        Kind::WrongState => Code::FAILED_PRECONDITION,
        _ => Code::UNKNOWN,
    };
    failed_as(code, doing, error)
}

/// A file that a request names cannot be used.
pub fn unusable(doing: &str, error: &Error) -> ttrpc::Error {
    let code = match error.errno().map(|errno| Errno::from_raw_os_error(errno.0)) {
        Some(Errno::NOENT) => Code::NOT_FOUND,
        Some(Errno::ACCESS | Errno::PERM) => Code::PERMISSION_DENIED,
        // It is a file of another kind, or no name of a file.
        None
        | Some(
            Errno::ISDIR
            | Errno::NOTDIR
            | Errno::NXIO
            | Errno::LOOP
            | Errno::NAMETOOLONG
            | Errno::INVAL,
        ) => Code::INVALID_ARGUMENT,
        // It is not the file's fault.
        Some(_) => Code::UNKNOWN,
    };
    failed_as(code, doing, error)
}

/// A failure of an operation, with a code.
pub fn failed_as(code: Code, doing: &str, error: &Error) -> ttrpc::Error {
    let words = error.to_string();
    let failed = format!("{doing} failed: ");
    // Some of the runtime's words begin with the same.
    status(code, format_args!("{failed}{}", words.strip_prefix(&failed).unwrap_or(&words)))
}

/// The id is taken.
pub fn exists(what: impl Display) -> ttrpc::Error {
    status(Code::ALREADY_EXISTS, format_args!("{what}: already exists"))
}

/// Something that this runtime does not do.
pub fn unimplemented(what: impl Display) -> ttrpc::Error {
    status(Code::UNIMPLEMENTED, what)
}
