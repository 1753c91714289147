//! `delete`: what is left of a container whose shim is gone, or has just deleted it.

use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::SystemTime;

use containerd_shim_protos::api::DeleteResponse;
use containerd_shim_protos::protobuf::MessageField;
use garth::container::{self, Warn};
use garth::{Error, Journal, Result};

use crate::flags::Flags;
use crate::message::{self, timestamp};
use crate::options::Options;
use crate::rootfs;

/// 128 and SIGKILL.
const KILLED: u32 = 137;

/// Kills the container, releases what it had, and prints a DeleteResponse.
///
/// # Errors
/// Something cannot be released; what can be is.
pub fn delete(flags: &Flags) -> Result<()> {
    let bundle = match flags.bundle.as_os_str().is_empty() {
        true => std::env::current_dir().map_err(|error| Error::io("find the bundle", &error))?,
        false => flags.bundle.clone(),
    };
    let options = Options::of(&bundle)?;
    let journal = Journal::at(options.state(&flags.namespace)).containers();
    let pid = journal.process(&flags.id).ok().flatten().map_or(0, |process| process.pid);
    // Warnings would be taken for a failure.
    let deleted = container::delete(&journal, &flags.id, true, &Warn::default());
    let released = rootfs::release(&bundle);
    remove_socket(&bundle);
    deleted.and(released)?;
    let response = DeleteResponse {
        pid: pid as u32,
        exit_status: KILLED,
        exited_at: MessageField::some(timestamp(SystemTime::now())),
        ..DeleteResponse::default()
    };
    message::answer(&message::encoded(&response)?)
}

/// The socket of the shim, if nobody serves there any more.
fn remove_socket(bundle: &std::path::Path) {
    let Ok(address) = std::fs::read_to_string(bundle.join("address")) else { return };
    let Some(path) = address.trim().strip_prefix("unix://").map(PathBuf::from) else { return };
    if matches!(UnixStream::connect(&path), Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused)
    {
        let _ = std::fs::remove_file(path);
    }
}
