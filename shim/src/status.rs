//! Errors, as containerd understands them: a code that it decides by, and words that users see in `kubectl describe pod`.

use std::fmt::Display;

use containerd_shim_protos::ttrpc;
pub use ttrpc::Code;

/// What a call returns.
pub type Answer<T> = ttrpc::Result<T>;

/// A failure with a code.
pub fn status(code: Code, message: impl Display) -> ttrpc::Error {
    ttrpc::Error::RpcStatus(ttrpc::get_status(code, message.to_string()))
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
pub fn failed(doing: &str, error: &garth::Error) -> ttrpc::Error {
    status(Code::UNKNOWN, format_args!("{doing} failed: {error}"))
}

/// Something that this runtime does not do.
pub fn unimplemented(what: impl Display) -> ttrpc::Error {
    status(Code::UNIMPLEMENTED, what)
}
